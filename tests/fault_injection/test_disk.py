"""A disk in trouble at every moment where the daemon writes: it stays up, and all heals."""

import json
import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import anyio
import pytest
from aiohttp import web

from poller.store import schema
from tests.fault_injection.disk_faults import (
    ALL,
    ALL_CALLS,
    ANYWHERE,
    AS_ROOT,
    AS_ROOT_AT_START,
    MAIN,
    MIB,
    WAL,
    WRITES,
    Ailment,
    Onset,
    Where,
)
from tests.fault_injection.durability_world import StrictWorld
from tests.fault_injection.job_stories import Stage, Story
from tests.fault_injection.rig import Child, Nursery, nursery, tally
from tests.fault_injection.syscall_shim import compiled
from tests.fault_injection.world import environment, inhabited
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc compiles what lets calls fail"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")

PROMISE: Final = (
    "with a full, failing or read-only disk polling continues; everything else recovers within 30 s"
)
HEALS_WITHIN: Final = 30.0
SETTINGS: Final = {
    "POLLER_MIN_INTERVAL": "0.1s",
    "POLLER_MAX_INTERVAL": "0.2s",
    "POLLER_LIST_PAGES": "off",
    "POLLER_LOG_LEVEL": "info",
}
REFUSED: Final = 78


@dataclass
class BelledWorld(StrictWorld):
    """A world that rings a bell, once, before it answers something."""

    bells: dict[str, Callable[[], None]] = field(default_factory=dict)

    async def show(self, request: web.Request, story: Story) -> web.StreamResponse:
        """Ring before a look shows that a job runs."""
        if story.stage.owes == "job.started":
            self._ring("show")
        return await super().show(request, story)

    async def acknowledge(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Ring before the end is acknowledged."""
        if json.loads(body)["type"] == "job.succeeded":
            self._ring("acknowledge")
        return await super().acknowledge(request, body)

    def _ring(self, name: str) -> None:
        if bell := self.bells.pop(name, None):
            bell()


@dataclass(slots=True)
class Patient:
    """A daemon whose disk is going to fall ill. Beside the job it watches one that never moves."""

    births: Nursery
    turn: anyio.Lock
    world: BelledWorld
    where: Where
    begins: list[float] = field(default_factory=list)

    async def live(self, order: Mapping[str, str]) -> Child:
        """Begin a life."""
        async with self.turn:
            return await self._born(order)

    async def live_ill(self, ailment: Ailment) -> Child:
        """Begin a life that is ill from the start."""
        nurse = self.births.process.pid
        async with self.turn:
            ailment.begin(nurse)
            child = await self._born(ailment.order)
            if ailment.is_its_own:
                ailment.heal(nurse)
        return child

    async def _born(self, order: Mapping[str, str]) -> Child:
        given = environment(self.world, self.where.folder, **SETTINGS, POLLER_JOB_IDS="job,still")
        log = self.where.folder / f"log-{len(self.begins)}"
        given |= {"POLLER_STORE": str(self.store)}
        child = await self.births.bear(given | order, log)
        self.begins.append(now())
        return child

    @property
    def store(self) -> Path:
        """The database."""
        return self.where.disk / "state.db"

    async def is_watching(self) -> None:
        """Wait until the daemon has asked for more."""
        asked = len(self.world.asked)
        await until(lambda: len(self.world.asked) > asked + 2)


Moment = Callable[[Patient, Ailment], Awaitable[Child]]


async def start(patient: Patient, ailment: Ailment) -> Child:
    """Fall ill before the daemon starts."""
    child = await patient.live_ill(ailment)
    await until(lambda: child.code is not None or _said_so(child))
    return child


async def observation(patient: Patient, ailment: Ailment) -> Child:
    """Fall ill when something was seen that is to be recorded, and to be told."""
    return await _belled(patient, ailment, "show")


async def acknowledgement(patient: Patient, ailment: Ailment) -> Child:
    """Fall ill when an event was acknowledged, which is to be recorded."""
    return await _belled(patient, ailment, "acknowledge")


async def _belled(patient: Patient, ailment: Ailment, bell: str) -> Child:
    child = await patient.live(ailment.order)
    patient.world.bells[bell] = lambda: ailment.begin(child.pid)
    await until(lambda: _said_so(child))
    await patient.is_watching()
    return child


async def checkpoint(patient: Patient, ailment: Ailment) -> Child:
    """Fall ill when the WAL is to be written back: what is told all the same may be."""
    load(patient.store)
    size = patient.store.stat().st_size
    child = await patient.live_ill(ailment)
    await until(lambda: patient.world.is_told or _said_so(child))
    await patient.is_watching()
    struck = (patient.where.folder / "switch.struck").exists()
    assert struck or patient.store.stat().st_size < 2 * size
    return child


def _said_so(child: Child) -> bool:
    return "store.unavailable" in child.said


def _is_up(child: Child) -> bool:
    return "watchlist.changed" in child.said


def load(store: Path) -> None:
    """Make a database that writes a checkpoint with its first commit: its WAL is that long."""
    model = store.parent.with_name("model.db")
    with closing(sqlite3.connect(model, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        schema.migrate(db)
        db.execute("INSERT INTO sinks (name) VALUES ('webhook')")
        db.execute(BALLAST, {"name": "in the file"})
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(BALLAST, {"name": "in the WAL"})
        for suffix in ("", "-wal"):
            shutil.copy(f"{model}{suffix}", f"{store}{suffix}")


BALLAST: Final = """
INSERT INTO jobs VALUES (
    'elsewhere', :name, 'done', 0, 'SUCCEEDED', hex(zeroblob(2100000)), 0, 0, 0, 0, 0
)
"""

WHERE: Final[Mapping[Moment, tuple[str, tuple[str, ...], int]]] = {
    start: (ALL, WRITES, 0),
    observation: (WAL, ALL_CALLS, 0),
    acknowledgement: (WAL, ALL_CALLS, 0),
    checkpoint: (MAIN, WRITES, MIB),
}
"""What is hit at each moment: which files, which calls, and the bytes that can still be had."""


async def survive(patient: Patient, moment: Moment, ailment: Ailment) -> None:
    """Fall ill, be healed, and tell all, in a next life if the illness lasts longer than this."""
    child = await moment(patient, ailment)
    if ailment.is_refusal or ailment.is_for_ever:
        code = await (child.end() if ailment.is_refusal else child.stop())
        assert code == (REFUSED if ailment.is_refusal else 0)
        ailment.heal(child.pid)
        child = await patient.live(ailment.order)
    else:
        assert child.code is None
        ailment.heal(child.pid)
    await until(lambda: _is_up(child) and patient.world.is_over("job"), within=HEALS_WITHIN)
    assert await child.stop() == 0
    assert not patient.store.with_name("state.db-wal").exists()


@dataclass(slots=True)
class Ward:
    """Where patients are, at the same time."""

    births: Nursery
    folder: Path
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    broken: list[str] = field(default_factory=list)

    async def treat(self, name: str, moment: Moment, onset: Onset) -> None:
        """Treat one patient, and note what goes wrong."""
        where = Where(self.folder / name.replace(" ", "-"), *WHERE[moment])
        where.disk.mkdir(parents=True)
        async with inhabited(BelledWorld(now, Random(0))) as world:
            world.add("job")
            world.jobs["still"] = Story("still", (Stage("QUEUED", None),), [now()])
            world.stores["job"] = where.disk / "state.db"
            patient = Patient(self.births, self.turn, world, where)
            with onset(where) as ailment:
                try:
                    await survive(patient, moment, ailment)
                except (AssertionError, TimeoutError) as error:
                    self.broken.append(f"{name}: {error!r}")
                found = world.violations("job", patient.begins) + world.uncommitted
        self.broken += [f"{name}: {it}" for it in found]


ANY: Final = pytest.param(ANYWHERE, id="anywhere")
ROOT: Final = pytest.param(AS_ROOT, id="as_root", marks=needs_root)


@pytest.mark.parametrize("moment", WHERE, ids=lambda it: it.__name__)
@pytest.mark.parametrize("ailments", [ANY, ROOT])
async def test_a_disk_in_trouble_delays_at_most(
    command: Path, tmp_path: Path, moment: Moment, ailments: Mapping[str, Onset]
):
    """Nothing is lost, nothing uncommitted is sent, nothing needs a restart."""
    if moment is start and ailments is AS_ROOT:
        ailments = AS_ROOT_AT_START
    library = compiled(command.parents[2])
    async with nursery(command, LD_PRELOAD=str(library)) as births:
        ward = Ward(births, tmp_path)
        async with anyio.create_task_group() as patients:
            for name, onset in ailments.items():
                patients.start_soon(ward.treat, name, moment, onset)

    tally(PROMISE, cases=len(ailments), hits=len(ailments), violations=ward.broken)
