"""How late a change of a job was noticed, and how late that can have been."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from poller.jobs import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """When a change was first seen, and when a look last showed the job without it.

    Both are seconds of our steady clock; `shown_at` is when that look was begun, None when this
    process has made none, and `previous_poll_at` the same by the wall clock. `skew` is the API's
    clock minus ours.
    """

    seen_at: float
    skew: float = 0.0
    shown_at: float | None = None
    previous_poll_at: datetime | None = None

    def detection(self, happened_at: datetime | None) -> dict[str, Any]:
        """Say how late it was noticed, ready for JSON, in seconds to the millisecond.

        A change that is older than a look which did not show it yet was held back by the API: that
        part is its `visibility_delay_seconds`, and no part of the lag. So no lag is over its
        maximum.
        """
        happened = happened_at.timestamp() - self.skew if happened_at else None
        visible = happened if self.shown_at is None else max(happened or 0.0, self.shown_at)
        return {
            "previous_poll_at": rfc3339(self.previous_poll_at) if self.previous_poll_at else None,
            "lag_seconds": _between(visible, self.seen_at) if happened_at else None,
            "lag_max_seconds": _between(self.shown_at, self.seen_at),
            "visibility_delay_seconds": _between(happened, self.shown_at),
        }


def _between(earlier: float | None, later: float | None) -> float | None:
    """Give the seconds between two moments, 0 when they run backwards."""
    if earlier is None or later is None:
        return None
    return round(max(later - earlier, 0.0), 3)
