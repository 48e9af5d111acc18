"""The pace of all requests to one host: its rate, its pauses, and the gate of a refused key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from poller.core.counters import Counters
from poller.core.errors import (
    NotFound,
    PollError,
    RateLimited,
    ResponseTooLarge,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.pacing import Random

PROBE_DELAYS: Final = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
"""Waits before each trial request while the key is refused; the last one repeats."""
RECOVERY_SECONDS: Final = 300.0
"""Seconds in which a halved rate climbs back to the whole."""
MIN_RATE_SHARE: Final = 1 / 64
TOKEN_EPSILON: Final = 1.0 - 1e-6
"""So much is a whole turn: a clock of 2e9 seconds has no step as short as the wait for the rest."""
RECHECK_INTERVAL: Final = 5.0
"""Seconds after which a wait is reckoned anew: while the rate recovers, waits grow shorter."""
PAUSE_JITTER: Final = 1.0


@dataclass(slots=True)
class AuthGate:
    """Closed by the first refusal, opened by the first answer.

    A 401 speaks of the key. A 403 may speak of one job alone, so its first trial, with another
    job, comes at once and takes the place of the first wait. `is_refused` once a trial has
    confirmed that the key is refused for all.
    """

    opens_at: float | None = None
    is_rejected: bool = False
    _rung: int = 0

    def close(self, error: Unauthorized, now: float, *, is_probe: bool) -> None:
        """Take in a refusal; those of requests that were already under way change nothing."""
        if self.opens_at is None:
            self._rung = 1
            self.opens_at = now if error.status == 403 else now + PROBE_DELAYS[0]
        elif is_probe:
            self.is_rejected = True
            self.postpone(now)

    def postpone(self, now: float) -> None:
        """Wait for the next trial, each time longer."""
        self.opens_at = now + PROBE_DELAYS[min(self._rung, len(PROBE_DELAYS) - 1)]
        self._rung += 1

    def open(self) -> None:
        """Let all requests through again."""
        self.opens_at, self.is_rejected, self._rung = None, False, 0


class RateLimiter:
    """Say when the next request may go.

    The bucket holds half a second's worth and one request more, so that no second sees more than
    one and a half of the rate. Until the first answer of the process one request is under way at
    a time: a wrong key or URL is found out with one request, not with all. From then on it
    `is_proven`.
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
        self._changed = anyio.Event()
        self.gate = AuthGate()
        self.reachability = ApiReachability(now)

    async def acquire(self) -> bool:
        """Wait until one request may go, and say whether it is a trial at a closed gate."""
        while (is_probe := await self.try_acquire()) is None:
            pass
        return is_probe

    async def try_acquire(self) -> bool | None:
        """Like `turn`, but None when a wait of a few seconds was not enough."""
        wait = self._wait(self._now())
        if wait > 0.0:
            if self._changed.is_set():
                self._changed = anyio.Event()
            with anyio.move_on_after(min(wait, RECHECK_INTERVAL)):
                await self._changed.wait()
            return None
        self._tokens -= 1.0
        self._in_flight += 1
        return self.gate.opens_at is not None

    def release_unused(self) -> None:
        """Return a turn that was not used."""
        self._tokens += 1.0
        self._end()

    def report(self, error: PollError | None, *, is_probe: bool) -> None:
        """Take in what became of a turn: an error, or None for an answer about a job."""
        now = self._now()
        self.reachability.record(error)
        self._counts.record_poll(error)
        if error is None or isinstance(error, ResponseTooLarge):
            self.has_answered = True
            if is_probe:
                self.gate.open()
        elif isinstance(error, Unauthorized):
            self.gate.close(error, now, is_probe=is_probe)
        elif is_probe:
            self.gate.postpone(now)
        if isinstance(error, RateLimited):
            self._slow_down(error, now)
        self._end()

    def retry(self) -> None:
        """Let the next trial at a closed gate go now: somebody may have put the key right."""
        if self.gate.opens_at is not None:
            self.gate.opens_at = self._now()
            self._changed.set()

    def _end(self) -> None:
        self._in_flight -= 1
        self._changed.set()

    def _slow_down(self, error: RateLimited, now: float) -> None:
        """Pause to the second where the host names one, else halve the rate."""
        if error.retry_after is None:
            self._fill(now)
            self._share = max(self._share / 2.0, MIN_RATE_SHARE)
            self._tokens = min(self._tokens, 0.0)
            return
        until = now + error.retry_after + self._random() * PAUSE_JITTER
        self._paused_until = max(self._paused_until, until)

    def _wait(self, now: float) -> float:
        """Say how long until the next turn; 0 for now, infinite until something changes."""
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


STALE_AFTER: Final = 300.0
"""Seconds without an answer, though the API was asked, after which what is known is old."""


@dataclass(slots=True)
class ApiReachability:
    """When the API was last heard, and since when it is not though it is asked.

    `heard_at` is None before the first answer about a job or the list, `failing_since` while
    nothing fails.
    """

    now: Callable[[], float]
    last_response_at: float | None = None
    failing_since: float | None = None
    _error: PollError | None = None

    def record(self, error: PollError | None) -> None:
        """Take in what became of a request: an error, or None for an answer."""
        if error is None or isinstance(error, NotFound | ResponseTooLarge):
            self.last_response_at, self.failing_since, self._error = self.now(), None, None
            return
        self._error = error
        if self.failing_since is None:
            self.failing_since = self.now()

    @property
    def is_stale(self) -> bool:
        """Whether nothing has been heard for long."""
        return self.failing_since is not None and self.now() - self.failing_since > STALE_AFTER

    @property
    def is_wrong_endpoint(self) -> bool:
        """Whether what answers, if anything, is not the API."""
        return isinstance(self._error, WrongEndpoint)
