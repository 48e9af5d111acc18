"""How long to wait until the next poll of a job."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from poller.core.errors import NotFound, PollError, RateLimited, Rejected, Unauthorized
from poller.core.job_status import JobStatus
from poller.core.jobs import is_plausible
from poller.core.lifecycle import is_as_known
from poller.core.poll_order import Priority
from poller.core.state import JobState, LifecyclePolicy, Phase

Random = Callable[[], float]
"""Returns a number of [0, 1)."""

AGE_OFFSET_SECONDS: Final = 60.0
"""Seconds added to a job's age, so that the square root does not start at 0."""
QUEUED_SECONDS: Final = 180.0
"""Seconds added to the age of a queued job: it has to run before it ends."""
QUEUED_STATUSES: Final = {JobStatus.SUBMITTED, JobStatus.PENDING, JobStatus.QUEUED}
MAX_WEIGHED_RATIO: Final = 1.1
"""The longest interval of which a job has the weight, in units of the maximum: a page of a few old
jobs is due sooner than one of them alone."""
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
CONFIRM_SECONDS: Final = 600.0
CONFIRM_SHARE: Final = 0.1
"""How long pages alone may show a job: ten minutes, or a tenth of the job's age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPolicy:
    """How often jobs are polled that have been queued, or have run, for some time.

    Where nothing is known of a job's length, the chance h that it ends in the next second is about
    1 / (its age + 60). A request is worth its price when the sum of h t² over the jobs that it
    shows reaches factor², t being the seconds since each was last polled: twice the lag that is to
    be expected. One job alone is then polled at intervals that grow with the square root of its
    age, and many on one page at intervals that shrink with the square root of their number. Only
    the weight of an old job is higher than that, so that a page of a few is due sooner than one.
    Equal bounds give a fixed interval.
    """

    minimum: float = 2.0
    maximum: float = 30.0
    factor: float = 0.6

    def smoothed(self, age_seconds: float) -> float:
        """Return an age plus a minute: a new job is not polled without pause."""
        return max(age_seconds, 0.0) + AGE_OFFSET_SECONDS

    def weight(self, age_seconds: float) -> float:
        """Return what to multiply the square of the seconds since the last poll with."""
        longest = MAX_WEIGHED_RATIO * self.maximum
        return 1.0 / min(self._ideal_interval(age_seconds), longest) ** 2

    def interval(self, age_seconds: float) -> float:
        """Return the seconds between two polls of one job alone, before jitter."""
        return min(max(self._ideal_interval(age_seconds), self.minimum), self.maximum)

    def _ideal_interval(self, age_seconds: float) -> float:
        return self.factor * math.sqrt(self.smoothed(age_seconds))


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


class NextPoll(NamedTuple):
    """The next poll of a job: after how many seconds, and in which way."""

    delay: float
    rule: "PollRule"
    began_at: float | None
    """When the job's phase began, if it is in the sum of the page that shows it."""


def next_poll(
    state: JobState,
    result: object,
    failures: int,
    *,
    now: float,
    policy: PollPolicy,
    rules: LifecyclePolicy,
    random: Random,
    clock_skew: float = 0.0,
) -> NextPoll | None:
    """Return the next poll of a job, or None for never.

    `result` is what the last poll returned; `failures` counts those in a row (`is_failure`), this
    one included. `clock_skew` is the API's clock minus ours: a job's times are the API's.
    """
    rule = POLL_RULES[poll_reason(state, now)]
    age = _phase_age(state, now, clock_skew)
    interval = rule.interval(state, now, policy.interval(age), rules)
    if interval is None:
        return None
    usual = interval * (1.0 + JITTER_SHARE * (2.0 * random() - 1.0))
    delay = _delay(state, result, failures, usual, random)
    is_in_sum = rule.is_in_sum and not isinstance(result, PollError)
    return NextPoll(delay, rule, now - age if is_in_sum else None)


def _delay(state: JobState, result: object, failures: int, usual: float, random: Random) -> float:
    """Return the usual delay, or that after a failure."""
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


def confirmation_delay(state: JobState, now: float, clock_skew: float, random: Random) -> float:
    """Return for how many seconds pages alone may show a job, from now on."""
    age = _age(state, state.job.datetime_created if state.job else None, now, clock_skew)
    return max(CONFIRM_SECONDS, CONFIRM_SHARE * age) * (1.0 - JITTER_SHARE * random())


# How each kind of job is polled.


class PollReason(StrEnum):
    """What a job is polled for."""

    NEVER_SHOWN = "no response has shown it"
    USUAL = "a change: every response shows what is known"
    UNCLEAR = "a change, but the last response was odd: a 404, an unknown status, a wrong field"
    COMPLETING = "its end: it has a completion time, and no status of an end"
    SETTLING = "the fields of an end that is to be announced in seconds"
    UNRECOGNISED = "its end: it was announced as unrecognised"
    MISSING = "its return: it was announced as missing"
    UNFINISHED = "the fields of an end that was announced without them"


