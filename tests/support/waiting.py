"""Real time: the clock, and waiting for a condition."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import anyio

T = TypeVar("T")

PATIENCE_SECONDS: Final = 120.0
"""How long a test waits for another process: far longer than any should take on a busy machine."""


def now() -> float:
    """Return the seconds since 1970, as the simulator counts them."""
    return time.time()


async def until(claim: Callable[[], T], *, within: float = PATIENCE_SECONDS) -> T:
    """Wait until a condition is true and return its value."""
    with anyio.fail_after(within):
        while not (found := claim()):  # noqa: ASYNC110 - it changes in another process
            await anyio.sleep(0.01)
    return found
