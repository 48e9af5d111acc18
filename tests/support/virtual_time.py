"""Virtual time: an event loop that never waits, because its clock jumps to the next timer.

Network I/O is real. The clock jumps only when no callback is ready, no socket is ready, and
nothing sent over loopback is still in transit, so that no timeout fires before a round trip
within this loop ends. Other threads and processes are invisible: the clock does not wait for
`anyio.to_thread`, so code that uses it cannot run in virtual time.
"""

import asyncio
import selectors
import socket
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import pytest

from poller.runtime.clock import Clock

START: Final = datetime(2024, 1, 15, 10, 0, tzinfo=UTC)
"""The wall-clock time of `virtual_clock` when a loop starts."""

HANDSHAKE_PACKETS: Final = 3
"""The number of packets that the kernel sends for one connection: SYN, SYN-ACK, ACK."""

THREAD_TIMEOUT: Final = 60.0
"""Real seconds that a loop without timers waits for another thread."""


Ready = list[tuple[selectors.SelectorKey, int]]


class DeadlineExceeded(AssertionError):
    """A test needs more virtual time than its limit, or waits for something that never happens."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio whose `time` starts at 0 and passes only while it is idle.

    `limit` is in virtual seconds; after it the loop raises DeadlineExceeded.
    """

    def __init__(self, limit: float = 3_600.0) -> None:
        self._jumping = _JumpingSelector(limit)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._jumping.now

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Raise a failure of pytest, as of its time limit, that was raised in a callback."""
        if isinstance(failure := context.get("exception"), pytest.fail.Exception):
            raise failure
        super().call_exception_handler(context)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait for the threads of the executor without a timeout: their time is real."""
        await super().shutdown_default_executor()


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.now = 0.0
        self._limit = self._deadline = limit
        self._echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._echo.bind(("127.0.0.1", 0))
        self._echo.connect(self._echo.getsockname())

    def close(self) -> None:
        self._echo.close()
        super().close()

    def select(self, timeout: float | None = None) -> Ready:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        for _ in range(HANDSHAKE_PACKETS):
            self._drain_loopback()
            if ready := super().select(0):
                return ready
        if timeout is None:
            return self._wait_for_thread()
        self._jump(timeout)
        return []

    def _drain_loopback(self) -> None:
        """Send ourselves a packet: loopback is a queue, so all earlier packets arrive first."""
        self._echo.send(b".")
        self._echo.recv(1)

    def _wait_for_thread(self) -> Ready:
        if ready := super().select(THREAD_TIMEOUT):
            return ready
        raise DeadlineExceeded("every task waits, and nothing is scheduled that could wake one")

    def _jump(self, seconds: float) -> None:
        if self.now + seconds > self._deadline:
            # The tasks that are cancelled now get the same time again to clean up.
            self._deadline = self.now + self._limit
            raise DeadlineExceeded(f"not done after {self.now:.0f} of {self._limit:.0f} virtual s")
        self.now += seconds


def virtual_clock(start: datetime = START) -> Clock:
    """Return a clock that shows `start` at the loop's time 0 and follows the running loop."""

    def wall() -> float:
        return start.timestamp() + anyio.current_time()

    return Clock(monotonic=anyio.current_time, wall=wall)
