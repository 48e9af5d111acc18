"""Requests at a rate limiter, in virtual time."""

import anyio

from poller.core.errors import Intercepted, PollError, RateLimited, Transient, Unauthorized
from poller.sutro.rate_limit import RateLimiter
from tests.support.virtual_time import virtual_clock

HOUR = 3_600.0
KEY_REJECTED = Unauthorized("no", status=401)
JOB_FORBIDDEN = Unauthorized("no", status=403)
PAGE = Intercepted("a page")
HALVE = RateLimited("slow down", retry_after=None)
TROUBLE = Transient("trouble")


def a_rate_limiter(
    per_minute: float = 60.0, jitter: float = 0.0, *, has_answered: bool = True
) -> RateLimiter:
    """Return a rate limiter whose first response has come, by default."""
    rate_limiter = RateLimiter(
        per_minute=per_minute, now=virtual_clock().steady, random=lambda: jitter
    )
    rate_limiter.has_answered = has_answered
    return rate_limiter


async def spend(
    rate_limiter: RateLimiter, seconds: float, error: PollError | None = None
) -> list[float]:
    """Send requests as fast as allowed, with immediate results; return their times."""
    times: list[float] = []
    began = anyio.current_time()
    with anyio.move_on_after(seconds):
        while True:
            is_probe = await rate_limiter.acquire()
            times.append(anyio.current_time() - began)
            rate_limiter.report(error, is_probe=is_probe)
    return times
