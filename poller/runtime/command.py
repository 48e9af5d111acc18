"""Commands: each runs in a process group of its own, which ends with it or with this process.

A guard leads the group: a shell that waits until its stdin ends, which it does whenever this
process ends, and then kills the group. So a `kill -9` leaves nothing behind, children of the
command included, on every POSIX system. (Linux's PR_SET_PDEATHSIG reaches the command alone, and
fires when the thread that started it ends.)
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from threading import Event
from typing import IO, Final, Self

GUARD: Final = ("/bin/sh", "-c", 'trap "" HUP INT QUIT TERM; read -r _; kill -KILL 0')
TICK: Final = 0.05
"""Seconds after which it is noticed that a command has ended, if its output has not."""
MAX_OUTPUT: Final = 16 * 2**20
"""Bytes that a command may print; only the end of them is kept."""
TAIL_BYTES: Final = 65_536
KILL_SECONDS: Final = 1.0
"""Seconds that killed processes get to end: those that wait for a disk may take for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: its words, all of its environment, what it reads, and how long it may take."""

    words: Sequence[str]
    environment: Mapping[str, str]
    stdin: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended; `code` is None if it did not end by itself."""

    code: int | None
    summary: str


def run_command(command: Command, stop: Event) -> CommandResult:
    """Run a command until it ends, takes too long, prints too much, or `stop` is set."""
    try:
        guard = subprocess.Popen(  # noqa: S603 - a constant
            GUARD,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            process_group=0,
        )
    except OSError as error:
        return CommandResult(None, f"cannot be started by {GUARD[0]}: {error.strerror}")
    child: subprocess.Popen[bytes] | None = None
    try:
        child = _start(command, guard.pid)
        return _attend(child, command, stop)
    except OSError as error:
        return CommandResult(None, f"cannot be started: {error.strerror}")
    finally:
        _end_group(guard, child)


def _start(command: Command, group: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - its words are a setting
        command.words,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=command.environment,
        process_group=group,
    )


def _attend(child: subprocess.Popen[bytes], command: Command, stop: Event) -> CommandResult:
    """Write to a command and read from it until it ends or has to be ended."""
    until = time.monotonic() + command.timeout
    with _Pipes(child, command.stdin) as pipes:
        while (code := child.poll()) is None:
            if stop.is_set():
                return CommandResult(None, "was stopped")
            if time.monotonic() > until:
                return pipes.result(None, f"did not end within {command.timeout:g} s")
            if pipes.total > MAX_OUTPUT:
                return pipes.result(None, f"printed more than {MAX_OUTPUT >> 20} MiB")
            pipes.wait(TICK)
        return pipes.result(code, _describe(code))


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def _end_group(guard: subprocess.Popen[bytes], child: subprocess.Popen[bytes] | None) -> None:
    """Kill the group, and collect those that are children of this process.

    The group has its number until its guard is collected, so that no other one can be killed. In a
    container this process may be the first one, which adopts the command's own children.
    """
    os.killpg(guard.pid, signal.SIGKILL)
    until = time.monotonic() + KILL_SECONDS
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-guard.pid, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
    for process in filter(None, (guard, child)):
        process.poll()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()


class _Pipes:
    """The pipes of a command; neither writing nor reading blocks."""

    def __init__(self, child: subprocess.Popen[bytes], stdin: bytes) -> None:
        self.total = 0
        self._child = child
        self._unsent = memoryview(stdin)
        self._tail = b""
        self._selector = DefaultSelector()
        for pipe, events in ((child.stdin, EVENT_WRITE), (child.stdout, EVENT_READ)):
            os.set_blocking(_open(pipe).fileno(), False)
            self._selector.register(_open(pipe), events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._selector.close()

    def wait(self, seconds: float) -> None:
        """Read and write what is possible now, or within some seconds."""
        if not self._selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)
            return
        for key, _ in self._selector.select(seconds):
            step = self._write if key.fileobj is self._child.stdin else self.read
            step()

    def read(self) -> None:
        """Read what is there, and keep the end of it."""
        pipe = _open(self._child.stdout)
        while self.total <= MAX_OUTPUT and (chunk := pipe.read(TAIL_BYTES)) is not None:
            if not chunk:
                self._forget(pipe)
                break
            self.total += len(chunk)
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def result(self, code: int | None, summary: str) -> CommandResult:
        """Return a result with the last line of the output, unless that line is cut off."""
        self.read()  # what it printed last
        tail = self._tail
        if self.total > len(tail):
            tail = tail.partition(b"\n")[2]
        lines = tail.decode("utf-8", errors="replace").strip().splitlines()
        return CommandResult(code, ": ".join((summary, *lines[-1:])))

    def _write(self) -> None:
        pipe = _open(self._child.stdin)
        try:
            self._unsent = self._unsent[pipe.write(self._unsent) or 0 :]
        except BrokenPipeError:  # it does not want to know
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._forget(pipe)
            pipe.close()

    def _forget(self, pipe: IO[bytes]) -> None:
        with suppress(KeyError):
            self._selector.unregister(pipe)


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
