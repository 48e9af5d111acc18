"""Retries while the store is unavailable: a full or failing disk may recover."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import structlog

from poller.core.errors import StoreUnavailable
from poller.runtime.log_throttle import LogThrottle

STORE_RETRY_INTERVAL: Final = 5.0
"""Seconds between two attempts."""

T = TypeVar("T")
log = structlog.get_logger()


async def until_available(
    call: Callable[[], Awaitable[T]],
    *,
    on_error: Callable[[StoreUnavailable], object],
    interval: float = STORE_RETRY_INTERVAL,
    beat: Callable[[], object] = lambda: None,
) -> T:
    """Return the result of `call`, retried every `interval` seconds while the store fails.

    `on_error` gets each StoreUnavailable. `beat` is called before each attempt.
    """
    while True:
        beat()
        try:
            return await call()
        except StoreUnavailable as error:
            on_error(error)
        await anyio.sleep(interval)


def log_store_error(throttle: LogThrottle, error: StoreUnavailable, **keys: object) -> None:
    """Log that the store is unavailable, unless the throttle holds this text back."""
    if occurrences := throttle.should_log(str(error)):
        log.error("store.unavailable", **keys, error=str(error), occurrences=occurrences)
