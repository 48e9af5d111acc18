"""When to send again: the ladder of one delivery and the breaker of one sink, as numbers.

Times are seconds of one monotonic clock, which the caller reads.
"""

from dataclasses import dataclass
from typing import Final

from poller.core.errors import DeliveryError
from poller.core.pacing import Random

MINUTE: Final = 60.0
HOUR: Final = 3_600.0
RETRY_DELAYS: Final = (
    5.0,
    30.0,
    2 * MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    6 * HOUR,
)
"""Waits after each failed attempt of a delivery; the last one repeats."""
MAX_DELIVERY_AGE: Final = 7 * 24 * HOUR
"""How long a delivery is tried before it is dead."""
PROBE_DELAYS: Final = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Waits before each probe of a sink that takes nothing; the last one repeats, exactly."""
FAILURE_THRESHOLD: Final = 5
RETRY_AFTER_CAP: Final = 24 * HOUR


def retry_delay(failures: int, error: DeliveryError, random: Random) -> float:
    """Say how long to wait after so many failures: the ladder, or what the sink asked for."""
    step = RETRY_DELAYS[min(failures, len(RETRY_DELAYS)) - 1]
    return max(step * (1.0 + random() / 10.0), min(error.retry_after or 0.0, RETRY_AFTER_CAP))


@dataclass(slots=True)
class CircuitBreaker:
    """Spare a sink that takes nothing, and notice soon that it is back.

    Five failures in a row open it; then one probe at a time goes out, at the waits of PROBES. The
    first answer that does not fault the sink closes it, and it starts slowly: one delivery at a
    time, then twice as many after each success up to `width`.
    """

    width: int
    allowed: int = 0
    failures: int = 0
    opens_at: float | None = None
    paused_until: float = 0.0
    _rung: int = 0

    def __post_init__(self) -> None:
        """Begin at full width."""
        self.allowed = self.width

    @property
    def is_open(self) -> bool:
        """Whether only a probe may go."""
        return self.opens_at is not None

    def delay(self, now: float, under_way: int) -> float:
        """Say how long until a delivery may go; infinite while others have to end first."""
        if under_way >= (1 if self.is_open else self.allowed):
            return float("inf")
        return max(0.0, self.paused_until - now, (self.opens_at or now) - now)

    def half_open(self, now: float) -> None:
        """Let a probe go first: how the sink does is not known."""
        self.opens_at = now

    def record_success(self) -> bool:
        """Take in an answer that does not fault the sink; say whether that closed the breaker."""
        was_open, self.opens_at = self.is_open, None
        self.failures = 0
        self._rung = 0
        self.allowed = 1 if was_open else min(self.allowed * 2, self.width)
        return was_open

    def record_failure(self, now: float, error: DeliveryError, *, is_probe: bool) -> bool:
        """Take in a failure; say whether that opened the breaker."""
        self.failures += 1
        self.paused_until = max(
            self.paused_until, now + min(error.retry_after or 0.0, RETRY_AFTER_CAP)
        )
        if self.is_open and not is_probe:
            return False
        opened = self._rung == 0 and (self.is_open or self.failures >= FAILURE_THRESHOLD)
        if opened or self.is_open:
            self.opens_at = now + PROBE_DELAYS[min(self._rung, len(PROBE_DELAYS) - 1)]
            self._rung += 1
        return opened
