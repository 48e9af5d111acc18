"""The delays between the attempts of one delivery, in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from poller.core.errors import DeliveryError
from poller.core.pacing import Random, delay_after

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
"""Seconds after each failed attempt of a delivery; the last delay repeats."""
MAX_DELIVERY_AGE: Final = 7 * 24 * HOUR
"""Seconds after which a delivery that still fails is dead."""
RETRY_AFTER_CAP: Final = 24 * HOUR
"""The longest pause that a sink can demand, in seconds."""

MAX_REJECTIONS: Final = 3
"""How often an event is rejected within an hour until it is a dead letter."""


@dataclass(slots=True)
class RejectionCounter:
    """Counts how often a receiver has rejected each event that is still to be delivered."""

    _counts: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, event_id: str, now: float) -> int:
        """Count a rejection; return how many there were within an hour."""
        first_at, count = self._counts.get(event_id, (now, 0))
        if now - first_at >= HOUR:
            first_at, count = now, 0
        self._counts[event_id] = first_at, count + 1
        return count + 1

    def forget(self, event_id: str) -> None:
        """Forget an event that was delivered, or is a dead letter."""
        self._counts.pop(event_id, None)


def retry_delay(
    failures: int,
    error: DeliveryError,
    random: Random,
    delays: Sequence[float] = RETRY_DELAYS,
) -> float:
    """Return the seconds until the next attempt: the delay with jitter, or the sink's own pause."""
    step = delay_after(failures, delays)
    return max(step * (1.0 + random() / 10.0), min(error.retry_after or 0.0, RETRY_AFTER_CAP))
