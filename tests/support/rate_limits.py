"""Turns at a budget, in virtual time."""

import anyio

from poller.core.errors import PollError, Refused, Throttled, Transient
from poller.sutro.rate_limit import Budget
from tests.support.virtual_time import virtual_clock

HOUR = 3_600.0
KEY_REFUSED = Refused("no", status=401)
JOB_REFUSED = Refused("no", status=403)
HALVE = Throttled("slow down", retry_after=None)
TROUBLE = Transient("trouble")


def a_budget(per_minute: float = 60.0, jitter: float = 0.0, *, is_proven: bool = True) -> Budget:
    """Make a budget whose first answer has come, unless told otherwise."""
    budget = Budget(per_minute=per_minute, now=virtual_clock().steady, random=lambda: jitter)
    if is_proven:
        budget.is_proven = True
    return budget


async def spend(budget: Budget, seconds: float, error: PollError | None = None) -> list[float]:
    """Make requests as fast as they may go, each answered at once; say when they went."""
    times: list[float] = []
    began = anyio.current_time()
    with anyio.move_on_after(seconds):
        while True:
            is_trial = await budget.turn()
            times.append(anyio.current_time() - began)
            budget.report(error, is_trial=is_trial)
    return times
