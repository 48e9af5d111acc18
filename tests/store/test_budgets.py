"""The sums of budgets and their crossings, against a scan of the jobs in Python."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.core.budgets import Budget, BudgetKind, Budgets, BudgetState, Period, Spent
from poller.core.events import Event, EventOrigin
from poller.core.job_status import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.patterns import is_selected
from poller.core.state import JobState, Phase
from poller.polling.budget_watch import BudgetWatch
from poller.runtime.clock import Clock
from poller.store import schema
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from poller.store.stored_costs import StoredCosts
from tests.store.test_costs import a_database
from tests.support.builders import a_job, check_event
from tests.support.store_builders import DAY, NOON, AnyStore, ManualClock, a_state, an_event
from tests.support.store_builders import a_store as a_disk_store
from tests.support.time_zones import ZONES, local_zone

HOST: Final = "api.sutro.sh"
ORIGIN: Final = EventOrigin(deployment=HOST)
PARTS: Final = (Decimal(50), Decimal(100))
BUDGETS: Final = Budgets(
    (
        Budget(kind=BudgetKind.DAILY, limit=Decimal("0.3"), thresholds=PARTS),
        Budget(kind=BudgetKind.DAILY, limit=Decimal("0.5"), thresholds=PARTS, models=("m*",)),
        Budget(kind=BudgetKind.MONTHLY, limit=Decimal(1), thresholds=PARTS, models=("!n",)),
    ),
    ORIGIN,
)
MIDNIGHT: Final = datetime(2024, 2, 1, tzinfo=UTC)
ENDS: Final = st.sampled_from(
    [MIDNIGHT + timedelta(hours=hours, milliseconds=-hours) for hours in range(-30, 36, 5)]
)
COSTS: Final = st.sampled_from([None, 0.0, 0.1, 0.2, 0.3, 1e-9, 0.15, 0.05, 1e300])
STATES: Final = st.builds(
    lambda number, phase, status, fields: a_state(
        f"job-{number}",
        phase=phase,
        status=status,
        job=replace(a_job(status), job_id=f"job-{number}", **fields),
    ),
    st.integers(1, 6),
    st.sampled_from([Phase.DONE, Phase.DONE, Phase.DONE, Phase.ACTIVE, Phase.MISSING]),
    st.sampled_from([JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED]),
    st.fixed_dictionaries(
        {
            "model": st.sampled_from([None, "m", "m2", "n"]),
            "job_cost": COSTS,
            "datetime_completed": ENDS,
        }
    ),
)


def spent_in(states: Sequence[JobState], budget: Budget, period: Period) -> Spent:
    """Return the sum of jobs by a scan, in Python."""
    sums = Spent()
    for state in states:
        job = state.job
        assert job
        assert job.datetime_completed
        is_in = period.start <= job.datetime_completed < period.end
        if state.phase is Phase.MISSING or not is_in or not budget.selects(job.model or ""):
            continue
        is_known = job.job_cost is not None and job.job_cost < 1e9
        sums += Spent(Decimal(str(job.job_cost)) if is_known else Decimal(0), 1, int(not is_known))
    return sums


def a_watch(budgets: Budgets = BUDGETS) -> BudgetWatch:
    """Return what announces crossings."""
    return BudgetWatch(budgets, Clock(monotonic=lambda: NOON, wall=lambda: NOON))


def events_in(store: MemoryStore | SqliteStore) -> list[Event]:
    """Return the recorded crossings, in the order of recording."""
    rows = store.admin().read(
        lambda db: db.execute("SELECT id, body FROM events ORDER BY rowid").fetchall()
    )
    return [an_event(id=row["id"], body=row["body"]) for row in rows]


class Model:
    """What must have been announced, by scans."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobState] = {}
        self.expected: dict[tuple[str, str, tuple[str, ...], float], Spent] = {}

    def write(self, states: Sequence[JobState]) -> None:
        """Write states, and add the crossings that follow."""
        self.jobs |= {state.job_id: state for state in states}
        ended = [self.jobs[state.job_id] for state in states if state.phase is Phase.DONE]
        for budget in BUDGETS.budgets:
            for state in ended:
                assert state.job
                assert state.job.datetime_completed
                period = Period.of(budget.kind, state.job.datetime_completed)
                spent = spent_in([*self.jobs.values()], budget, period)
                for part in PARTS:
                    if spent.dollars >= budget.limit * part / 100:
                        key = (budget.kind.value, period.name, budget.models, float(part))
                        self.expected.setdefault(key, spent)


