"""Turns at a budget, in virtual time."""

import anyio

from poller.core.errors import PollError, RateLimited, Transient, Unauthorized
from poller.sutro.rate_limit import RateLimiter
from tests.support.virtual_time import virtual_clock

HOUR = 3_600.0
KEY_REFUSED = Unauthorized("no", status=401)
JOB_REFUSED = Unauthorized("no", status=403)
HALVE = RateLimited("slow down", retry_after=None)
TROUBLE = Transient("trouble")


def a_budget(
    per_minute: float = 60.0, jitter: float = 0.0, *, is_proven: bool = True
) -> RateLimiter:
    """Make a budget whose first answer has come, unless told otherwise."""
    rate_limiter = RateLimiter(
        per_minute=per_minute, now=virtual_clock().steady, random=lambda: jitter
    )
    if is_proven:
        rate_limiter.has_answered = True
    return rate_limiter


async def spend(
    rate_limiter: RateLimiter, seconds: float, error: PollError | None = None
) -> list[float]:
    """Make requests as fast as they may go, each answered at once; say when they went."""
    times: list[float] = []
    began = anyio.current_time()
    with anyio.move_on_after(seconds):
        while True:
            is_probe = await rate_limiter.acquire()
            times.append(anyio.current_time() - began)
            rate_limiter.report(error, is_probe=is_probe)
    return times
