"""Like `forked_process`, but each daemon gets stuck somewhere, and then writes that it is.

STUCK_AT in its environment says where; STOP_TIMEOUT, after how many seconds of a stop it exits, and
STORE_GRACE, after how many the store is interrupted.
"""

import os
import signal
import socket
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from threading import Event
from typing import Any, NoReturn

import anyio
import forked_process  # this is run as a program
from forked_child import run_cli

from poller import app
from poller.cli import run
from poller.sinks.log import LogSink
from poller.store import maintenance

ENDLESS = """
WITH RECURSIVE numbers (n) AS (SELECT stuck() UNION ALL SELECT n + 1 FROM numbers)
SELECT count(*) FROM numbers
"""
FILE_BYTES = 8_192
"""The size of a file from which on the disk counts as full."""


def report(event: str = "stuck") -> int:
    """Write that the process is stuck, or another event."""
    os.write(1, b'{"event": "%s"}\n' % event.encode())
    return 1


def report_stop() -> None:
    """Write when a stop begins, which sets a timer."""
    set_timer = signal.setitimer

    def report_timer(*arguments: Any) -> None:
        set_timer(*arguments)
        report("stop")

    signal.setitimer = report_timer


def hang(*_: object, **__: object) -> NoReturn:
    """Wait for ever."""
    report()
    Event().wait()
    raise AssertionError


class StuckConnection(sqlite3.Connection):
    """A connection on which statements with some words never end."""

    words = ""
    is_endless = True

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute a statement, or one without an end."""
        if self._is_stuck(statement):
            return super().execute(ENDLESS)
        return super().execute(statement, *values)

    def executescript(self, script: str) -> sqlite3.Cursor:
        """Execute a script, or a statement without an end."""
        return self.execute(script) if self._is_stuck(script) else super().executescript(script)

    def _is_stuck(self, statement: str) -> bool:
        if self.words not in statement:
            return False
        return self.is_endless or not report()


def stick_in_statement(words: str) -> None:
    """Make statements with these words endless, and begin to sweep at once."""
    connect = sqlite3.connect

    def connect_stuck(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*arguments, **options, factory=StuckConnection)
        db.create_function("stuck", 0, report)
        return db

    StuckConnection.words = words
    sqlite3.connect = connect_stuck
    maintenance.FIRST_SWEEP_DELAY = 0.0
    maintenance.SWEEP_INTERVAL = maintenance.MIN_SWEEP_DISTANCE = 0.01


def report_writes() -> None:
    """Write whenever a transaction is about to begin."""
    StuckConnection.is_endless = False
    stick_in_statement("BEGIN IMMEDIATE")


def stick_in_lookup() -> None:
    """Hang in each lookup of a name."""
    socket.getaddrinfo = hang


def stick_in_thread() -> None:
    """Hang in a thread of a sink."""

    async def send(*_: object) -> None:
        await anyio.to_thread.run_sync(hang)

    LogSink.send = send


def stick_in_loop() -> None:
    """Hang in the event loop, in a sink."""

    async def send(*_: object) -> None:
        hang()

    LogSink.send = send


def read_without_end() -> None:
    """Write that a file is about to be read, such as one without an end."""
    read_text = Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        report()
        return read_text(path, *arguments, **options)

    Path.read_text = read


def fill_disk() -> None:
    """Fail all writes beyond the first bytes of a file."""
    setrlimit(RLIMIT_FSIZE, (FILE_BYTES, RLIM_INFINITY))


STATES: dict[str, Callable[[], object]] = {
    "nowhere": lambda: None,
    "write": report_writes,
    "lookup": stick_in_lookup,
    "thread": stick_in_thread,
    "loop": stick_in_loop,
    "env file": read_without_end,
    "full disk": fill_disk,
}


def run_stuck(arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Prepare the state, and run the command line."""
    run.STOP_TIMEOUT = float(environment.pop("STOP_TIMEOUT"))
    app.STORE_GRACE = float(environment.pop("STORE_GRACE"))
    report_stop()
    place = environment.pop("STUCK_AT")
    STATES.get(place, partial(stick_in_statement, place))()
    run_cli(arguments, environment)


if __name__ == "__main__":
    forked_process.run_cli = run_stuck
    forked_process.serve()
