"""Power loss at any moment, on a disk that keeps any part of what it was not told to sync."""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import anyio
import pytest

from poller.core.errors import StoreError
from poller.store.database import Database
from tests.fault_injection.job_stories import FATES
from tests.fault_injection.power_loss import Disk, Image
from tests.fault_injection.rig import SCALE, tally
from tests.fault_injection.syscall_trace import (
    Reader,
    Resized,
    Sent,
    Settled,
    Step,
    Synced,
    Written,
    traced,
)
from tests.fault_injection.world import World, environment, inhabited
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace: apt-get install strace"),
]

PROMISE = "power loss at any moment loses nothing that was acknowledged, nor the database"

LOST = "SELECT value || ' is lost' FROM json_each(:sent) WHERE value NOT IN (SELECT id FROM events)"
UNSENDABLE = """
SELECT value || ' goes nowhere' FROM json_each(:sent)
 WHERE value NOT IN (SELECT event_id FROM deliveries WHERE sink = 'webhook')
"""
BEHIND = """
SELECT id || ' is ahead of its job' FROM events LEFT JOIN jobs ON job_id = subject
 WHERE id IN (SELECT value FROM json_each(:sent))
   AND coalesce(jobs.sequence, 0) < json_extract(CAST(body AS TEXT), '$.data.sequence')
"""
FORGOTTEN = """
SELECT earlier.id || ' is forgotten to be delivered'
  FROM events
  JOIN events AS earlier ON earlier.subject = events.subject AND earlier.rowid < events.rowid
  JOIN deliveries ON event_id = earlier.id
 WHERE events.id IN (SELECT value FROM json_each(:sent)) AND status <> 'delivered'
"""
"""The next event of a job goes when the store has acknowledged what became of the one before."""

UNDONE = """
SELECT value || ' was done with' FROM json_each(:settled) AS done
 WHERE value NOT IN (SELECT event_id FROM deliveries WHERE status = 'delivered')
"""


@dataclass(frozen=True)
class Story:
    """Some lives in one folder: how many jobs end in each, and at which sync it is killed.

    A life without such a sync is stopped when all is told. `images` is how many are looked at in
    the usual and in the long form.
    """

    lives: Sequence[tuple[int, int]]
    images: tuple[int, int]


STORIES = {
    "one-life": Story([(2, 0)], (600, 6_000)),
    "stopped-and-begun-again": Story([(1, 0), (1, 0)], (400, 6_000)),
    "killed-before-a-sync": Story([(2, 11), (1, 11), (1, 0)], (500, 5_000)),
    "long-enough-for-a-checkpoint": Story([(50, 0)], (100, 4_000)),
}
CALM = {"POLLER_CONCURRENCY": "1", "POLLER_LIST_PAGES": "off"}
"""One look at one job at a time, so that little work makes many transactions."""


async def told(command: Path, folder: Path, story: Story, world: World) -> list[Step]:
    """Live a story, and give all its steps."""
    store, steps = folder / "store", list[Step]()
    store.mkdir()
    for number, (jobs, killed_at) in enumerate(story.lives):
        for job in range(jobs):
            world.add(f"job-{number}-{job}", FATES[job % len(FATES)])
        trace, variables = folder / f"{number}.trace", environment(world, store, **CALM)
        async with traced(command, variables, trace, killed_at=killed_at) as life:
            with anyio.move_on_after(30.0):
                await until(lambda life=life: world.is_told or life.is_over, within=60.0)
            is_well = await life.stop() == 0
        steps += Reader(store).steps(trace)
        if is_well:
            steps.append(Settled(frozenset(it.event_id for it in world.arrivals)))
    return steps


@dataclass
class Loss:
    """One moment of a loss: what the folder may hold then, and what it has to hold."""

    image: Image
    sent: Sequence[str]
    settled: Sequence[str]


