"""The database lost between runs, or replaced by an older one: the ids stay the same."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, ForkedProcess, ProcessForker, process_forker, tally
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.state_losses import (
    BETWEEN_RUNS,
    PROMISE,
    is_all_sent,
    keep_copy,
    quarantined,
    watched,
)
from tests.support.run_checker import check_run
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

SHARDS = 2
JOBS_A_RUN = 2
ADDRESSES = ("127.0.0.1", "localhost")
"""Addresses of the API, which are no part of an id either."""


@dataclass
class StateLossRun:
    """One database, the daemons that use it one after the other, and copies of it."""

    servers: FakeServers
    forker: ProcessForker
    random: Random
    folder: Path
    begins: list[float] = field(default_factory=list)
    url: str = ""

    @property
    def store(self) -> Path:
        """The path of the database."""
        return self.folder / "state.db"

    @property
    def copies(self) -> Path:
        """The folder of the copies, each in a folder."""
        return self.folder / "copies"

    async def start_daemon(self) -> ForkedProcess:
        """Start a daemon that knows the API by one of two addresses, and wait for a poll."""
        self.url = self.servers.api_url.replace("127.0.0.1", self.random.choice(ADDRESSES))
        changes = {"SUTRO_API_URL": self.url, "POLLER_JOB_IDS": watched(self.servers)}
        variables = environment(self.servers, self.folder, **changes)
        polls = len(self.servers.polls)
        self.begins.append(now())
        child = await self.forker.start(variables, self.folder / "log")
        await until(lambda: len(self.servers.polls) > polls or child.code is not None)
        assert child.code is None
        return child

    async def run_for_a_while(self) -> None:
        """Run a daemon for a while; its database may be copied."""
        child = await self.start_daemon()
        await anyio.sleep(self.random.uniform(0.0, 0.25))
        await (child.kill() if self.random.random() < 0.7 else child.stop())
        if self.random.random() < 0.3 or not [*self.copies.iterdir()]:
            keep_copy(self.store, self.copies)

    async def run_to_end(self) -> int:
        """Run a last daemon until every event is sent, and return its exit code."""
        job_ids = watched(self.servers)
        child = await self.start_daemon()
        with anyio.move_on_after(120.0):
            await until(
                lambda: is_all_sent(self.store, watched=job_ids, url=self.url), within=240.0
            )
        return await child.stop()


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_database_lost_between_runs_keeps_ids(command: Path, tmp_path: Path, shard: int):
    """After a kill or a stop and a lost database, repeated events keep their ids."""
    random = SCALE.random("state", shard)
    losses, hits = SCALE.cases(15, 300), 0
    async with serving(FakeServers(now, random)) as servers, process_forker(command) as forker:
        run = StateLossRun(servers, forker, random, tmp_path)
        run.copies.mkdir()
        for number in range(losses):
            for job in range(JOBS_A_RUN):
                servers.add(f"job-{number}-{job}", random.choice(OUTCOMES))
            await run.run_for_a_while()
            hits += bool(servers.unacknowledged)
            random.choice(BETWEEN_RUNS)(run.store, run.copies, random)
        code = await run.run_to_end()

    found = check_run(
        servers.expected, servers.received, begins=run.begins, store=run.store, was_store_kept=False
    )
    violations = found.violations
    violations += [f"still: {job.job_id}" for job in servers.jobs.values() if not job.is_reported]
    violations += quarantined(run.store)
    assert code == 0
    assert found.explained, "nothing was sent again"
    tally(PROMISE, cases=losses, hits=hits, violations=violations)
