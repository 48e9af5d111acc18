"""Virtual time: an event loop that never waits, because its clock jumps to what comes next.

Network I/O is real. The clock jumps only when no callback is ready, no socket is ready, and
nothing sent over loopback is still on its way, so that no round trip between two ends in this
loop is ever overtaken by a timeout. What happens in another thread or process is invisible here:
the clock does not wait for `anyio.to_thread`, so what uses it has no place under virtual time.
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
"""What the wall clock of `virtual_clock` says when a loop begins."""

HANDSHAKE: Final = 3
"""How many packets can follow from one without this process doing anything: SYN, SYN-ACK, ACK."""

PATIENCE: Final = 60.0
"""Real seconds that a loop in which nothing is scheduled waits for another thread."""


Ready = list[tuple[selectors.SelectorKey, int]]


class DeadlineExceeded(AssertionError):
    """A test needs more virtual time than it was given, or waits for what never comes."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio whose `time` starts at 0 and passes only while it is idle.

    `limit` is in virtual seconds. Past it whatever runs the loop gets DeadlineExceeded.
    """

    def __init__(self, limit: float = 3_600.0) -> None:
        self._jumping = _JumpingSelector(limit)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the virtual seconds since the loop was made."""
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
        for _ in range(HANDSHAKE):
            self._let_loopback_settle()
            if ready := super().select(0):
                return ready
        if timeout is None:
            return self._wait_for_a_thread()
        self._jump(timeout)
        return []

    def _let_loopback_settle(self) -> None:
        """Send ourselves a packet: loopback is a queue, so all sent before has arrived too."""
        self._echo.send(b".")
        self._echo.recv(1)

    def _wait_for_a_thread(self) -> Ready:
        if ready := super().select(PATIENCE):
            return ready
        raise DeadlineExceeded("every task waits, and nothing is scheduled that could wake one")

    def _jump(self, seconds: float) -> None:
        if self.now + seconds > self._deadline:
            # The tasks that are cancelled because of this get as much time again to clean up.
            self._deadline = self.now + self._limit
            raise DeadlineExceeded(f"not done after {self.now:.0f} of {self._limit:.0f} virtual s")
        self.now += seconds


def virtual_clock(start: datetime = START) -> Clock:
    """Give a clock that shows `start` at the loop's time 0 and follows the running loop."""

    def wall() -> float:
        return start.timestamp() + anyio.current_time()

    return Clock(monotonic=anyio.current_time, wall=wall)