def losses(steps: Sequence[Step], random: Random, images: int) -> Iterator[Loss]:
    """Lose the power after every step, or after some, with none, all and some of what pends."""
    disk, sent, settled = Disk(), list[str](), list[str]()
    for step in steps:
        disk.take(step)
        if isinstance(step, Sent) and step.event_id not in sent:
            sent.append(step.event_id)
        elif isinstance(step, Settled):
            settled = sorted(step.event_ids)
        for odds in chances(random, images / len(steps), step):
            yield Loss(disk.found(random, odds), list(sent), settled)


def chances(random: Random, mean: float, step: Step) -> list[float]:
    """Say how many images there are of one moment, and the odds of what pends in each.

    What changes the database itself is rare, and looked at three times at least.
    """
    is_rare = isinstance(step, Written | Resized | Synced) and step.name == "state.db"
    count = max(int(mean + random.random()), 3 if is_rare else 0)
    extremes = [0.0, 1.0] if count > 2 else []
    return extremes + [
        random.choice([0.0, 1.0, random.random(), random.random()])
        for _ in range(count - len(extremes))
    ]


def wrong_with(loss: Loss, folder: Path, bodies: dict[str, bytes]) -> list[str]:
    """Let the product open what is left, and look for all that was acknowledged."""
    folder.mkdir()
    for name, content in loss.image.items():
        (folder / name).write_bytes(content)
    values = {"sent": json.dumps(loss.sent), "settled": json.dumps(loss.settled)}
    database = Database(folder / "state.db", prepare=lambda _: None, allow_network=True)

    def work(db: sqlite3.Connection) -> list[str]:
        found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        for statement in (LOST, UNSENDABLE, BEHIND, FORGOTTEN, UNDONE):
            found += [row[0] for row in db.execute(statement, values)]
        kept = dict(map(tuple, db.execute("SELECT id, body FROM events")))
        return found + [f"{it} changed" for it in kept if kept[it] != bodies.get(it, kept[it])]

    try:
        database.open()
        found = database.transact(work)
    except StoreError as error:
        found = [f"the store does not open: {error}"]
    finally:
        database.close()
    found += [f"set aside: {it.name}" for it in folder.glob("*.corrupt-*")]
    shutil.rmtree(folder)
    return found


@pytest.fixture
def memory() -> Iterator[Path]:
    """Give a folder on a disk of memory, where there is one: images need no real sync."""
    disk = Path("/dev/shm")
    with TemporaryDirectory(dir=disk if disk.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", STORIES)
async def test_a_power_loss_takes_nothing_that_was_acknowledged(
    command: Path, tmp_path: Path, memory: Path, name: str
):
    """What the disk may hold opens, and has each event that may have been sent, and its job."""
    random, story = SCALE.random("power", name), STORIES[name]
    async with inhabited(World(now, random)) as world:
        steps = await told(command, tmp_path, story, world)
    bodies = {it.event_id: it.body for it in world.arrivals}

    cases, hits, violations = 0, 0, []
    for loss in losses(steps, random, SCALE.cases(*story.images)):
        found = wrong_with(loss, memory / "found", bodies)
        violations += [f"{name}: {it}" for it in found]
        cases, hits = cases + 1, hits + bool(loss.sent)

    violations += [f"not modelled: {it}" for it in differences(steps, tmp_path / "store")]
    violations += [f"still: {it.job_id}" for it in world.jobs.values() if not it.is_told]
    tally(PROMISE, cases=cases, hits=hits, violations=violations)
    assert has_checkpoint(steps) or name != "long-enough-for-a-checkpoint"


def has_checkpoint(steps: Sequence[Step]) -> bool:
    """Tell whether the database itself was written to between the first event and the last."""
    sent = [number for number, step in enumerate(steps) if isinstance(step, Sent)]
    between = steps[sent[0] : sent[-1]]
    return any(isinstance(it, Written) and it.name == "state.db" for it in between)


def differences(steps: Sequence[Step], folder: Path) -> list[str]:
    """Name each file that the real disk holds otherwise than the one that the steps make."""
    disk = Disk()
    for step in steps:
        disk.take(step)
    made = disk.found(Random(0), 1.0)
    real = {it.name: it.read_bytes() for it in folder.glob("state.db*")}
    real.pop("state.db.lock")
    return sorted(name for name in made | real if made.get(name) != real.get(name))
