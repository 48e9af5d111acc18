"""The rate limit of all requests to the API: rate, pauses, and the gate of a rejected key."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from poller.core.counters import Counters
from poller.core.errors import (
    FOREIGN_ERRORS,
    Intercepted,
    NotFound,
    PollError,
    RateLimited,
    ResponseTooLarge,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.pacing import BACKOFF, Random, delay_after
from poller.runtime.wakeup import Wakeup

PROBE_DELAYS: Final = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
"""Seconds before each probe while the API key is rejected; the last one repeats."""
RECOVERY_SECONDS: Final = 300.0
"""Seconds in which the rate recovers linearly from 0 to the whole."""
POLLS: Final = "polls"
SCANS: Final = "scans"
"""The users of the rate limit: each gets its turn."""
MIN_RATE_SHARE: Final = 1 / 64
TOKEN_EPSILON: Final = 1.0 - 1e-6
"""Rounding tolerance: at epoch-sized floats a shorter wait is not representable."""
RECHECK_INTERVAL: Final = 5.0
"""Seconds after which a wait is computed again: while the rate recovers, waits grow shorter."""
PAUSE_JITTER_SECONDS: Final = 1.0
TURN_SECONDS: Final = 0.05
"""How long one user of the limit waits for another, whose turn it is, to take its token."""
STALE_SECONDS: Final = 300.0
"""Seconds of failing requests after which what is known of the jobs is stale."""


@dataclass(slots=True)
class AuthGate:
    """Closed by the first 401 or 403, opened by the first response that proves the key.

    A 401 of the API concerns the key. A 403, or the page of a proxy, may concern one job alone, so
    its first probe, with another job, comes at once in place of the first wait. Where that one is
    forbidden too, so may both be, one by one: then a check follows at once, which is a request that
    concerns no job. `is_rejected` once a probe has confirmed that the API rejects the key, not one
    job. A 403 of a job that was forbidden before, while others were not, says nothing about the
    key. `is_checkable` until the API has rejected the ID of a check.
    """

    opens_at: float | None = None
    is_rejected: bool = False
    is_checkable: bool = True
    _was_checked: bool = False
    _is_suspected: bool = False
    _probes: int = 0
    _failures: int = 0
    _suspects: set[str] = field(default_factory=set)
    _forbidden_jobs: set[str] = field(default_factory=set)

    def needs_check(self, job_id: str) -> bool:
        """Return whether a check, in place of this job, is the next probe.

        So it is where the API has forbidden this job, perhaps this one alone, or two others. Checks
        and jobs take turns: there are hosts that forbid all jobs that do not exist.
        """
        is_suspect = job_id in self._suspects or job_id in self._forbidden_jobs
        is_undecided = len(self._suspects) > 1 and not self.is_rejected
        return self.is_checkable and not self._was_checked and (is_suspect or is_undecided)

    def concerns(self, error: PollError, job_id: str | None) -> bool:
        """Return whether an error may be a rejection of the key."""
        if isinstance(error, Unauthorized) and error.is_forbidden:
            return job_id not in self._forbidden_jobs
        return isinstance(error, Unauthorized | Intercepted)

    def close(
        self, error: PollError, now: float, *, is_probe: bool, job_id: str | None = None
    ) -> None:
        """Record a rejection; those of requests that were already under way change nothing."""
        is_about_key = isinstance(error, Unauthorized) and not error.is_forbidden
        suspects = len(self._suspects)
        if job_id and isinstance(error, Unauthorized) and error.is_forbidden:
            self._suspects.add(job_id)
        if self.opens_at is None:
            self.opens_at = now + PROBE_DELAYS[0] if is_about_key else now
        elif is_probe:
            is_confirmed = self._is_suspected and (job_id is None or not self.is_checkable)
            if isinstance(error, Unauthorized) and (is_about_key or is_confirmed):
                self.is_rejected = True
            is_undecided = len(self._suspects) > max(suspects, 1) and not self.is_rejected
            delay = 0.0 if is_undecided else delay_after(self._probes + 1, PROBE_DELAYS)
            self.opens_at = now + delay
        else:
            return
        self._is_suspected, self._was_checked = isinstance(error, Unauthorized), job_id is None
        self._probes, self._failures = self._probes + 1, 0

    def repeat(self, now: float, random: Random) -> None:
        """Repeat a probe that failed for a reason that says nothing about the key."""
        self._failures += 1
        self.opens_at = now + BACKOFF.delay(self._failures, random)

    def accept(self, job_id: str | None) -> None:
        """Record that the API has accepted the key, for this job if for one alone."""
        if job_id:
            self._forbidden_jobs.discard(job_id)

    def open(self) -> None:
        """Allow all requests again: unless the key was rejected, only single jobs were."""
        if not self.is_rejected:
            self._forbidden_jobs |= self._suspects
        self._suspects, self.is_checkable, self._was_checked = set(), True, False
        self.opens_at, self.is_rejected, self._is_suspected = None, False, False
        self._probes, self._failures = 0, 0


class RateLimiter:
    """A token bucket for requests to the API, with pauses and a gate.

    The bucket holds the tokens of half a second and one more, so that no second sees more than one
    and a half of the rate. Until the process `has_answered`, one request is under way at a time: a
    wrong key or URL costs one request, not all of them. `is_key_accepted` once the API has sent
    anything that it sends only to a valid key, also that it does not know a job. While polls
    and scans both wait for a token, each gets every second one.
    """

    def __init__(
        self,
        *,
        per_minute: float,
        now: Callable[[], float],
        random: Random,
        counts: Counters | None = None,
    ) -> None:
        self._rate = per_minute / 60.0
        self._now = now
        self._random = random
        self._counts = counts or Counters()
        self._tokens = 1.0
        self._filled_at = now()
        self._share = 1.0
        self._paused_until = 0.0
        self._in_flight = 0
        self.has_answered = False
        self.is_key_accepted = False
        self._changed = Wakeup()
        self._waiting: set[str] = set()
        self._last_user = ""
        self.gate = AuthGate()
        self.reachability = ApiReachability(now)

    async def acquire(self, user: str = POLLS) -> bool:
        """Wait until one request may be sent; return whether it is a probe at a closed gate."""
        while (is_probe := await self.try_acquire(user)) is None:
            pass
        return is_probe

    async def try_acquire(self, user: str = POLLS) -> bool | None:
        """Like `acquire`, but return None after a few seconds of waiting."""
        wait = self._wait(self._now())
        if wait <= 0.0 and self._last_user == user and self._waiting - {user}:
            self._waiting.clear()  # once: the other may wait no more
            wait = TURN_SECONDS
        if wait > 0.0:
            self._waiting.add(user)
            await self._changed.wait(min(wait, RECHECK_INTERVAL))
            return None
        self._waiting.discard(user)
        self._last_user = user
        self._tokens -= 1.0
        self._in_flight += 1
        return self.gate.opens_at is not None

    def release_unused(self) -> None:
        """Return a token that was not used to the bucket."""
        self._tokens += 1.0
        self._end()

    def report(self, error: PollError | None, *, is_probe: bool, job_id: str | None = None) -> None:
        """Record the result of a request: an error, or None for a response about jobs.

        `job_id`: the job that was requested, if it was one alone.
        """
        now = self._now()
        self.reachability.record(error)
        self._counts.record_poll(error)
        if error is None or isinstance(error, ResponseTooLarge):
            self.has_answered = True
        if error is None or isinstance(error, ResponseTooLarge | NotFound):
            self.is_key_accepted = True
            self.gate.accept(job_id)
            if is_probe:
                self.gate.open()
        elif self.gate.concerns(error, job_id):
            self.gate.close(error, now, is_probe=is_probe, job_id=job_id)
        elif is_probe:
            self.gate.repeat(now, self._random)
        if isinstance(error, RateLimited):
            self._slow_down(error, now)
        self._end()

    def retry(self) -> None:
        """Allow the next probe at a closed gate now: the API key may have been replaced."""
        if self.gate.opens_at is not None:
            self.gate.opens_at = self._now()
            self._changed.notify()

    def _end(self) -> None:
        self._in_flight -= 1
        self._changed.notify()

    def _slow_down(self, error: RateLimited, now: float) -> None:
        """Pause for as long as the API demands; halve the rate if it names no time."""
        if error.retry_after is None:
            self._fill(now)
            self._share = max(self._share / 2.0, MIN_RATE_SHARE)
            self._tokens = min(self._tokens, 0.0)
            return
        until = now + error.retry_after + self._random() * PAUSE_JITTER_SECONDS
        self._paused_until = max(self._paused_until, until)

    def _wait(self, now: float) -> float:
        """Return the seconds until the next request; infinite until something changes."""
        gate = self.gate.opens_at
        if self._in_flight and (gate is not None or not self.has_answered):
            return float("inf")
        self._fill(now)
        missing = 1.0 - self._tokens if self._tokens < TOKEN_EPSILON else 0.0
        wait = missing / (self._rate * self._share)
        return max(wait, self._paused_until - now, (gate or now) - now)

    def _fill(self, now: float) -> None:
        elapsed, self._filled_at = now - self._filled_at, now
        full = 1.0 + self._rate / 2.0
        self._tokens = min(full, self._tokens + elapsed * self._rate * self._share)
        self._share = min(1.0, self._share + elapsed / RECOVERY_SECONDS)


@dataclass(slots=True)
class ApiReachability:
    """When the API last responded, and since when requests fail.

    `last_response_at` is None before the first response about a job or the list, `failing_since`
    while no request fails.
    """

    now: Callable[[], float]
    last_response_at: float | None = None
    failing_since: float | None = None
    _error: PollError | None = None

    def record(self, error: PollError | None) -> None:
        """Record the result of a request: an error, or None for a response."""
        if error is None or isinstance(error, NotFound | ResponseTooLarge):
            self.last_response_at, self.failing_since, self._error = self.now(), None, None
            return
        self._error = error
        if self.failing_since is None:
            self.failing_since = self.now()

    @property
    def last_error(self) -> str | None:
        """The error of the last request, None if it succeeded."""
        return str(self._error) if self._error else None

    @property
    def failing_seconds(self) -> float:
        """For how long requests have failed; 0 if the last one succeeded."""
        return 0.0 if self.failing_since is None else self.now() - self.failing_since

    @property
    def is_stale(self) -> bool:
        """Return whether requests have failed for so long that the known states are stale."""
        return self.failing_seconds > STALE_SECONDS

    @property
    def is_wrong_endpoint(self) -> bool:
        """Return whether the last response did not come from the API.

        Before the API has responded at all, no other response is taken for one of its own.
        """
        foreign = WrongEndpoint if self.last_response_at else FOREIGN_ERRORS
        return isinstance(self._error, foreign)
