"""`kill -9` at every single call of a run: before it, after it, and with half of it done."""

import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import anyio
import pytest

from tests.fault_injection.commit_check import CommitCheckingServers
from tests.fault_injection.fake_servers import environment, serving
from tests.fault_injection.harness import SCALE, ForkedProcess, ProcessForker, process_forker, tally
from tests.fault_injection.scripted_jobs import ScriptedJob, Stage
from tests.fault_injection.syscall_shim import POINTS, KillPoint, compiled
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc compiles what strikes the process"),
]

PROMISE: Final = "`kill -9` at any {} of a run loses nothing and makes no second id"
TWICE: Final = "`kill -9` at any call, and again while the daemon recovers, loses nothing"
CALL_NAMES: Final = {
    "write": "write to a pipe or a log",
    "pwrite": "write to the database",
    "fsync": "fsync",
    "change": "truncation or removal of a file",
    "send": "send",
    "receive": "receipt",
}

STAGES: Final = (
    Stage("QUEUED", None),
    Stage("RUNNING", "job.started"),
    Stage("SUCCEEDED", None),
    Stage("SUCCEEDED", "job.succeeded", has_cost=True),
)
"""A job for which everything happens: a start, a cost that is awaited, an end."""

SETTINGS: Final = {"POLLER_SETTLE_TIMEOUT": "3s", "POLLER_LOG_LEVEL": "info"}
"""The cost, which comes a tenth of a second late, is never too late."""

USUAL_STEPS: Final = {"write": 2, "pwrite": 7, "fsync": 1, "change": 1, "send": 1, "receive": 1}
"""The usual form tests one call in so many."""

CALLS_A_RUN: Final = {"write": 25, "pwrite": 90, "fsync": 9, "change": 4, "send": 5, "receive": 6}
"""The number of calls of a kind that most runs make."""

CONCURRENT_RUNS: Final = 4
RUN_TIMEOUT: Final = 120.0


@dataclass(slots=True)
class KillRuns:
    """Runs of daemons that are killed, some of them at the same time."""

    forker: ProcessForker
    servers: CommitCheckingServers
    folder: Path
    limiter: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(CONCURRENT_RUNS)
    )
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    broken: list[str] = field(default_factory=list)

    async def run_job(self, job_id: str, *kill_points: KillPoint) -> int:
        """Watch one job with a database of its own; return how many daemons were killed."""
        self.servers.jobs[job_id] = ScriptedJob(job_id, STAGES, [now()])
        folder = self.folder / job_id
        folder.mkdir()
        self.servers.stores[job_id] = folder / "state.db"
        starts: list[float] = []
        async with self.limiter:
            killed = sum(
                [await self._run(job_id, starts, kill_point) for kill_point in kill_points]
            )
            await self._run(job_id, starts)
            self.broken += self.servers.violations(job_id, starts)
        return killed

    async def _run(
        self, job_id: str, starts: list[float], kill_point: KillPoint | None = None
    ) -> bool:
        """Run a daemon until every event is sent or it is killed; return whether it was killed."""
        folder = self.folder / job_id
        given = environment(self.servers, folder, **SETTINGS, POLLER_JOB_IDS=job_id)
        async with self.lock:
            given |= kill_point.environment if kill_point else {}
            child = await self.forker.start(given, folder / f"log-{len(starts)}")
        starts.append(now())
        with anyio.move_on_after(RUN_TIMEOUT) as waiting:
            await until(lambda: self._is_finished(job_id, child), within=2 * RUN_TIMEOUT)
        code = await child.stop()
        if waiting.cancelled_caught or code not in ({0, -signal.SIGKILL} if kill_point else {0}):
            self.broken.append(f"{job_id}: ended with {code}: {child.text}")
        return code == -signal.SIGKILL

    def _is_finished(self, job_id: str, child: ForkedProcess) -> bool:
        return child.code is not None or (
            "watchlist.changed" in child.text and self.servers.is_finished(job_id)
        )


@asynccontextmanager
async def kill_runs(command: Path, folder: Path) -> AsyncIterator[KillRuns]:
    """Start servers, and daemons with the library."""
    library = compiled(command.parents[2])
    async with (
        serving(CommitCheckingServers(now, Random(0))) as servers,
        process_forker(command, LD_PRELOAD=str(library)) as forker,
    ):
        yield KillRuns(forker, servers, folder)
        assert not servers.uncommitted


@dataclass(slots=True)
class Sweep:
    """All kill points of one kind of call, each mode until a run has no such call."""

    kind: str
    cases: int = 0
    hits: int = 0

    async def sweep(self, runs: KillRuns) -> None:
        """Kill in every mode."""
        step = SCALE.cases(USUAL_STEPS[self.kind], 1)
        random = SCALE.random("points", self.kind)
        async with anyio.create_task_group() as modes:
            for mode in POINTS[self.kind]:
                modes.start_soon(self._sweep_mode, runs, mode, random.randint(1, step), step)

    async def _sweep_mode(self, runs: KillRuns, mode: str, at: int, step: int) -> None:
        while await runs.run_job(f"{self.kind}-{mode}-{at}", KillPoint(self.kind, mode, at)):
            self.cases, self.hits, at = self.cases + 1, self.hits + 1, at + step


@pytest.mark.parametrize("kind", POINTS)
async def test_kill_at_any_call_loses_nothing(command: Path, tmp_path: Path, kind: str):
    """After a kill at any call of this kind, the next run sends what is left."""
    sweep = Sweep(kind)
    async with kill_runs(command, tmp_path) as runs:
        await sweep.sweep(runs)

    promise = PROMISE.format(CALL_NAMES[kind])
    tally(promise, cases=sweep.cases, hits=sweep.hits, violations=runs.broken)


async def test_kills_in_two_runs_lose_nothing(command: Path, tmp_path: Path):
    """A kill during the recovery from another kill loses nothing either."""
    random, hits = SCALE.random("two points"), []
    pairs = [
        (random_kill_point(random), random_kill_point(random)) for _ in range(SCALE.cases(20, 400))
    ]

    async def attempt(number: int, pair: tuple[KillPoint, KillPoint]) -> None:
        hits.append(await runs.run_job(f"job-{number}", *pair) == 2)

    async with kill_runs(command, tmp_path) as runs, anyio.create_task_group() as tasks:
        for numbered in enumerate(pairs):
            tasks.start_soon(attempt, *numbered)

    tally(TWICE, cases=len(pairs), hits=sum(hits), violations=runs.broken)
    assert sum(hits) >= len(pairs) / 2


def random_kill_point(random: Random) -> KillPoint:
    """Return a kill point that most runs reach."""
    kind = random.choice(list(POINTS))
    return KillPoint(kind, random.choice(POINTS[kind]), random.randint(1, CALLS_A_RUN[kind]))
