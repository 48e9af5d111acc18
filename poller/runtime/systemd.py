"""Notifies systemd of the daemon's state with sd_notify(3); does nothing without systemd."""

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
EXTEND_INTERVAL: Final = 10.0
FEED_FRACTION: Final = 0.25
"""The part of the watchdog's interval after which it is notified.

sd_watchdog_enabled(3) advises half, for a daemon that never leaves a notification out: here a loop
that is late at one moment would make the next notification come just when the time is over.
"""
MAX_STATUS_CHARS: Final = 1_000
"""A character may take four bytes, and a message may have 4,096."""

log = structlog.get_logger()


@dataclass(slots=True)
class SystemdNotifier:
    """Sends notifications to the socket at `address`, if there is one.

    systemd ends the process if no WATCHDOG notification comes for `watchdog` seconds.
    """

    address: str = ""
    watchdog: float = math.inf
    _is_ready: bool = field(default=False, init=False)

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Return the notifier for process `pid`; the variables may be for another process."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]  # an abstract socket, not a file
        usec = environment.get("WATCHDOG_USEC", "")
        is_for_us = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog = int(usec) / 1e6 if is_for_us and usec.isdecimal() else 0.0
        return cls(address, watchdog or math.inf)

    async def extend_start(self) -> None:
        """Extend the timeout of the start until cancelled: a migration may take minutes."""
        while self.address:
            await anyio.sleep(EXTEND_INTERVAL)
            self._send(EXTEND_TIMEOUT_USEC=str(int(3 * EXTEND_INTERVAL * 1e6)))

    async def run(
        self, stalled: Callable[[], Sequence[str]], summary: Callable[[], Awaitable[str]]
    ) -> None:
        """Send READY, then STATUS on changes, and WATCHDOG while no loop is stalled."""
        if not self.address:
            return
        self._is_ready = True
        self._send(READY="1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed_watchdog, stalled, name="watchdog")
            tasks.start_soon(self._send_status, summary, name="status")

    def status(self, text: str) -> None:
        """Send a status in one line for people."""
        self._send(STATUS=" ".join(text.split())[:MAX_STATUS_CHARS])

    def stopping(self) -> None:
        """Notify systemd that the daemon stops."""
        self._send(STOPPING="1", STATUS="stopping: waiting for deliveries in flight")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Notify systemd of the start and the end of a reload; not before the daemon is ready."""
        if self._is_ready:
            self._send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1_000))
        yield
        if self._is_ready:
            self._send(READY="1")

    async def _feed_watchdog(self, stalled: Callable[[], Sequence[str]]) -> None:
        while True:
            await anyio.sleep(self.watchdog * FEED_FRACTION)
            if names := stalled():
                log.error("watchdog.skipped", stalled=",".join(names))
            else:
                self._send(WATCHDOG="1")

    async def _send_status(self, summary: Callable[[], Awaitable[str]]) -> None:
        last = ""
        while True:
            if (line := await summary()) != last:
                self.status(line)
                last = line
            await anyio.sleep(STATUS_INTERVAL)

    def _send(self, **assignments: str) -> None:
        """Send one message; a failure is logged only, since systemd may be restarting."""
        if not self.address:
            return
        message = "\n".join(f"{name}={text}" for name, text in assignments.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.sendto(message.encode(errors="replace"), self.address)
        except OSError as error:
            log.warning("systemd.notify_failed", variable=next(iter(assignments)), error=str(error))
