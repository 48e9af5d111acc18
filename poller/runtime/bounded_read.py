"""Reads that are bounded in time: a mount whose server is gone may hold one up for ever."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Final, Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

READ_TIMEOUT: Final = 5.0
"""Seconds that a read may take before the others go on without it."""

T = TypeVar("T")


class BoundedRead(Generic[T]):
    """One read, in a thread that nothing waits for at exit.

    While it hangs no other thread is started: later calls wait for the same read.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._running: Future[T] | None = None
        self._limiter = anyio.CapacityLimiter(1)

    async def __call__(self) -> T:
        """Return what the read returns. Raises its error, or TimeoutError after READ_TIMEOUT."""
        if self._running is None:
            self._running = Future()
            Thread(target=_resolve, args=(self._running, self._read), daemon=True).start()
        running = self._running
        try:
            return await run_sync(
                running.result, READ_TIMEOUT, limiter=self._limiter, abandon_on_cancel=True
            )
        finally:
            if running.done():
                self._running = None


def _resolve(future: Future[T], read: Callable[[], T]) -> None:
    try:
        future.set_result(read())
    except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
        future.set_exception(error)
