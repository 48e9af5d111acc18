"""The supervisor that started this process: it is told by sd_notify(3) how the daemon is.

Outside systemd there is none, and nothing is told to anybody.
"""

import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

import anyio
import structlog

STATUS_INTERVAL: Final = 10.0
MAX_STATUS_CHARS: Final = 1_000
"""Characters of a status, which may take four bytes each: a message may have 4,096."""

log = structlog.get_logger()


@dataclass(slots=True)
class SystemdNotifier:
    """The supervisor at the other end of a socket, or nobody.

    It ends a process that has not given a sign of life for `watchdog` seconds.
    """

    address: str = ""
    watchdog: float = math.inf
    _is_ready: bool = field(default=False, init=False)

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Find the supervisor of the process `pid`; variables may be meant for another one."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]  # not a file, but a name in the abstract
        usec = environment.get("WATCHDOG_USEC", "")
        is_meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog = int(usec) / 1e6 if is_meant and usec.isdecimal() else 0.0
        return cls(address, watchdog or math.inf)

    async def run(
        self, stalled: Callable[[], Sequence[str]], summary: Callable[[], Awaitable[str]]
    ) -> None:
        """Send READY, then STATUS on changes, and WATCHDOG while no loop is stalled."""
        if not self.address:
            return
        self._is_ready = True
        self._send(READY="1")
        async with anyio.create_task_group() as telling:
            telling.start_soon(self._feed_watchdog, stalled, name="watchdog")
            telling.start_soon(self._send_status, summary, name="status")

    def status(self, text: str) -> None:
        """Say how the daemon is, in one line for people."""
        self._send(STATUS=" ".join(text.split())[:MAX_STATUS_CHARS])

    def stopping(self) -> None:
        """Say that the daemon stops."""
        self._send(STOPPING="1", STATUS="stopping: what is being sent may end")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that settings are read again, and when that is done; no word of it at the start."""
        if self._is_ready:
            self._send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1_000))
        yield
        if self._is_ready:
            self._send(READY="1")

    async def _feed_watchdog(self, stalled: Callable[[], Sequence[str]]) -> None:
        while True:
            await anyio.sleep(self.watchdog / 2)
            if names := stalled():
                log.error("watchdog.skipped", stalled=",".join(names))
            else:
                self._send(WATCHDOG="1")

    async def _send_status(self, summary: Callable[[], Awaitable[str]]) -> None:
        told = ""
        while True:
            if (line := await summary()) != told:
                self.status(line)
                told = line
            await anyio.sleep(STATUS_INTERVAL)

    def _send(self, **assignments: str) -> None:
        """Send one message. The supervisor may be away for a moment, so that is no error."""
        if not self.address:
            return
        message = "\n".join(f"{name}={text}" for name, text in assignments.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.setblocking(False)
                end.sendto(message.encode(errors="replace"), self.address)
        except OSError as error:
            log.warning("systemd.notify_failed", told=next(iter(assignments)), error=str(error))
