"""How long to wait after a look, by what it came to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from poller.core.errors import NotFound, PollError, RateLimited, Rejected, Unauthorized

Random = Callable[[], float]
"""Gives a number of [0, 1)."""


AGE_OFFSET_SECONDS = 60.0
"""Seconds added to a phase's age, so that the square root does not start at nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPolicy:
    """How often to look at a job that has been queued, or has run, for so long.

    Poll density in proportion to the square root of the chance that the job ends now is optimal,
    and where nothing is known of its length that is an interval that grows with the square root
    of its age. Equal bounds give a fixed interval.
    """

    minimum: float = 2.0
    maximum: float = 300.0
    factor: float = 1.0

    def interval(self, phase_seconds: float) -> float:
        """Give the seconds between two looks, before jitter."""
        ideal = self.factor * math.sqrt(max(phase_seconds, 0.0) + AGE_OFFSET_SECONDS)
        return min(max(ideal, self.minimum), self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait after the nth failure in a row: doubling, jittered only upward."""

    first: float = 1.0
    last: float = 60.0

    def delay(self, failures: int, random: Random) -> float:
        """Give the seconds to wait after so many failures, at least one."""
        ideal = self.first * 2.0 ** min(failures - 1, 32)
        return min(ideal * (1.0 + random() / 2.0), self.last)


QUARANTINE_SECONDS: Final = 900.0
FORBIDDEN_STATUS: Final = 403
JITTER_SHARE: Final = 0.1
BACKOFF: Final = Backoff()


def delay_after(result: object, failures: int, interval: float, random: Random) -> float:
    """Say how many seconds to wait. `failures` counts those in a row, this one too."""
    usual = interval * (1.0 + JITTER_SHARE * (2.0 * random() - 1.0))
    if isinstance(result, Rejected) or _is_forbidden(result, failures):
        return QUARANTINE_SECONDS
    if isinstance(result, Unauthorized) or not is_failure(result):
        return usual
    return max(usual, BACKOFF.delay(failures, random))


def is_failure(result: object) -> bool:
    """Tell whether a look failed for a reason of its own.

    A 404 is an answer, and what throttles the host holds back all jobs together.
    """
    return isinstance(result, PollError) and not isinstance(result, NotFound | RateLimited)


def _is_forbidden(result: object, failures: int) -> bool:
    """Tell whether it is this one job that is refused, as far as that can be known of one job.

    A 403 is thought to be, and so is a 401 that comes again: the gate has been open in between, or
    has let this job through because there was no better one to try.
    """
    return isinstance(result, Unauthorized) and (result.status == FORBIDDEN_STATUS or failures > 1)
