"""A wall clock that is set by days, while the daemon runs and between two lives."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from struct import pack
from typing import Final

import anyio
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.fault_injection.job_stories import FATES
from tests.fault_injection.rig import SCALE, Child, Nursery, nursery, tally
from tests.fault_injection.world import World, environment, inhabited
from tests.support.run_checker import examine
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until

CLOCK: Final = Path(__file__).with_name("clock.c")
GCC: Final = ("gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC")
DAY: Final = 86_400
DAYS: Final = (-400, -30, -8, -1, 1, 8, 30, 400)
PROMISE: Final = (
    "a wall clock that jumps by days, during a run or between two runs, holds up nothing"
)
LONGEST_GAP: Final = 2.0
"""Seconds between two looks at jobs that are looked at every tenth of a second."""
SOON: Final = 20.0
"""Seconds in which all has to come: the first steps of the ladder, on a slow machine."""

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc compiles the clock that can be set"),
]


@dataclass
class Timeless(World):
    """A world that takes a signature of any day, and none at all when it is down."""

    is_down: bool = False
    refused: int = 0

    def verify(self, headers: dict[str, str], body: bytes) -> None:
        """Verify a signature by the time that it says."""
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        signed = Webhook(self.secret).sign(headers["webhook-id"], at, body.decode())
        assert signed in headers["webhook-signature"].split()

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take one event."""
        if self.is_down:
            self.refused += 1
            return web.Response(status=500)
        return await World.take(self, request)


@dataclass(frozen=True)
class Era:
    """Lives whose wall clock is that of this machine plus what a file says."""

    world: Timeless
    births: Nursery
    folder: Path

    def set_clock(self, days: float) -> None:
        """Set the wall clock of whoever lives now or later, in one write."""
        with (self.folder / "clock").open("r+b", buffering=0) as file:
            file.write(pack("<q", round(days * DAY)))

    async def bear(self) -> Child:
        """Start a life."""
        return await self.births.bear(environment(self.world, self.folder), self.folder / "log")

    async def told(self) -> list[str]:
        """Wait until all is told, and name what is not."""
        with anyio.move_on_after(SOON):
            await until(lambda: self.world.is_told, within=2 * SOON)
        return [f"still: {it.job_id}" for it in self.world.jobs.values() if not it.is_told]


def compiled(folder: Path) -> Path:
    """Compile what is preloaded into every life."""
    library = folder / "clock.so"
    subprocess.run([*GCC, "-o", library, CLOCK, "-ldl"], check=True, timeout=60)
    return library


@asynccontextmanager
async def an_era(command: Path, folder: Path, name: str) -> AsyncIterator[Era]:
    """Open a world whose lives have a clock that can be set."""
    world, shim = Timeless(now, SCALE.random(name)), compiled(folder)
    (folder / "clock").write_bytes(pack("<q", 0))
    preloaded = {"LD_PRELOAD": str(shim), "WALL_CLOCK": str(folder / "clock")}
    async with inhabited(world), nursery(command, **preloaded) as births:
        yield Era(world, births, folder)


def some(world: World, name: object) -> None:
    """Begin a few jobs."""
    for number in range(3):
        world.add(f"job-{name}-{number}", world.random.choice(FATES))


async def looks(world: World, seconds: float) -> list[str]:
    """Watch the looks for so long, and name a gap that their pace does not explain."""
    asked = len(world.asked)
    await anyio.sleep(seconds)
    moments = [now() - seconds, *world.asked[asked:], now()]
    gap = max(after - before for before, after in pairwise(moments))
    return [f"no look for {gap:.1f} s"] if gap > LONGEST_GAP else []


async def test_the_clock_jumps_in_a_life(command: Path, tmp_path: Path):
    """Looks go on at their pace, and failed deliveries come when they would have come."""
    jumps, wrong = SCALE.cases(4, 40), []
    async with an_era(command, tmp_path, "jumps") as era:
        world = era.world
        for jump in range(jumps):
            some(world, jump)
            child = await era.bear()
            world.is_down, refused = True, world.refused
            await until(lambda refused=refused: world.refused > refused)
            era.set_clock(world.random.choice(DAYS))
            wrong += await looks(world, 2.5)
            world.is_down = False
            wrong += await era.told()
            assert await child.stop() == 0

    wrong += examine(world.shown, world.arrivals, store=tmp_path / "state.db").violations
    tally(PROMISE, cases=jumps, hits=jumps, violations=wrong + leaks(tmp_path))


async def test_the_clock_jumps_between_two_lives(command: Path, tmp_path: Path):
    """What a life put off by a wrong clock comes soon in the next, and is not taken for old."""
    lives, wrong, hits = SCALE.cases(4, 40), [], 0
    async with an_era(command, tmp_path, "lives") as era:
        world = era.world
        for life in range(lives):
            some(world, life)
            for is_down in (True, False):
                world.is_down, refused = is_down, world.refused
                era.set_clock(world.random.choice(DAYS))
                child = await era.bear()
                if is_down:
                    await until(lambda refused=refused: world.refused >= refused + 3)
                    hits += 1
                else:
                    wrong += await era.told()
                assert await child.stop() == 0

    wrong += examine(world.shown, world.arrivals, store=tmp_path / "state.db").violations
    tally(PROMISE, cases=lives, hits=hits, violations=wrong + leaks(tmp_path))
