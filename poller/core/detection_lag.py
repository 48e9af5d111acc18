"""How late a change of a job was detected, and how late at most."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from poller.core.jobs import format_rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """When a change was detected, and when a poll last showed the job without it.

    Both are seconds of our steady clock; `last_seen_at` is when that poll was requested, None when
    this process made none, and `previous_poll_at` the same by the wall clock. `clock_skew` is the
    API's clock minus ours, in seconds.
    """

    detected_at: float
    clock_skew: float = 0.0
    last_seen_at: float | None = None
    previous_poll_at: datetime | None = None

    def lag(self, happened_at: datetime | None) -> float | None:
        """Return the seconds from when the API could show the change to its detection.

        When a poll after the change did not show it yet, the API held it back, and that part is no
        lag. So no lag exceeds its maximum.
        """
        if happened_at is None:
            return None
        visible_at = max(self._to_local_time(happened_at), self.last_seen_at or 0.0)
        return _between(visible_at, self.detected_at)

    def visibility_delay(self, happened_at: datetime | None) -> float | None:
        """Return for how many seconds, at least, the API still showed the job unchanged."""
        if happened_at is None or self.last_seen_at is None:
            return None
        return _between(self._to_local_time(happened_at), self.last_seen_at)

    def as_dict(self, happened_at: datetime | None) -> dict[str, Any]:
        """Return the lag, ready for JSON, in seconds to the millisecond."""
        seen_at, polled_at = self.last_seen_at, self.previous_poll_at
        lag_max = None if seen_at is None else _between(seen_at, self.detected_at)
        return {
            "previous_poll_at": format_rfc3339(polled_at) if polled_at else None,
            "lag_seconds": self.lag(happened_at),
            "lag_max_seconds": lag_max,
            "visibility_delay_seconds": self.visibility_delay(happened_at),
        }

    def _to_local_time(self, moment: datetime) -> float:
        return moment.timestamp() - self.clock_skew


def _between(earlier: float, later: float) -> float:
    """Return the seconds between two moments, 0 when they run backwards."""
    return round(max(later - earlier, 0.0), 3)
