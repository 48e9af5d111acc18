"""Whatever the daemon is doing, it exits with 0 after SIGTERM, and at once at the next signal."""

import os
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import pytest

from poller.store.integrity import REMOVE_CLEAN_END
from poller.store.sqlite import SqliteStore
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.fault_injection.harness import ForkedProcess, ProcessForker, process_forker
from tests.support.daemon_process import PACE
from tests.support.secret_canaries import KEY
from tests.support.waiting import PATIENCE_SECONDS, now, until

pytestmark = pytest.mark.anyio

STUCK_SCRIPT: Final = Path(__file__).parents[1] / "support/stuck_process.py"
NEVER: Final = "1000"
SOON: Final = "1"
AT_ONCE: Final = "0.1"
"""Seconds of a stop, after which the store is interrupted, or the daemon exits in any case."""


@dataclass(frozen=True)
class Machine:
    """What all daemons need; each has a folder of its own."""

    folder: Path
    forker: ProcessForker
    api: Simulator
    urls: dict[str, str]
    stack: AsyncExitStack


async def leave_unclean(folder: Path) -> None:
    """Leave a database as a daemon does that is killed."""
    path = folder / "state.db"
    async with SqliteStore(path, routes={}, deployment="api.example", now=now):
        pass
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(REMOVE_CLEAN_END)


async def lock_database(machine: Machine, folder: Path) -> None:
    """Begin to write to the database of a daemon, and wait until it wants to write too."""
    log = folder / "log"
    writes = log.read_text("utf-8").count('"stuck"')
    db = machine.stack.enter_context(closing(sqlite3.connect(folder / "state.db")))
    db.execute("BEGIN IMMEDIATE")
    machine.api.remove("later")
    machine.api.add(JobScript(job_id="later", queue_seconds=0.0, run_seconds=0.0))
    await until(lambda: log.read_text("utf-8").count('"stuck"') > writes)


async def open_stream(machine: Machine, folder: Path) -> None:
    """Read the stream of events of a daemon, but nothing comes."""
    stream = await machine.stack.enter_async_context(await anyio.connect_unix(folder / "api"))
    await stream.send(b"GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")


@dataclass(frozen=True)
class State:
    """What a daemon is doing when it is stopped.

    `before` prepares its folder. `place` is where it is stuck, `said` a text of its output then,
    and `enter` what happens after that. It ends by itself if it is `free`, and else by the time
    limit of a stop.
    """

    place: str = "nowhere"
    free: bool = False
    said: str = '"stuck"'
    variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("run",)
    before: Callable[[Path], Awaitable[None]] | None = None
    enter: Callable[[Machine, Path], Awaitable[None]] | None = None


STATES: Final = {
    "check of the file": State("quick_check", free=True, before=leave_unclean),
    "migration": State("user_version =", free=True),
    "full disk": State("full disk", free=True, said="store.unavailable"),
    "env file without an end": State("env file", free=True, arguments=("run", "--env-file=PIPE")),
    "jobs file without an end": State(
        free=True, said="jobs_file.unreadable", variables={"POLLER_JOBS_FILE": "PIPE"}
    ),
    "API without a response": State(
        free=True, said="poller.started", variables={"SUTRO_API_URL": "SILENT"}
    ),
    "lookup that hangs": State(
        "lookup", free=True, variables={"SUTRO_API_URL": "https://api.sutro.test"}
    ),
    "search for a delivery": State("SELECT deliveries.id", free=True),
    "record of a job": State("INTO jobs", free=True),
    "sweep": State("DELETE FROM events", free=True),
    "locked database": State(
        "write",
        free=True,
        said="started",
        variables={"POLLER_JOB_IDS": "later"},
        enter=lock_database,
    ),
    "open stream": State(
        free=True,
        said="watchlist.changed",
        enter=open_stream,
        variables={"POLLER_LISTEN": "unix:FOLDER/api"},
    ),
    "sink that hangs in a thread": State("thread"),
    "sink that blocks the loop": State("loop"),
}


@pytest.fixture
async def machine(command: Path, tmp_path: Path) -> AsyncIterator[Machine]:
    """Serve an API with a job that has ended, and one that never responds."""
    api = Simulator(key=KEY)
    api.add(JobScript(job_id="good", queue_seconds=0.0, run_seconds=0.0))
    api.add(JobScript(job_id="later", queue_seconds=0.0, run_seconds=1e6))
    async with AsyncExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        urls = {
            "API": await stack.enter_async_context(serve(api)),
            "SILENT": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        forker = await stack.enter_async_context(process_forker(command, script=STUCK_SCRIPT))
        yield Machine(tmp_path, forker, api, urls, stack)


async def start(
    machine: Machine, state: State, *, stop_timeout: str, store_grace: str
) -> ForkedProcess:
    """Start a daemon, and wait until it is in a state."""
    folder = machine.folder / f"{len(machine.forker.children)}"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    if state.before:
        await state.before(folder)
    texts = machine.urls | {"PIPE": str(folder / "pipe"), "FOLDER": str(folder)}

    def fill(text: str) -> str:
        for name, value in texts.items():
            text = text.replace(name, value)
        return text

    variables = {
        "HOME": str(folder),
        "SUTRO_API_URL": "API",
        "SUTRO_API_KEY": KEY,
        "POLLER_JOB_IDS": "good",
        "POLLER_SINKS": "log",
        "POLLER_STORE": "FOLDER/state.db",
        "POLLER_LISTEN": "off",
    } | state.variables
    child = await machine.forker.start(
        PACE
        | {name: fill(text) for name, text in variables.items()}
        | {"STUCK_AT": state.place, "STOP_TIMEOUT": stop_timeout, "STORE_GRACE": store_grace},
        folder / "log",
        *map(fill, state.arguments),
    )
    await until(lambda: state.said in child.text)
    if state.enter:
        await state.enter(machine, folder)
    return child


async def codes_of(children: dict[str, ForkedProcess]) -> dict[str, int | None]:
    """Return the exit code of each daemon; None for one that does not end."""
    with anyio.move_on_after(PATIENCE_SECONDS):
        for child in children.values():
            await child.exited.wait()
    return {name: child.code for name, child in children.items()}


async def test_first_signal_ends_a_daemon_in_any_state(machine: Machine):
    """After SIGTERM it exits with 0: by itself, or after the time limit if a sink is stuck."""
    children = {}
    for name, state in STATES.items():
        limit = NEVER if state.free else SOON
        children[name] = await start(machine, state, stop_timeout=limit, store_grace=AT_ONCE)
    for child in children.values():
        child.send(signal.SIGTERM)

    assert await codes_of(children) == dict.fromkeys(STATES, 0)


async def test_second_signal_ends_a_daemon_in_any_state(machine: Machine):
    """A second signal waits for no time limit, whatever a stop is waiting for."""
    children = {
        name: await start(machine, state, stop_timeout=NEVER, store_grace=NEVER)
        for name, state in STATES.items()
    }
    for child in children.values():
        child.send(signal.SIGTERM)
        await until(lambda child=child: '"stop"' in child.text or child.code is not None)
        child.send(signal.SIGTERM)

    assert await codes_of(children) == dict.fromkeys(STATES, 0)
