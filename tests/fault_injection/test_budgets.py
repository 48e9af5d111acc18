"""Budgets under `kill -9`, with a lost database and with two daemons: each crossing has one id."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from poller.core.budgets import Budget, BudgetKind, Period, Spent
from poller.store.admin import StoreAdmin
from poller.store.stored_costs import StoredCosts
from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, ProcessForker, process_forker, tally
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.state_losses import lose_all
from tests.support.run_checker import ReceivedEvent
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

ONCE: Final = "`kill -9` at a random moment: each threshold of a budget is reported, under one id"
LOST: Final = "with a lost database a threshold that was reported is reported under the same id"
SHARED: Final = "two daemons report a threshold under one id"
COST: Final = Decimal("0.0234")
JOBS_A_RUN: Final = 3
THRESHOLDS: Final = tuple(Decimal(part) for part in range(5, 105, 5))
CROSSED: Final = "budget.crossed"


def the_budgets(jobs: int) -> tuple[Budget, ...]:
    """Return budgets that so many jobs cross whole."""
    limit = COST * jobs
    return tuple(Budget(kind=kind, limit=limit, thresholds=THRESHOLDS) for kind in BudgetKind)


def a_setup(servers: FakeServers, folder: Path, jobs: int, **changes: str) -> dict[str, str]:
    """Return the environment of a daemon with these budgets."""
    daily, monthly = the_budgets(jobs)
    return environment(
        servers,
        folder,
        POLLER_BUDGET_DAILY=str(daily.limit),
        POLLER_BUDGET_MONTHLY=str(monthly.limit),
        POLLER_BUDGET_THRESHOLDS=",".join(map(str, THRESHOLDS)),
        TZ="UTC0",
        **changes,
    )


def fact(event: ReceivedEvent) -> tuple[str, str, float]:
    """Return what a crossing is about."""
    data = json.loads(event.body)["data"]
    return data["budget"], data["period"], data["threshold_percent"]


def expected(servers: FakeServers, jobs: int) -> set[tuple[str, str, float]]:
    """Return what all jobs cross by the times of their ends."""
    sums: Counter[tuple[Budget, str]] = Counter()
    budgets = the_budgets(jobs)
    for job in servers.jobs.values():
        ended_at = datetime.fromtimestamp(job.reached[2], UTC)
        for budget in budgets:
            sums[budget, Period.of(budget.kind, ended_at, UTC).name] += 1
    return {
        (budget.kind.value, period, float(part))
        for (budget, period), count in sums.items()
        for part in budget.reached(COST * count)
    }


def check(servers: FakeServers, jobs: int) -> list[str]:
    """Return the crossings that are missing, wrong, or have several ids."""
    crossings = [event for event in servers.received if event.type == CROSSED]
    ids: dict[Any, set[str]] = defaultdict(set)
    for event in crossings:
        ids[fact(event)].add(event.event_id)
    wanted = expected(servers, jobs)
    found = [f"lost: {key}" for key in wanted - ids.keys()]
    found += [f"unexpected: {key}" for key in ids.keys() - wanted]
    found += [f"several ids: {key}" for key, several in ids.items() if len(several) > 1]
    return found + [f"wrong sum: {fact(event)}" for event in crossings if not is_exact(event, jobs)]


def is_exact(event: ReceivedEvent, jobs: int) -> bool:
    """Return whether a sum is that of whole jobs, and enough for its threshold."""
    data = json.loads(event.body)["data"]
    spent, part = Decimal(data["spent_usd"]), Decimal(str(data["threshold_percent"]))
    is_enough = spent * 100 >= COST * jobs * part
    return spent == COST * data["jobs"] and is_enough and data["cost_unknown"] == 0


def sums(servers: FakeServers, store: Path) -> tuple[Decimal, Decimal, int]:
    """Return the sum of a budget that has no end, the one of all costs, and how many jobs."""
    whole = Period("", datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    host = servers.api_url.split("/")[2]
    admin = StoreAdmin(store)
    spent: Spent = admin.read(lambda db: StoredCosts(db, host).spent(the_budgets(1)[0], whole))
    costs = [each.cost_usd or Decimal(0) for each in admin.costs("model").values()]
    return spent.dollars, sum(costs, Decimal(0)), spent.jobs


async def run_until(
    servers: FakeServers, forker: ProcessForker, environments: Iterable[dict[str, str]], jobs: int
) -> list[int]:
    """Run daemons until everything has arrived; return their exit codes."""
    children = [await forker.start(each, Path(each["HOME"]) / "log") for each in environments]

    def is_done() -> bool:
        return servers.is_reported and not [
            line for line in check(servers, jobs) if line.startswith("lost")
        ]

    with anyio.move_on_after(240.0):
        await until(is_done, within=480.0)
    return [await child.stop() for child in children]


@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
async def test_kills_report_each_threshold_once(
    command: Path, tmp_path: Path, *, is_lost: bool
) -> None:
    """Whatever is killed, and if the database is lost, each threshold arrives under one id."""
    random, kills = SCALE.random("budgets", is_lost), SCALE.cases(12, 500)
    jobs, hits, store = kills * JOBS_A_RUN, 0, tmp_path / "state.db"
    async with serving(FakeServers(now, random)) as servers, process_forker(command) as forker:
        for run in range(kills):
            for number in range(JOBS_A_RUN):
                servers.add(f"job-{run}-{number}", random.choice(OUTCOMES))
            polls = len(servers.polls)
            again = {"POLLER_JOB_IDS": ",".join(servers.jobs)} if is_lost else {}
            child = await forker.start(a_setup(servers, tmp_path, jobs, **again), tmp_path / "log")
            await until(lambda polls=polls: len(servers.polls) > polls)
            await anyio.sleep(random.uniform(0.0, 0.3))
            hits += bool(servers.unacknowledged)
            await child.kill()
            if is_lost and random.random() < 0.3:
                lose_all(store, tmp_path, random)
        last = a_setup(servers, tmp_path, jobs, POLLER_JOB_IDS=",".join(servers.jobs))
        codes = await run_until(servers, forker, [last], jobs)
        violations = check(servers, jobs)
        found = sums(servers, store)

    assert codes == [0]
    assert found == (COST * jobs, COST * jobs, jobs)
    tally(LOST if is_lost else ONCE, cases=kills, hits=hits, violations=violations)


async def test_two_daemons_report_each_threshold_under_one_id(
    command: Path, tmp_path: Path
) -> None:
    """Two daemons with a database each that watch the same jobs agree about every crossing."""
    jobs = SCALE.cases(12, 200)
    folders = [tmp_path / "one", tmp_path / "other"]
    async with (
        serving(FakeServers(now, SCALE.random("two"))) as servers,
        process_forker(command) as forker,
    ):
        for number in range(jobs):
            servers.add(f"job-{number}", OUTCOMES[number % len(OUTCOMES)])
        for folder in folders:
            folder.mkdir()
        setups = [a_setup(servers, folder, jobs) for folder in folders]
        codes = await run_until(servers, forker, setups, jobs)
        violations = check(servers, jobs)

    assert codes == [0, 0]
    tally(SHARED, cases=jobs, violations=violations)
