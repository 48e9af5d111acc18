"""Power loss at any moment, on a disk that keeps any part of the data that is not synced."""

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
from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.power_loss import Disk, Image
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.syscall_trace import (
    Reader,
    Resized,
    Sent,
    Settled,
    Step,
    Synced,
    Written,
    tracing,
)
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace: apt-get install strace"),
]

PROMISE = "power loss at any moment loses nothing that was acknowledged, nor the database"

LOST_EVENTS = (
    "SELECT value || ' is lost' FROM json_each(:sent) WHERE value NOT IN (SELECT id FROM events)"
)
WITHOUT_DELIVERY = """
SELECT value || ' goes nowhere' FROM json_each(:sent)
 WHERE value NOT IN (SELECT event_id FROM deliveries WHERE sink = 'webhook')
"""
AHEAD_OF_JOB = """
SELECT id || ' is ahead of its job' FROM events LEFT JOIN jobs ON job_id = subject
 WHERE id IN (SELECT value FROM json_each(:sent))
   AND coalesce(jobs.sequence, 0) < json_extract(CAST(body AS TEXT), '$.data.sequence')
"""
UNSETTLED_PREDECESSORS = """
SELECT earlier.id || ' is forgotten to be delivered'
  FROM events
  JOIN events AS earlier ON earlier.subject = events.subject AND earlier.rowid < events.rowid
  JOIN deliveries ON event_id = earlier.id
 WHERE events.id IN (SELECT value FROM json_each(:sent)) AND status <> 'delivered'
"""
"""The next event of a job is sent after the store has acknowledged the outcome of the last one."""

UNSETTLED = """
SELECT value || ' was done with' FROM json_each(:settled) AS done
 WHERE value NOT IN (SELECT event_id FROM deliveries WHERE status = 'delivered')
"""


@dataclass(frozen=True)
class Scenario:
    """Runs with one database: how many jobs each has, and the sync at which it is killed.

    A run without such a sync is stopped once every event is acknowledged. `images` holds the number
    of images in the usual and in the long form.
    """

    runs: Sequence[tuple[int, int]]
    images: tuple[int, int]


SCENARIOS = {
    "one-life": Scenario([(2, 0)], (600, 6_000)),
    "stopped-and-begun-again": Scenario([(1, 0), (1, 0)], (400, 6_000)),
    "killed-before-a-sync": Scenario([(2, 11), (1, 11), (1, 0)], (500, 5_000)),
    "long-enough-for-a-checkpoint": Scenario([(50, 0)], (100, 4_000)),
}
SERIAL_POLLS = {"POLLER_CONCURRENCY": "1", "POLLER_LIST_PAGES": "off"}
"""Settings that poll one job at a time, so that little work makes many transactions."""


async def run_scenario(
    command: Path, folder: Path, scenario: Scenario, servers: FakeServers
) -> list[Step]:
    """Run a scenario, and return all of its steps."""
    store, steps = folder / "store", list[Step]()
    store.mkdir()
    for number, (jobs, killed_at) in enumerate(scenario.runs):
        for job in range(jobs):
            servers.add(f"job-{number}-{job}", OUTCOMES[job % len(OUTCOMES)])
        trace, variables = folder / f"{number}.trace", environment(servers, store, **SERIAL_POLLS)
        async with tracing(command, variables, trace, killed_at=killed_at) as run:
            with anyio.move_on_after(120.0):
                await until(lambda run=run: servers.is_reported or run.is_over, within=240.0)
            is_well = await run.stop() == 0
        steps += Reader(store).steps(trace)
        if is_well:
            steps.append(Settled(frozenset(event.event_id for event in servers.received)))
    return steps


@dataclass
class PowerLoss:
    """One moment of a loss: the folder, and the events that it must hold."""

    image: Image
    sent: Sequence[str]
    settled: Sequence[str]


def losses(steps: Sequence[Step], random: Random, images: int) -> Iterator[PowerLoss]:
    """Lose power after steps, with none, all and some of the pending changes."""
    disk, sent, settled = Disk(), list[str](), list[str]()
    for step in steps:
        disk.apply_step(step)
        if isinstance(step, Sent) and step.event_id not in sent:
            sent.append(step.event_id)
        elif isinstance(step, Settled):
            settled = sorted(step.event_ids)
        for probability in probabilities(random, images / len(steps), step):
            yield PowerLoss(disk.image(random, probability), list(sent), settled)


