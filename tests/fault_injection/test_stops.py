"""Stops under load: what was acknowledged does not come again, what was not comes later."""

from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import anyio
import pytest
from aiohttp import web

from tests.fault_injection.job_stories import FATES
from tests.fault_injection.request_faults import FAR
from tests.fault_injection.rig import SCALE, Child, nursery, tally
from tests.fault_injection.world import World, environment, inhabited
from tests.support.run_checker import examine
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

SHARDS = 2
JOBS_A_LIFE = 4
AT_ONCE = 5.0
"""Seconds that are less than the grace of a stop, also after the half second of before."""
GRACEFUL = "SIGTERM under load: exit 0 within 8 s, and nothing that was acknowledged is sent again"
HARD = "a second SIGTERM exits at once, even if a receiver hangs, and loses nothing"


@dataclass
class Busy(World):
    """A world that knows how many deliveries are under way."""

    under_way: int = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take one event."""
        self.under_way += 1
        try:
            return await World.take(self, request)
        finally:
            self.under_way -= 1

    def add_some(self, life: int) -> None:
        """Begin the jobs of one life."""
        for number in range(JOBS_A_LIFE):
            self.add(f"job-{life}-{number}", self.random.choice(FATES))


def wrong_in(world: World, folder: Path, *, begins: list[float]) -> list[str]:
    """Name all that is wrong when all should be told."""
    found = examine(world.shown, world.arrivals, begins=begins, store=folder / "state.db")
    still = [f"still: {it.job_id}" for it in world.jobs.values() if not it.is_told]
    return found.violations + still + leaks(folder)


async def stopped(child: Child) -> list[str]:
    """Stop a life, and name what is wrong with how it ended."""
    try:
        code = await child.stop()
    except TimeoutError:
        return [f"{child.pid} is alive after 8 s"]
    return [f"{child.pid} exited with {code}"] if code else []


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_a_stop_under_load_repeats_nothing(command: Path, tmp_path: Path, shard: int):
    """Each of many stops in a row waits for the receiver, and no event ever comes twice."""
    random = SCALE.random("stops", shard)
    stops, hits, wrong = SCALE.cases(15, 50), 0, []
    async with inhabited(Busy(now, random)) as world, nursery(command) as births:
        for life in range(stops):
            world.add_some(life)
            world.delay = random.uniform(0.05, 1.0)
            child = await births.bear(environment(world, tmp_path), tmp_path / "log")
            await until(lambda: world.under_way)
            await anyio.sleep(random.uniform(0.0, world.delay))
            hits += bool(world.under_way)
            wrong += await stopped(child)
        world.delay = 0.0
        child = await births.bear(environment(world, tmp_path), tmp_path / "log")
        with anyio.move_on_after(30.0):
            await until(lambda: world.is_told, within=60.0)
        wrong += await stopped(child)

    # No begin counts as one after a kill: whatever comes again is a violation.
    wrong += wrong_in(world, tmp_path, begins=[])
    tally(GRACEFUL, cases=stops, hits=hits, violations=wrong)


async def test_a_second_signal_ends_at_once(command: Path, tmp_path: Path):
    """A life that waits for a hanging receiver ends with the next signal; nothing is lost."""
    random = SCALE.random("second signals")
    stops, begins, wrong = SCALE.cases(6, 50), [], []
    async with inhabited(Busy(now, random, delay=FAR)) as world, nursery(command) as births:
        for life in range(stops):
            world.add_some(life)
            before = world.under_way
            child = await births.bear(environment(world, tmp_path), tmp_path / "log")
            await until(lambda before=before: world.under_way > before)
            child.send(SIGTERM)
            await anyio.sleep(random.uniform(0.0, 0.5))
            wrong += [] if child.code is None else [f"{child.pid} did not wait"]
            child.send(SIGTERM)
            asked = now()
            await child.end()
            wrong += [f"ended after {now() - asked:.1f} s"] if now() - asked > AT_ONCE else []
            begins.append(now())
        world.delay = 0.0
        child = await births.bear(environment(world, tmp_path), tmp_path / "log")
        with anyio.move_on_after(60.0):
            await until(lambda: world.is_told, within=90.0)
        wrong += await stopped(child)

    wrong += wrong_in(world, tmp_path, begins=begins)
    tally(HARD, cases=stops, violations=wrong)
