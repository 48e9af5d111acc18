"""Real time in these tests: what it is, and how they wait for a claim to come true."""

import time
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


def now() -> float:
    """Give the seconds since 1970, as the simulator counts them."""
    return time.time()


async def until(claim: Callable[[], T], *, within: float = 30.0) -> T:
    """Wait until a claim is true and give what it says."""
    with anyio.fail_after(within):
        while not (found := claim()):  # noqa: ASYNC110 - it comes true in another process
            await anyio.sleep(0.01)
    return found
