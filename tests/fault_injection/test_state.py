"""The database lost between lives, or an older one in its place: the ids stay the same."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.fault_injection.job_stories import FATES
from tests.fault_injection.rig import SCALE, Child, Nursery, nursery, tally
from tests.fault_injection.state_losses import (
    BETWEEN_LIVES,
    PROMISE,
    is_all_sent,
    keep_copy,
    set_aside,
    watched,
)
from tests.fault_injection.world import World, environment, inhabited
from tests.support.run_checker import examine
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

SHARDS = 2
JOBS_A_LIFE = 2
ADDRESSES = ("127.0.0.1", "localhost")
"""Where the API is has no part in an id either."""


@dataclass
class Robbery:
    """One database, the daemons that live on it one after the other, and copies of it."""

    world: World
    births: Nursery
    random: Random
    folder: Path
    begins: list[float] = field(default_factory=list)
    url: str = ""

    @property
    def store(self) -> Path:
        """Where the database is."""
        return self.folder / "state.db"

    @property
    def copies(self) -> Path:
        """Where the copies are, each in a folder."""
        return self.folder / "copies"

    async def begin(self) -> Child:
        """Start a daemon that is to know the API by one of two addresses, and wait for a look."""
        self.url = self.world.api_url.replace("127.0.0.1", self.random.choice(ADDRESSES))
        changes = {"SUTRO_API_URL": self.url, "POLLER_JOB_IDS": watched(self.world)}
        variables = environment(self.world, self.folder, **changes)
        asked = len(self.world.asked)
        self.begins.append(now())
        child = await self.births.bear(variables, self.folder / "log")
        await until(lambda: len(self.world.asked) > asked or child.code is not None, within=60.0)
        assert child.code is None
        return child

    async def live(self) -> None:
        """Let a daemon live for a while; what it leaves may be copied."""
        child = await self.begin()
        await anyio.sleep(self.random.uniform(0.0, 0.25))
        await (child.kill() if self.random.random() < 0.7 else child.stop())
        if self.random.random() < 0.3 or not [*self.copies.iterdir()]:
            keep_copy(self.store, self.copies)

    async def end(self) -> int:
        """Let a last daemon live until all is told, and give its exit code."""
        asked_for = watched(self.world)
        child = await self.begin()
        with anyio.move_on_after(30.0):
            await until(
                lambda: is_all_sent(self.store, watched=asked_for, url=self.url), within=60.0
            )
        return await child.stop()


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_a_database_that_is_lost_between_lives_doubles_nothing(
    command: Path, tmp_path: Path, shard: int
):
    """Killed or stopped, then robbed of its memory: what is told again has the id it had."""
    random = SCALE.random("state", shard)
    losses, hits = SCALE.cases(15, 300), 0
    async with inhabited(World(now, random)) as world, nursery(command) as births:
        it = Robbery(world, births, random, tmp_path)
        it.copies.mkdir()
        for life in range(losses):
            for job in range(JOBS_A_LIFE):
                world.add(f"job-{life}-{job}", random.choice(FATES))
            await it.live()
            hits += bool(world.owed)
            random.choice(BETWEEN_LIVES)(it.store, it.copies, random)
        code = await it.end()

    found = examine(
        world.shown, world.arrivals, begins=it.begins, store=it.store, is_store_whole=False
    )
    violations = found.violations
    violations += [f"still: {job.job_id}" for job in world.jobs.values() if not job.is_told]
    violations += set_aside(it.store)
    assert code == 0
    assert found.explained, "nothing was told again"
    tally(PROMISE, cases=losses, hits=hits, violations=violations)
