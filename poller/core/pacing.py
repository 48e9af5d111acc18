"""How long to wait until the next poll of a job."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from poller.core.errors import NotFound, PollError, RateLimited, Rejected, Unauthorized
from poller.core.state import JobState, LifecyclePolicy, Phase

Random = Callable[[], float]
"""Returns a number of [0, 1)."""

AGE_OFFSET_SECONDS: Final = 60.0
"""Seconds added to a job's age, so that the square root does not start at 0."""
JITTER_SHARE: Final = 0.1
QUARANTINE_SECONDS: Final = 900.0
"""Seconds after a response that concerns this job alone, and will probably not change soon."""
REJECTED_DELAYS: Final = (60.0, 120.0, 300.0, QUARANTINE_SECONDS)
"""Seconds after each rejected request for a job: it may have been one odd response."""

COMPLETING_INTERVAL: Final = 2.0
COMPLETING_SECONDS: Final = 60.0
SETTLE_AGES: Final = (1.0, 3.0, 7.0, 15.0, 30.0)
"""Seconds of settling at which a job is polled, for a settle_timeout of 30 s; scaled for others."""
LATE_AGES: Final = (600.0, 3_600.0, *(day * 86_400.0 for day in range(1, 8)))
"""Seconds after an announced end at which a job is polled for the fields that it lacks."""
LATE_WATCH_SECONDS: Final = LATE_AGES[-1]
NEARLY_SHARE: Final = 1.2 * JITTER_SHARE
"""The share of the time between two such ages by which a poll may come early."""
MISSING_INTERVAL: Final = 3_600.0
MISSING_SECONDS: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPolicy:
    """How often a job is polled that has been queued, or has run, for some time.

    Where nothing is known of a job's length, the polling interval that is optimal grows with the
    square root of its age: the density of polls should be proportional to the square root of the
    chance that the job ends now. Equal bounds give a fixed interval.
    """

    minimum: float = 2.0
    maximum: float = 300.0
    factor: float = 1.0

    def interval(self, age_seconds: float) -> float:
        """Return the seconds between two polls, before jitter."""
        ideal = self.factor * math.sqrt(max(age_seconds, 0.0) + AGE_OFFSET_SECONDS)
        return min(max(ideal, self.minimum), self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double with each failure in a row, jittered only upward. Times are in seconds."""

    first: float = 1.0
    last: float = 60.0

    def delay(self, failures: int, random: Random) -> float:
        """Return the seconds to wait after so many failures, at least one."""
        ideal = self.first * 2.0 ** min(failures - 1, 32)
        return min(ideal * (1.0 + random() / 2.0), self.last)


def delay_after(failures: int, delays: Sequence[float]) -> float:
    """Return the delay after so many failures in a row, at least one; the last one repeats."""
    return delays[min(failures, len(delays)) - 1]


BACKOFF: Final = Backoff()
LATE_BACKOFF: Final = Backoff(first=600.0, last=86_400.0)
"""Polls for late fields are hours apart: one that fails is repeated before the next, but rarely."""


def next_poll_delay(
    state: JobState,
    result: object,
    failures: int,
    *,
    now: float,
    policy: PollPolicy,
    rules: LifecyclePolicy,
    random: Random,
    clock_skew: float = 0.0,
) -> float | None:
    """Return the seconds until the next poll of a job, or None for never.

    `result` is what the last poll returned; `failures` counts those in a row (`is_failure`), this
    one included. `clock_skew` is the API's clock minus ours: a job's times are the API's.
    """
    interval = _interval(state, now, policy, rules, clock_skew)
    if interval is None:
        return None
    usual = interval * (1.0 + JITTER_SHARE * (2.0 * random() - 1.0))
    if isinstance(result, Rejected):
        return delay_after(failures, REJECTED_DELAYS)
    if _is_forbidden(result, failures):
        return QUARANTINE_SECONDS
    if state.phase is Phase.DONE and isinstance(result, PollError):
        return min(usual, LATE_BACKOFF.delay(max(failures, 1), random))
    if isinstance(result, Unauthorized) or not is_failure(result):
        return usual
    return max(usual, BACKOFF.delay(failures, random))


def is_failure(result: object) -> bool:
    """Return whether a poll failed for a reason of its own.

    A 404 is a response, and a rate limit of the host holds back all jobs together.
    """
    return isinstance(result, PollError) and not isinstance(result, NotFound | RateLimited)


def _interval(
    state: JobState, now: float, policy: PollPolicy, rules: LifecyclePolicy, clock_skew: float
) -> float | None:
    age = now - state.since
    if state.is_given_up:
        return MISSING_INTERVAL if age < MISSING_SECONDS else None
    match state.phase:
        case Phase.SETTLING:
            scale = rules.settle_timeout / SETTLE_AGES[-1]
            return scale * (_until_next(SETTLE_AGES, age / scale) or SETTLE_AGES[-1])
        case Phase.DONE:
            return _until_next(LATE_AGES, age) if state.awaited_fields else None
    if state.completing_since is not None and now - state.completing_since < COMPLETING_SECONDS:
        return COMPLETING_INTERVAL
    return policy.interval(_phase_age(state, now, clock_skew))


def _until_next(ages: Sequence[float], age: float) -> float | None:
    """Return the seconds until the next of these ages, or None after the last."""
    for earlier, later in pairwise((0.0, *ages)):
        if later - age > NEARLY_SHARE * (later - earlier):
            return later - age
    return None


def _phase_age(state: JobState, now: float, clock_skew: float) -> float:
    job = state.job
    began = job and (job.datetime_started or job.datetime_created)
    return now + clock_skew - began.timestamp() if began else now - state.since


def _is_forbidden(result: object, failures: int) -> bool:
    """Return whether this job alone is forbidden, as far as one job can show it.

    A 403 is taken for that, and so is a 401 that comes again: the gate has been open in between,
    or has let this job through because there was no better probe.
    """
    return isinstance(result, Unauthorized) and (result.is_forbidden or failures > 1)