def facts(event: Event) -> tuple[tuple[str, str, tuple[str, ...], float], Spent]:
    """Return what an event is about, and its sum."""
    data = check_event(event.body)["data"]
    key = (data["budget"], data["period"], tuple(data["model_patterns"]), data["threshold_percent"])
    return key, Spent(Decimal(data["spent_usd"]), data["jobs"], data["cost_unknown"])


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    batches=st.lists(st.lists(STATES, min_size=1, max_size=3, unique_by=lambda it: it.job_id)),
)
def test_crossings_follow_the_sums_of_any_history(zone: str, batches: list[list[JobState]]) -> None:
    """In any zone, after any changes, each crossing is there once with the sum of its moment."""
    store = MemoryStore(routes={}, deployment=HOST, now=lambda: NOON)
    model = Model()

    async def write_all() -> None:
        for states in batches:
            watch = a_watch()
            await store.write(WriteBatch(states=states, announce=watch.after(states)))
            model.write(states)

    with local_zone(zone):
        anyio.run(write_all)

    found = [facts(event) for event in events_in(store)]
    assert dict(found) == model.expected
    assert len(found) == len(model.expected)
    with local_zone(zone):
        assert_sums_are_equal(store, [*model.jobs.values()])


def assert_sums_are_equal(store: MemoryStore, states: Sequence[JobState]) -> None:
    """Assert that the budgets and the costs of the API have the sums of a scan."""
    read_of = store.admin().read
    for budget in BUDGETS.budgets:
        for hours in range(-30, 36, 6):
            period = Period.of(budget.kind, MIDNIGHT + timedelta(hours=hours))
            found = read_of(
                lambda db, budget=budget, period=period: StoredCosts(db, HOST).spent(budget, period)
            )
            assert found == spent_in(states, budget, period)
    whole = Period("", datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    costs = store.admin().costs("model", 0.0).values()
    total = sum((sums.cost_usd or Decimal(0) for sums in costs), Decimal(0))
    every = Budget(kind=BudgetKind.DAILY, limit=Decimal(1), thresholds=())
    assert total == spent_in(states, every, whole).dollars


def an_end(number: int, cost: float | None = 0.2, **fields: Any) -> JobState:
    """Return the state of a job that ended at noon."""
    job_id = f"job-{number}"
    ended_at = datetime.fromtimestamp(NOON, UTC)
    values = {"job_cost": cost, "datetime_completed": ended_at, "model": "m"} | fields
    job = replace(a_job("SUCCEEDED"), job_id=job_id, **values)
    return a_state(job_id, phase=Phase.DONE, status=JobStatus.SUCCEEDED, job=job)


async def end(store: SqliteStore | MemoryStore, *states: JobState) -> list[float]:
    """Write ends; return the thresholds of the first budget that were announced."""
    budgets = replace(BUDGETS, budgets=BUDGETS.budgets[:1])
    watch = a_watch(budgets)
    await store.write(WriteBatch(states=states, announce=watch.after(states)))
    return [event.data["threshold_percent"] for event in watch.announced]


@pytest.mark.anyio
async def test_crossing_is_announced_once_though_its_event_is_deleted(
    path: Path, now: ManualClock
) -> None:
    """A month is longer than events are kept: what was announced is not announced again."""
    async with a_disk_store(path, now) as store:
        assert await end(store, an_end(1)) == [50.0]
    async with a_disk_store(path, now) as store:
        now.advance(20 * DAY)
        await store.prune(now.now, [])
        assert events_in(store) == []
        assert await end(store, an_end(2)) == [100.0]
        assert await end(store, an_end(3), an_end(4)) == []


@pytest.mark.anyio
async def test_crossings_of_a_wrong_clock_are_kept(path: Path, now: ManualClock) -> None:
    """What was recorded in 1970 is not old once the clock is right: it is not announced again."""
    now.now = 1_000.0
    async with a_disk_store(path, now) as store:
        assert await end(store, an_end(1)) == [50.0]
    now.now = NOON
    async with a_disk_store(path, now) as store:
        await store.prune(now.now, [])
        assert await end(store, an_end(2, 0.01)) == []
        now.advance(401 * DAY)
        await store.prune(now.now, [])
        rows = store.admin().read(lambda db: db.execute("SELECT * FROM crossings").fetchall())
        assert rows == []


@pytest.mark.anyio
async def test_price_that_falls_is_counted_and_announces_nothing(store: AnyStore) -> None:
    """A corrected cost changes the sum; what was crossed stays crossed."""
    assert await end(store, an_end(1, 0.3)) == [50.0, 100.0]
    assert await end(store, an_end(1, 0.1)) == []
    assert await end(store, an_end(1, 0.3)) == []


@pytest.mark.anyio
async def test_unknown_cost_counts_as_soon_as_it_is_known(store: AnyStore) -> None:
    """A job without a cost is named beside the sum until its cost comes, days later perhaps."""
    assert await end(store, an_end(1, None), an_end(2, 0.15)) == [50.0]
    assert facts(events_in(store)[0])[1] == Spent(Decimal("0.15"), 2, 1)
    assert await end(store, an_end(1, 0.15)) == [100.0]
    assert facts(events_in(store)[1])[1] == Spent(Decimal("0.3"), 2, 0)


@pytest.mark.anyio
async def test_failed_transaction_announces_nothing(store: AnyStore) -> None:
    """If the ends cannot be written, neither is what follows from them."""
    states = [an_end(1, 0.3)]
    watch = a_watch()
    broken = an_event(subject=None)
    with pytest.raises(Exception, match="NOT NULL"):
        await store.write(WriteBatch(states=states, events=[broken], announce=watch.after(states)))

    assert events_in(store) == []
    assert await end(store, *states) == [50.0, 100.0]


@pytest.mark.anyio
async def test_jobs_that_go_on_are_committed(store: AnyStore) -> None:
    """The estimates of jobs that have not ended are apart; those without one are counted."""
    active = [
        a_state("job-5", job=a_job(cost_estimate=0.1, model="m")),
        a_state("job-6", job=a_job(cost_estimate=0.2, model="n")),
        a_state("job-7", job=a_job(model="m")),
        a_state("job-8", job=a_job(cost_estimate=9.0), phase=Phase.MISSING),
    ]
    await store.write(WriteBatch(states=active))

    def read(db: Any) -> list[BudgetState]:
        return BUDGETS.states(StoredCosts(db, HOST), datetime.fromtimestamp(NOON, UTC))

    daily, of_m, _ = store.admin().read(read)
    assert daily.committed == Spent(Decimal("0.3"), 3, 1)
    assert of_m.committed == Spent(Decimal("0.1"), 2, 1)


@pytest.mark.anyio
async def test_costs_of_another_deployment_do_not_count(path: Path, now: ManualClock) -> None:
    """Two APIs with one database have budgets of their own."""
    async with a_disk_store(path, now, deployment="other") as store:
        await end(store, an_end(1, 0.3))
    async with a_disk_store(path, now) as store:
        assert await end(store, an_end(2, 0.1)) == []


def test_damaged_rows_do_no_harm() -> None:
    """A row that is no JSON is in no sum, and can be changed."""
    with closing(a_database(len(schema.MIGRATIONS))) as db:
        for job in ("{", "[]", '{"datetime_completed": 7, "model": 8, "job_cost": "9"}', None):
            db.execute("DELETE FROM jobs")
            db.execute(
                "INSERT INTO jobs (deployment, job_id, phase, since, status, job, sequence,"
                " occurrence, is_unrecognised, changed_at)"
                " VALUES (?, 'job-1', 'done', 0, 'SUCCEEDED', ?, 1, 0, 0, 0)",
                (HOST, job),
            )
            moments = StoredCosts(db, HOST).ends(["job-1"])
            assert BUDGETS.crossings(moments, StoredCosts(db, HOST), MIDNIGHT) == []
            db.execute("UPDATE jobs SET changed_at = 1")


def test_every_model_is_found(now: ManualClock) -> None:
    """The models of a budget are matched by their whole names, also odd ones and none."""
    store = MemoryStore(routes={}, deployment=HOST, now=now)
    names = [None, "m", "M", "m\u00e9", "\U0001f600", "z" * 400]
    states = [an_end(number, 0.1, model=name) for number, name in enumerate(names)]

    async def write() -> None:
        await store.write(WriteBatch(states=states))

    anyio.run(write)
    for patterns in ((), ("m*",), ("!m*",), ("?",)):
        budget = replace(BUDGETS.budgets[0], models=patterns)
        period = Period.of(budget.kind, datetime.fromtimestamp(NOON, UTC))
        found = store.admin().read(
            lambda db, budget=budget, period=period: StoredCosts(db, HOST).spent(budget, period)
        )
        assert found.jobs == sum(is_selected(name, patterns) for name in names)


def test_body_of_a_crossing_is_json() -> None:
    """Receivers parse sums as decimals: they are texts."""
    store = MemoryStore(routes={}, deployment=HOST, now=lambda: NOON)
    anyio.run(end, store, an_end(1, 0.3))

    body = json.loads(events_in(store)[0].body)
    assert (body["type"], body["data"]["spent_usd"]) == ("budget.crossed", "0.3")
