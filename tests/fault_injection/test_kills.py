"""`kill -9` at random moments: nothing is lost, and nothing gets a second id."""

from pathlib import Path
from typing import Final

import anyio
import pytest

from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, process_forker, tally
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.support.run_checker import check_run
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

SHARDS = SCALE.cases(2, 20)
"""Number of tests, each with servers of its own, which slow down with the number of their jobs."""
KILLS_A_SHARD = SCALE.cases(100, 500)
JOBS_A_RUN = 4
AIMED_SHARE: Final = 0.7
"""The share of kills right after an event is due; the others come at any moment."""
IDLE_SECONDS = 60.0
WATCH_MODES: Final = (
    {"POLLER_LIST_PAGES": "off"},
    {"POLLER_LIST_PAGES": "auto"},
    {
        "POLLER_JOB_IDS": "",
        "POLLER_DISCOVER": "on",
        "POLLER_DISCOVER_INTERVAL": "0.1s",
        "POLLER_DISCOVER_MAX_AGE": "3s",
    },
)
"""How jobs are watched: one by one, by pages, and by discovery."""
PROMISE = "`kill -9` at a random moment loses nothing and makes no second id"


async def wait_until_reported(servers: FakeServers) -> None:
    """Wait until every event is acknowledged, or until none has come for a minute."""
    count = -1
    while not servers.is_reported and len(servers.received) > count:
        count = len(servers.received)
        with anyio.move_on_after(IDLE_SECONDS):
            await until(lambda: servers.is_reported, within=2 * IDLE_SECONDS)


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_kills_lose_and_repeat_nothing(command: Path, tmp_path: Path, shard: int):
    """Every event arrives, under one id, in order, and twice only after a kill."""
    random = SCALE.random("kills", shard)
    hits, begins = 0, list[float]()
    async with serving(FakeServers(now, random)) as servers, process_forker(command) as forker:
        for run in range(KILLS_A_SHARD):
            for number in range(JOBS_A_RUN):
                servers.add(f"job-{run}-{number}", random.choice(OUTCOMES))
            polls = len(servers.polls)
            begins.append(now())
            mode = random.choice(WATCH_MODES)
            child = await forker.start(environment(servers, tmp_path, **mode), tmp_path / "log")
            await until(lambda polls=polls: len(servers.polls) > polls)
            if is_aimed := random.random() < AIMED_SHARE:
                with anyio.move_on_after(1.0):
                    await until(lambda: servers.unacknowledged)
            await anyio.sleep(random.uniform(0.0, 0.02 if is_aimed else 0.12))
            hits += bool(servers.unacknowledged)
            await child.kill()
        begins.append(now())
        child = await forker.start(environment(servers, tmp_path), tmp_path / "log")
        await wait_until_reported(servers)
        code = await child.stop()

    store = tmp_path / "state.db"
    violations = check_run(
        servers.expected, servers.received, begins=begins, store=store
    ).violations
    violations += [f"still: {job.job_id}" for job in servers.jobs.values() if not job.is_reported]
    violations += leaks(tmp_path)
    assert code == 0
    tally(PROMISE, cases=KILLS_A_SHARD, hits=hits, violations=violations)
    assert hits >= KILLS_A_SHARD / 2