def poll_reason(state: JobState, now: float) -> PollReason:
    """Return what a job is polled for."""
    if state.is_given_up:
        return PollReason.MISSING if state.phase is Phase.MISSING else PollReason.UNRECOGNISED
    reason = REASONS[state.phase]
    if reason is not PollReason.USUAL or is_as_known(state):
        return reason
    since = state.completing_since
    is_completing = since is not None and now - since < COMPLETING_SECONDS
    return PollReason.COMPLETING if is_completing else PollReason.UNCLEAR


REASONS: Final = {
    Phase.NEW: PollReason.NEVER_SHOWN,
    Phase.ACTIVE: PollReason.USUAL,
    Phase.SETTLING: PollReason.SETTLING,
    Phase.MISSING: PollReason.MISSING,
    Phase.DONE: PollReason.UNFINISHED,
}

Interval = Callable[[JobState, float, float, LifecyclePolicy], float | None]
"""Returns the seconds until the next poll, by the time and the interval for the job's age."""


def _by_age(_state: JobState, _now: float, by_age: float, _rules: LifecyclePolicy) -> float:
    return by_age


def _often(_state: JobState, _now: float, _by_age: float, _rules: LifecyclePolicy) -> float:
    return COMPLETING_INTERVAL


def _settle(state: JobState, now: float, _by_age: float, rules: LifecyclePolicy) -> float:
    scale = rules.settle_timeout / SETTLE_AGES[-1]
    next_in = _until_next(SETTLE_AGES, (now - state.since) / scale)
    return scale * (next_in or SETTLE_AGES[-1])


def _hourly(state: JobState, now: float, _by_age: float, _rules: LifecyclePolicy) -> float | None:
    return MISSING_INTERVAL if now - state.since < MISSING_SECONDS else None


def _late(state: JobState, now: float, _by_age: float, _rules: LifecyclePolicy) -> float | None:
    return _until_next(LATE_AGES, now - state.since) if state.awaited_fields else None


class PollRule(NamedTuple):
    """How the jobs of one kind are polled.

    `is_in_sum`: where a page shows the job, its weight is in the sum by which that page is due;
    otherwise the job has a time of its own. `is_single`: only a request for this job alone serves.
    """

    is_in_sum: bool
    is_single: bool
    interval: Interval
    priority: Priority


POLL_RULES: Final = {
    #                                  in sum  single
    PollReason.NEVER_SHOWN:   PollRule(False,  False, _by_age, Priority.FIRST),
    PollReason.USUAL:         PollRule(True,   False, _by_age, Priority.USUAL),
    PollReason.UNCLEAR:       PollRule(False,  False, _by_age, Priority.USUAL),
    PollReason.COMPLETING:    PollRule(False,  False, _often,  Priority.USUAL),
    PollReason.SETTLING:      PollRule(False,  True,  _settle, Priority.SETTLING),
    PollReason.UNRECOGNISED:  PollRule(False,  False, _hourly, Priority.USUAL),
    PollReason.MISSING:       PollRule(False,  True,  _hourly, Priority.USUAL),
    PollReason.UNFINISHED:    PollRule(False,  True,  _late,   Priority.LATE),
}  # fmt: skip
"""Any job whose poll fails is put off: it leaves the sum, and waits for its backoff, or longer
where the API rejects requests for it, until a poll of it or a page succeeds."""


def _until_next(ages: Sequence[float], age: float) -> float | None:
    """Return the seconds until the next of these ages, or None after the last."""
    for earlier, later in pairwise((0.0, *ages)):
        if later - age > NEARLY_SHARE * (later - earlier):
            return later - age
    return None


def _phase_age(state: JobState, now: float, clock_skew: float) -> float:
    job = state.job
    began = (job.datetime_started or job.datetime_created) if job else None
    more = QUEUED_SECONDS if state.status in QUEUED_STATUSES else 0.0
    return _age(state, began, now, clock_skew) + more


def _age(state: JobState, began: datetime | None, now: float, clock_skew: float) -> float:
    """Return the seconds since a time of the API, or those of the state if the time is wrong."""
    api_now = now + clock_skew
    if is_plausible(began, datetime.fromtimestamp(api_now, UTC)):
        return api_now - began.timestamp()
    return now - state.since


def _is_forbidden(result: object, failures: int) -> bool:
    """Return whether this job alone is forbidden, as far as one job can show it.

    A 403 is taken for that, and so is a 401 that comes again: the gate has been open in between,
    or has let this job through because there was no better probe.
    """
    return isinstance(result, Unauthorized) and (result.is_forbidden or failures > 1)
