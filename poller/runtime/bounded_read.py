"""Reads that are bounded in time: a mount whose server is gone may hold one up for ever."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

import anyio

from poller.runtime.threads import call_in_thread

READ_TIMEOUT: Final = 5.0
"""Seconds that a read may take before the others go on without it."""

T = TypeVar("T")


class BoundedRead(Generic[T]):
    """One read; while it hangs no other one is begun: later calls wait for the same."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._running: Future[T] | None = None

    async def __call__(self) -> T:
        """Return what the read returns. Raises its error, or TimeoutError after READ_TIMEOUT."""
        running = self._running = self._running or call_in_thread(self._read, "read")
        try:
            with anyio.fail_after(READ_TIMEOUT):
                return await asyncio.wrap_future(running)
        finally:
            if running.done() and self._running is running:
                self._running = None
