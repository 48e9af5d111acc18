"""The circuit breaker of one sink. Times are seconds of one monotonic clock."""

import math
from dataclasses import dataclass, field
from typing import Final

from poller.core.errors import DeliveryError
from poller.core.pacing import delay_after
from poller.core.retry import RETRY_AFTER_CAP

PROBE_DELAYS: Final = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds before each probe of a failing sink, without jitter; the last delay repeats."""
FAILURE_THRESHOLD: Final = 5
"""Consecutive failures that open the circuit."""
SUSPECT_EVENTS: Final = 3
"""Different events in a row that each make the sink a suspect, until it is at fault."""


@dataclass(slots=True)
class CircuitBreaker:
    """A circuit breaker: it stops sending to a failing sink, and detects its recovery early.

    Five consecutive failures open it, or three different events that make the sink a suspect; then
    one probe at a time is sent, with PROBE_DELAYS between them. The first response that is no fault
    of the sink closes it. It starts slowly: one delivery at a time, then twice as many after each
    success, up to `width`.
    """

    width: int
    allowed: int = 0
    failures: int = 0
    opens_at: float | None = None
    paused_until: float = 0.0
    _probes: int = 0
    _was_failing: bool = False
    _suspicious: set[str] = field(default_factory=set)
    _at_fault: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Start closed, at full width."""
        self.allowed = self.width

    @property
    def is_open(self) -> bool:
        """Return whether only a probe may be sent."""
        return self.opens_at is not None

    @property
    def is_failing(self) -> bool:
        """Return whether the circuit is open because of attempts, not only `half_open`."""
        return self._probes > 0

    def delay(self, now: float, in_flight: int) -> float:
        """Return the seconds until a delivery may be sent; inf while others must finish first."""
        if in_flight >= (1 if self.is_open else self.allowed):
            return math.inf
        return max(0.0, self.paused_until - now, (self.opens_at or now) - now)

    def half_open(self, now: float, *, was_failing: bool) -> None:
        """Require a probe first: the condition of the sink is unknown."""
        self.opens_at, self._was_failing = now, was_failing

    def is_sink_fault(self, error: DeliveryError, event_id: str) -> bool:
        """Record whose fault a failure is; return whether it is the sink's."""
        if not error.is_suspect:
            return error.is_sink_fault
        if self.is_open and (self.is_failing or self._was_failing):
            return True
        if self.is_open:  # because of this event alone, perhaps: the others show that
            self.opens_at, self.allowed = None, 1
        self._suspicious.add(event_id)
        return len(self._suspicious) >= SUSPECT_EVENTS

    def retry_limit(self, error: DeliveryError, event_id: str) -> float:
        """Return the seconds after which a failed event is retried at the latest.

        The sink is suspect until another event is delivered: one or two events alone are its
        probes, though they do not open the circuit.
        """
        is_probe = error.is_suspect and event_id not in self._at_fault
        return PROBE_DELAYS[-1] if is_probe else math.inf

    def forget(self, event_id: str) -> None:
        """Forget an event that was delivered, or is a dead letter."""
        self._at_fault.discard(event_id)

    def record_success(self) -> bool:
        """Record a response that is no fault of the sink; return whether it closed the circuit."""
        was_open, self.opens_at = self.is_open, None
        self.failures = 0
        if not was_open:
            self._at_fault |= self._suspicious
        self._suspicious.clear()
        self._probes = 0
        self.allowed = 1 if was_open else min(self.allowed * 2, self.width)
        return was_open

    def record_failure(self, now: float, error: DeliveryError, *, is_probe: bool) -> bool:
        """Record a failure; return whether it opened the circuit."""
        self.failures += 1
        self.paused_until = max(
            self.paused_until, now + min(error.retry_after or 0.0, RETRY_AFTER_CAP)
        )
        if self.is_open and not is_probe:
            return False
        is_enough = error.is_suspect or self.failures >= FAILURE_THRESHOLD
        opened = self._probes == 0 and (self.is_open or is_enough)
        if opened or self.is_open:
            self.opens_at = now + delay_after(self._probes + 1, PROBE_DELAYS)
            self._probes += 1
        return opened
