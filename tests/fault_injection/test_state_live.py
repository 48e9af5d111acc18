"""The database lost under a daemon that lives on, in virtual time: the ids stay the same."""

from pathlib import Path
from random import Random

import anyio
import pytest

from poller.app import App
from tests.fault_injection.job_stories import FATES
from tests.fault_injection.rig import SCALE, tally
from tests.fault_injection.state_losses import IN_A_LIFE, PROMISE, keep_copy, set_aside, watched
from tests.fault_injection.world import World, environment, inhabited
from tests.integration.test_app import sqlite_inline
from tests.support.run_checker import examine
from tests.support.running_app import an_app, living
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=1e7)

CALM = {"POLLER_MIN_INTERVAL": "1s", "POLLER_MAX_INTERVAL": "2s"}
LIVES, JOBS = 2, 2
"""How many daemons have lived before, and how many jobs end in the life of the robbed one."""
LATEST = 15.0
"""Seconds into a life in which all jobs end."""
AFTERWARDS = 30.0
"""Seconds in which a daemon surely looks whether its database is the one that it was."""


async def test_a_database_that_is_lost_under_the_daemon_doubles_nothing(tmp_path: Path):
    """Removed or replaced while jobs end: all is told, under the same ids, without a restart."""
    violations, hits, losses = list[str](), 0, SCALE.cases(30, 400)
    for number in range(losses):
        random, folder = SCALE.random("under", number), tmp_path / str(number)
        is_hit, found = await lose_one(folder, random)
        violations += [f"{number}: {it}" for it in found]
        hits += is_hit
    tally(PROMISE, cases=losses, hits=hits, violations=violations)


async def lose_one(folder: Path, random: Random) -> tuple[bool, list[str]]:
    """Let daemons live one after the other; rob the last one, and see what came of it."""
    store, copies, lose = folder / "state.db", folder / "copies", random.choice(IN_A_LIFE)
    copies.mkdir(parents=True)
    clock, begins = virtual_clock(), list[float]()
    async with inhabited(World(clock.steady, random, delay=random.uniform(0.0, 3.0))) as world:
        for number in range(LIVES):
            world.add(f"job-{number}", random.choice(FATES))
            async with living(a_daemon(world, folder)):
                await anyio.sleep(random.uniform(0.0, LATEST))
            keep_copy(store, copies)
            begins.append(world.now())
        for number in range(JOBS):
            world.add(f"late-job-{number}", random.choice(FATES))
        async with living(a_daemon(world, folder)):
            await anyio.sleep(random.uniform(0.0, LATEST / 2))
            is_hit = bool(world.owed)
            lose(store, copies, random)
            begins.append(world.now() + world.delay + 0.1)  # what is on its way is noted by then
            await anyio.sleep(LATEST + AFTERWARDS)

    found = examine(world.shown, world.arrivals, begins=begins, store=store, is_store_whole=False)
    still = [f"still: {it.job_id}" for it in world.jobs.values() if not it.is_told]
    return is_hit, [f"{lose.__name__}: {it}" for it in found.violations + set_aside(store) + still]


def a_daemon(world: World, folder: Path) -> App:
    """Make a daemon that watches all jobs of a world."""
    variables = environment(world, folder, POLLER_JOB_IDS=watched(world), **CALM)
    return an_app("", "", new_store=sqlite_inline, **variables)