def probabilities(random: Random, mean: float, step: Step) -> list[float]:
    """Return for one moment the probability of pending changes in each image.

    Changes of the database file itself are rare, and get three images at least.
    """
    is_rare = isinstance(step, Written | Resized | Synced) and step.name == "state.db"
    count = max(int(mean + random.random()), 3 if is_rare else 0)
    extremes = [0.0, 1.0] if count > 2 else []
    return extremes + [
        random.choice([0.0, 1.0, random.random(), random.random()])
        for _ in range(count - len(extremes))
    ]


def problems_of(loss: PowerLoss, folder: Path, bodies: dict[str, bytes]) -> list[str]:
    """Open an image with the product, and return what is missing."""
    folder.mkdir()
    for name, content in loss.image.items():
        (folder / name).write_bytes(content)
    values = {"sent": json.dumps(loss.sent), "settled": json.dumps(loss.settled)}
    database = Database(folder / "state.db", prepare=lambda _: None, allow_network=True)

    def work(db: sqlite3.Connection) -> list[str]:
        found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        for statement in (
            LOST_EVENTS,
            WITHOUT_DELIVERY,
            AHEAD_OF_JOB,
            UNSETTLED_PREDECESSORS,
            UNSETTLED,
        ):
            found += [row[0] for row in db.execute(statement, values)]
        kept = dict(map(tuple, db.execute("SELECT id, body FROM events")))
        return found + [
            f"{event_id} changed"
            for event_id in kept
            if kept[event_id] != bodies.get(event_id, kept[event_id])
        ]

    try:
        database.open()
        found = database.transact(work)
    except StoreError as error:
        found = [f"the store does not open: {error}"]
    finally:
        database.close()
    found += [f"set aside: {path.name}" for path in folder.glob("*.corrupt-*")]
    shutil.rmtree(folder)
    return found


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """Return a folder in memory, if possible: images need no real sync."""
    disk = Path("/dev/shm")
    with TemporaryDirectory(dir=disk if disk.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_power_loss_keeps_acknowledged_data(
    command: Path, tmp_path: Path, memory_folder: Path, name: str
):
    """An image opens, and has each event that may have been sent, and its job."""
    random, scenario = SCALE.random("power", name), SCENARIOS[name]
    async with serving(FakeServers(now, random)) as servers:
        steps = await run_scenario(command, tmp_path, scenario, servers)
    bodies = {event.event_id: event.body for event in servers.received}

    cases, hits, violations = 0, 0, []
    for loss in losses(steps, random, SCALE.cases(*scenario.images)):
        found = problems_of(loss, memory_folder / "image", bodies)
        violations += [f"{name}: {line}" for line in found]
        cases, hits = cases + 1, hits + bool(loss.sent)

    violations += [f"not modelled: {name}" for name in differences(steps, tmp_path / "store")]
    violations += [f"still: {job.job_id}" for job in servers.jobs.values() if not job.is_reported]
    tally(PROMISE, cases=cases, hits=hits, violations=violations)
    assert has_checkpoint(steps) or name != "long-enough-for-a-checkpoint"


def has_checkpoint(steps: Sequence[Step]) -> bool:
    """Return whether the database file was written to between the first event and the last."""
    sent = [number for number, step in enumerate(steps) if isinstance(step, Sent)]
    between = steps[sent[0] : sent[-1]]
    return any(isinstance(step, Written) and step.name == "state.db" for step in between)


def differences(steps: Sequence[Step], folder: Path) -> list[str]:
    """Return the files whose real content differs from the content that the steps make."""
    disk = Disk()
    for step in steps:
        disk.apply_step(step)
    made = disk.image(Random(0), 1.0)
    real = {path.name: path.read_bytes() for path in folder.glob("state.db*")}
    del real["state.db.lock"], real["state.db.key"]
    return sorted(name for name in made | real if made.get(name) != real.get(name))
