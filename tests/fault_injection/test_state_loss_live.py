"""The database lost under a running daemon, in virtual time: the ids stay the same."""

from pathlib import Path
from random import Random

import anyio
import pytest

from poller.app import App
from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.state_losses import (
    DURING_A_RUN,
    PROMISE,
    keep_copy,
    quarantined,
    watched,
)
from tests.integration.test_app import sqlite_inline
from tests.support.run_checker import check_run
from tests.support.running_app import an_app, running_app
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=1e7)

SLOW_POLLS = {"POLLER_MIN_INTERVAL": "1s", "POLLER_MAX_INTERVAL": "2s"}
EARLIER_RUNS, JOBS = 2, 2
"""The number of earlier daemons, and of jobs that end in the run that loses its database."""
RUN_SECONDS = 15.0
"""Seconds into a run in which all jobs end."""
DETECTION_SECONDS = 30.0
"""Seconds in which a daemon detects that its database was replaced."""


async def test_database_lost_during_a_run_keeps_ids(tmp_path: Path):
    """A removed or replaced database loses no event and changes no id, without a restart."""
    violations, hits, losses = list[str](), 0, SCALE.cases(30, 400)
    for number in range(losses):
        random, folder = SCALE.random("under", number), tmp_path / str(number)
        is_hit, found = await run_one(folder, random)
        violations += [f"{number}: {line}" for line in found]
        hits += is_hit
    tally(PROMISE, cases=losses, hits=hits, violations=violations)


async def run_one(folder: Path, random: Random) -> tuple[bool, list[str]]:
    """Run daemons one after the other; the last one loses its database."""
    store, copies, lose = folder / "state.db", folder / "copies", random.choice(DURING_A_RUN)
    copies.mkdir(parents=True)
    clock, begins = virtual_clock(), list[float]()
    async with serving(
        FakeServers(clock.steady, random, delay=random.uniform(0.0, 3.0))
    ) as servers:
        for number in range(EARLIER_RUNS):
            servers.add(f"job-{number}", random.choice(OUTCOMES))
            async with running_app(a_daemon(servers, folder)):
                await anyio.sleep(random.uniform(0.0, RUN_SECONDS))
            keep_copy(store, copies)
            begins.append(servers.now())
        for number in range(JOBS):
            servers.add(f"late-job-{number}", random.choice(OUTCOMES))
        async with running_app(a_daemon(servers, folder)):
            await anyio.sleep(random.uniform(0.0, RUN_SECONDS / 2))
            is_hit = bool(servers.unacknowledged)
            lose(store, copies, random)
            begins.append(servers.now() + servers.delay + 0.1)  # when those in flight are recorded
            await anyio.sleep(RUN_SECONDS + DETECTION_SECONDS)

    found = check_run(
        servers.expected, servers.received, begins=begins, store=store, was_store_kept=False
    )
    unreported = [f"still: {job.job_id}" for job in servers.jobs.values() if not job.is_reported]
    return is_hit, [
        f"{lose.__name__}: {line}" for line in found.violations + quarantined(store) + unreported
    ]


def a_daemon(servers: FakeServers, folder: Path) -> App:
    """Return a daemon that watches all jobs."""
    variables = environment(servers, folder, POLLER_JOB_IDS=watched(servers), **SLOW_POLLS)
    return an_app("", "", new_store=sqlite_inline, **variables)
