"""Disk faults at every moment at which the daemon writes: it stays up and recovers."""

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
from tests.fault_injection.commit_check import CommitCheckingServers
from tests.fault_injection.disk_faults import (
    ALL,
    ALL_CALLS,
    ANY_USER,
    AS_ROOT,
    AS_ROOT_AT_START,
    MAIN,
    MIB,
    WAL,
    WRITES,
    DiskFault,
    FaultSetup,
    FaultTarget,
)
from tests.fault_injection.fake_servers import environment, serving
from tests.fault_injection.harness import ForkedProcess, ProcessForker, process_forker, tally
from tests.fault_injection.scripted_jobs import ScriptedJob, Stage
from tests.fault_injection.syscall_shim import compiled
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc compiles what lets calls fail"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")

PROMISE: Final = (
    "with a full, failing or read-only disk polling continues; everything else recovers within 30 s"
)
RECOVERY_SECONDS: Final = 120.0
SETTINGS: Final = {
    "POLLER_MIN_INTERVAL": "0.1s",
    "POLLER_MAX_INTERVAL": "0.2s",
    "POLLER_LIST_PAGES": "off",
    "POLLER_LOG_LEVEL": "info",
}
CONFIGURATION_ERROR: Final = 78


@dataclass
class HookedServers(CommitCheckingServers):
    """Servers that call a hook, once, before a response."""

    hooks: dict[str, Callable[[], None]] = field(default_factory=dict)

    async def send_job(self, request: web.Request, job: ScriptedJob) -> web.StreamResponse:
        """Call the hook before a response shows that a job runs."""
        if job.stage.event_type == "job.started":
            self._call_hook("show")
        return await super().send_job(request, job)

    async def acknowledge(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Call the hook before the end is acknowledged."""
        if json.loads(body)["type"] == "job.succeeded":
            self._call_hook("acknowledge")
        return await super().acknowledge(request, body)

    def _call_hook(self, name: str) -> None:
        if hook := self.hooks.pop(name, None):
            hook()


@dataclass(slots=True)
class FaultyDaemon:
    """A daemon that gets a disk fault. Beside the job it watches one that never changes."""

    forker: ProcessForker
    lock: anyio.Lock
    servers: HookedServers
    target: FaultTarget
    begins: list[float] = field(default_factory=list)

    async def start(self, fault: DiskFault) -> ForkedProcess:
        """Start the daemon."""
        async with self.lock:
            return await self._start(fault)

    async def start_faulty(self, fault: DiskFault) -> ForkedProcess:
        """Start the daemon with the fault."""
        forker_pid = self.forker.process.pid
        async with self.lock:
            fault.begin(forker_pid)
            child = await self._start(fault)
            if fault.is_per_process:
                fault.end(forker_pid)
        return child

    async def _start(self, fault: DiskFault) -> ForkedProcess:
        given = environment(
            self.servers, self.target.folder, **SETTINGS, POLLER_JOB_IDS="job,still"
        )
        log = self.target.folder / f"log-{len(self.begins)}"
        given |= {"POLLER_STORE": str(self.store)}
        child = await self.forker.start(given | fault.environment, log)
        self.begins.append(now())
        return child

    @property
    def store(self) -> Path:
        """The database."""
        return self.target.disk / "state.db"

    async def wait_for_poll(self) -> None:
        """Wait until the daemon has polled again."""
        polls = len(self.servers.polls)
        await until(lambda: len(self.servers.polls) > polls + 2)


Moment = Callable[[FaultyDaemon, DiskFault], Awaitable[ForkedProcess]]


async def start(daemon: FaultyDaemon, fault: DiskFault) -> ForkedProcess:
    """Begin the fault before the daemon starts."""
    child = await daemon.start_faulty(fault)
    await until(lambda: child.code is not None or _reports_fault(child))
    return child


async def observation(daemon: FaultyDaemon, fault: DiskFault) -> ForkedProcess:
    """Begin the fault when an observation is about to be recorded and sent."""
    return await _begin_at(daemon, fault, "show")


async def acknowledgement(daemon: FaultyDaemon, fault: DiskFault) -> ForkedProcess:
    """Begin the fault when an acknowledgement is about to be recorded."""
    return await _begin_at(daemon, fault, "acknowledge")


async def _begin_at(daemon: FaultyDaemon, fault: DiskFault, hook: str) -> ForkedProcess:
    child = await daemon.start(fault)
    daemon.servers.hooks[hook] = lambda: fault.begin(child.pid)
    await until(lambda: _reports_fault(child))
    await daemon.wait_for_poll()
    return child


async def checkpoint(daemon: FaultyDaemon, fault: DiskFault) -> ForkedProcess:
    """Begin the fault before a checkpoint; events can still be sent."""
    fill_wal(daemon.store)
    size = daemon.store.stat().st_size
    child = await daemon.start_faulty(fault)
    await until(lambda: daemon.servers.is_reported or _reports_fault(child))
    await daemon.wait_for_poll()
    is_failing = (daemon.target.folder / "switch.failed").exists()
    assert is_failing or daemon.store.stat().st_size < 2 * size
    return child


def _reports_fault(child: ForkedProcess) -> bool:
    return "store.unavailable" in child.text


def _is_running(child: ForkedProcess) -> bool:
    return "watchlist.changed" in child.text


def fill_wal(store: Path) -> None:
    """Create a database whose WAL is so long that the first commit causes a checkpoint."""
    model = store.parent.with_name("model.db")
    with closing(sqlite3.connect(model, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        schema.migrate(db)
        db.execute("INSERT INTO sinks (name) VALUES ('webhook')")
        db.execute(LARGE_JOB, {"name": "in the file"})
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(LARGE_JOB, {"name": "in the WAL"})
        for suffix in ("", "-wal"):
            shutil.copy(f"{model}{suffix}", f"{store}{suffix}")


LARGE_JOB: Final = """
INSERT INTO jobs (
    deployment, job_id, phase, since, status, job,
    sequence, occurrence, is_unrecognised, changed_at
) VALUES (
    'elsewhere', :name, 'done', unixepoch(), 'SUCCEEDED', hex(zeroblob(2100000)),
    0, 0, 0, unixepoch()
)
"""

TARGETS: Final[Mapping[Moment, tuple[str, tuple[str, ...], int]]] = {
    start: (ALL, WRITES, 0),
    observation: (WAL, ALL_CALLS, 0),
    acknowledgement: (WAL, ALL_CALLS, 0),
    checkpoint: (MAIN, WRITES, MIB),
}
"""The target at each moment: the files, the calls, and the bytes that are left."""


async def check_recovery(daemon: FaultyDaemon, moment: Moment, fault: DiskFault) -> None:
    """Begin and end a fault; every event arrives, after a restart if the fault does not pass."""
    child = await moment(daemon, fault)
    if fault.is_fatal or fault.is_permanent:
        code = await (child.end() if fault.is_fatal else child.stop())
        assert code == (CONFIGURATION_ERROR if fault.is_fatal else 0)
        fault.end(child.pid)
        child = await daemon.start(fault)
    else:
        assert child.code is None
        fault.end(child.pid)
    await until(
        lambda: _is_running(child) and daemon.servers.is_finished("job"), within=RECOVERY_SECONDS
    )
    assert await child.stop() == 0
    assert not daemon.store.with_name("state.db-wal").exists()


@dataclass(slots=True)
class DiskFaultRuns:
    """Daemons with disk faults that run at the same time."""

    forker: ProcessForker
    folder: Path
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    broken: list[str] = field(default_factory=list)

    async def run(self, name: str, moment: Moment, setup: FaultSetup) -> None:
        """Run one daemon, and record what goes wrong."""
        target = FaultTarget(self.folder / name.replace(" ", "-"), *TARGETS[moment])
        target.disk.mkdir(parents=True)
        async with serving(HookedServers(now, Random(0))) as servers:
            servers.add("job")
            servers.jobs["still"] = ScriptedJob("still", (Stage("QUEUED", None),), [now()])
            servers.stores["job"] = target.disk / "state.db"
            daemon = FaultyDaemon(self.forker, self.lock, servers, target)
            with setup(target) as fault:
                try:
                    await check_recovery(daemon, moment, fault)
                except (AssertionError, TimeoutError) as error:
                    self.broken.append(f"{name}: {error!r}")
                found = servers.violations("job", daemon.begins) + servers.uncommitted
        self.broken += [f"{name}: {line}" for line in found]


ANY: Final = pytest.param(ANY_USER, id="anywhere")
ROOT: Final = pytest.param(AS_ROOT, id="as_root", marks=needs_root)


@pytest.mark.parametrize("moment", TARGETS, ids=lambda moment: moment.__name__)
@pytest.mark.parametrize("faults", [ANY, ROOT])
async def test_disk_fault_only_delays(
    command: Path, tmp_path: Path, moment: Moment, faults: Mapping[str, FaultSetup]
):
    """A disk fault loses nothing, sends nothing uncommitted, and needs no restart."""
    if moment is start and faults is AS_ROOT:
        faults = AS_ROOT_AT_START
    library = compiled(command.parents[2])
    async with process_forker(command, LD_PRELOAD=str(library)) as forker:
        runs = DiskFaultRuns(forker, tmp_path)
        async with anyio.create_task_group() as tasks:
            for name, setup in faults.items():
                tasks.start_soon(runs.run, name, moment, setup)

    tally(PROMISE, cases=len(faults), hits=len(faults), violations=runs.broken)
