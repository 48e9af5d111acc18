"""`kill -9` at every single call of a life: before it, after it, and with half of it done."""

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

from tests.fault_injection.durability_world import StrictWorld
from tests.fault_injection.job_stories import Stage, Story
from tests.fault_injection.rig import SCALE, Child, Nursery, nursery, tally
from tests.fault_injection.syscall_shim import POINTS, Strike, compiled
from tests.fault_injection.world import environment, inhabited
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc compiles what strikes the process"),
]

PROMISE: Final = "`kill -9` at any {} of a run loses nothing and makes no second id"
TWICE: Final = "`kill -9` at any call, and again while the daemon recovers, loses nothing"
NOUNS: Final = {
    "write": "write to a pipe or a log",
    "pwrite": "write to the database",
    "fsync": "fsync",
    "change": "truncation or removal of a file",
    "send": "send",
    "receive": "receipt",
}

LIFE: Final = (
    Stage("QUEUED", None),
    Stage("RUNNING", "job.started"),
    Stage("SUCCEEDED", None),
    Stage("SUCCEEDED", "job.succeeded", has_cost=True),
)
"""A life in which everything happens: a start, a cost that is waited for, an end."""

SETTINGS: Final = {"POLLER_SETTLE_TIMEOUT": "3s", "POLLER_LOG_LEVEL": "info"}
"""The cost, which comes a tenth of a second late, never comes too late."""

STEPS: Final = {"write": 2, "pwrite": 7, "fsync": 1, "change": 1, "send": 1, "receive": 1}
"""The usual form tries one call in so many."""

REACH: Final = {"write": 25, "pwrite": 90, "fsync": 9, "change": 4, "send": 5, "receive": 6}
"""Up to which call of a kind most lives come."""

ABREAST: Final = 4
LONGEST: Final = 20.0


@dataclass(slots=True)
class Ground:
    """Where jobs are told in lives that are struck, some of them at the same time."""

    births: Nursery
    world: StrictWorld
    folder: Path
    places: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(ABREAST))
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    broken: list[str] = field(default_factory=list)

    async def trial(self, job_id: str, *strikes: Strike) -> int:
        """Tell one job in a folder of its own, and say how many of its lives were struck."""
        self.world.jobs[job_id] = Story(job_id, LIFE, [now()])
        folder = self.folder / job_id
        folder.mkdir()
        self.world.stores[job_id] = folder / "state.db"
        begins: list[float] = []
        async with self.places:
            struck = sum([await self._live(job_id, begins, strike) for strike in strikes])
            await self._live(job_id, begins)
            self.broken += self.world.violations(job_id, begins)
        return struck

    async def _live(self, job_id: str, begins: list[float], strike: Strike | None = None) -> bool:
        """Live until all is told or the strike comes, and say whether it came."""
        folder = self.folder / job_id
        given = environment(self.world, folder, **SETTINGS, POLLER_JOB_IDS=job_id)
        async with self.turn:
            order = strike.order if strike else {}
            child = await self.births.bear(given | order, folder / f"log-{len(begins)}")
        begins.append(now())
        with anyio.move_on_after(LONGEST) as waiting:
            await until(lambda: self._is_over(job_id, child), within=2 * LONGEST)
        code = await child.stop()
        if waiting.cancelled_caught or code not in ({0, -signal.SIGKILL} if strike else {0}):
            self.broken.append(f"{job_id}: ended with {code}: {child.said}")
        return code == -signal.SIGKILL

    def _is_over(self, job_id: str, child: Child) -> bool:
        return child.code is not None or (
            "watchlist.changed" in child.said and self.world.is_over(job_id)
        )


@asynccontextmanager
async def ground(command: Path, folder: Path) -> AsyncIterator[Ground]:
    """Open a place for such lives."""
    library = compiled(command.parents[2])
    async with (
        inhabited(StrictWorld(now, Random(0))) as world,
        nursery(command, LD_PRELOAD=str(library)) as births,
    ):
        yield Ground(births, world, folder)
        assert not world.uncommitted


@dataclass(slots=True)
class Sweep:
    """All points at one kind of call, one mode after the other, until a life gets away."""

    kind: str
    cases: int = 0
    hits: int = 0

    async def over(self, where: Ground) -> None:
        """Strike in every mode."""
        step = SCALE.cases(STEPS[self.kind], 1)
        random = SCALE.random("points", self.kind)
        async with anyio.create_task_group() as modes:
            for mode in POINTS[self.kind]:
                modes.start_soon(self._go_on, where, mode, random.randint(1, step), step)

    async def _go_on(self, where: Ground, mode: str, at: int, step: int) -> None:
        while await where.trial(f"{self.kind}-{mode}-{at}", Strike(self.kind, mode, at)):
            self.cases, self.hits, at = self.cases + 1, self.hits + 1, at + step


@pytest.mark.parametrize("kind", POINTS)
async def test_no_point_of_a_life_is_fatal(command: Path, tmp_path: Path, kind: str):
    """Wherever a life is cut off at a call of this kind, the next one tells what is left."""
    sweep = Sweep(kind)
    async with ground(command, tmp_path) as where:
        await sweep.over(where)

    promise = PROMISE.format(NOUNS[kind])
    tally(promise, cases=sweep.cases, hits=sweep.hits, violations=where.broken)


async def test_no_two_points_of_two_lives_are_fatal(command: Path, tmp_path: Path):
    """A life that is cut off while it mends what another left undone hurts nobody either."""
    random, hits = SCALE.random("two points"), []
    pairs = [(any_point(random), any_point(random)) for _ in range(SCALE.cases(20, 400))]

    async def attempt(number: int, pair: tuple[Strike, Strike]) -> None:
        hits.append(await where.trial(f"job-{number}", *pair) == 2)

    async with ground(command, tmp_path) as where, anyio.create_task_group() as attempts:
        for numbered in enumerate(pairs):
            attempts.start_soon(attempt, *numbered)

    tally(TWICE, cases=len(pairs), hits=sum(hits), violations=where.broken)
    assert sum(hits) >= len(pairs) / 2


def any_point(random: Random) -> Strike:
    """Choose a point that most lives come to."""
    kind = random.choice(list(POINTS))
    return Strike(kind, random.choice(POINTS[kind]), random.randint(1, REACH[kind]))
