"""`kill -9` at random moments: nothing is lost, nothing gets a second id."""

from pathlib import Path
from typing import Final

import anyio
import pytest

from tests.fault_injection.job_stories import FATES
from tests.fault_injection.rig import SCALE, nursery, tally
from tests.fault_injection.world import World, environment, inhabited
from tests.support.run_checker import examine
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

SHARDS = SCALE.cases(2, 20)
"""Each has a world of its own: a world remembers all its jobs, and grows slow with their number."""
KILLS_A_SHARD = SCALE.cases(100, 500)
JOBS_A_LIFE = 4
AIMED: Final = 0.7
"""The share of kills that come as soon as something is owed; the others at any moment at all."""
PATIENCE = 30.0
MANNERS: Final = (
    {"POLLER_LIST_PAGES": "off"},
    {"POLLER_LIST_PAGES": "auto"},
    {
        "POLLER_JOB_IDS": "",
        "POLLER_DISCOVER": "on",
        "POLLER_DISCOVER_INTERVAL": "0.1s",
        "POLLER_DISCOVER_MAX_AGE": "3s",
    },
)
"""Ways to watch: one by one, by pages, and by pages without being told the ids."""
PROMISE = "`kill -9` at a random moment loses nothing and makes no second id"


async def all_is_told(world: World) -> None:
    """Wait until nothing is owed, or until nothing has come for half a minute."""
    came = -1
    while not world.is_told and len(world.arrivals) > came:
        came = len(world.arrivals)
        with anyio.move_on_after(PATIENCE):
            await until(lambda: world.is_told, within=2 * PATIENCE)


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_kills_lose_nothing_and_double_nothing(command: Path, tmp_path: Path, shard: int):
    """Every event arrives, under one id, in order, and twice only when a kill came between."""
    random = SCALE.random("kills", shard)
    hits, begins = 0, list[float]()
    async with inhabited(World(now, random)) as world, nursery(command) as births:
        for life in range(KILLS_A_SHARD):
            for number in range(JOBS_A_LIFE):
                world.add(f"job-{life}-{number}", random.choice(FATES))
            asked = len(world.asked)
            begins.append(now())
            manner = random.choice(MANNERS)
            child = await births.bear(environment(world, tmp_path, **manner), tmp_path / "log")
            await until(lambda asked=asked: len(world.asked) > asked)
            if is_aimed := random.random() < AIMED:
                with anyio.move_on_after(1.0):
                    await until(lambda: world.owed)
            await anyio.sleep(random.uniform(0.0, 0.02 if is_aimed else 0.12))
            hits += bool(world.owed)
            await child.kill()
        begins.append(now())
        child = await births.bear(environment(world, tmp_path), tmp_path / "log")
        await all_is_told(world)
        code = await child.stop()

    store = tmp_path / "state.db"
    violations = examine(world.shown, world.arrivals, begins=begins, store=store).violations
    violations += [f"still: {it.job_id}" for it in world.jobs.values() if not it.is_told]
    violations += leaks(tmp_path)
    assert code == 0
    tally(PROMISE, cases=KILLS_A_SHARD, hits=hits, violations=violations)
    assert hits >= KILLS_A_SHARD / 2
