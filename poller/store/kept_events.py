"""The old events that retention has kept: while there are many, they are read once a day only."""

import math
from dataclasses import dataclass
from typing import Final

from poller.core.outbox import DAY

MANY_EVENTS: Final = 10_000


@dataclass(slots=True)
class KeptEvents:
    """The number of old events that are kept, and the times of the last sweeps."""

    count: int = 0
    all_read_at: float = -math.inf
    read_until: float = -math.inf

    def begin(self, now: float) -> float:
        """Return the time from which on a sweep reads events."""
        if self.count >= MANY_EVENTS and 0.0 <= now - self.all_read_at < DAY:
            return self.read_until
        self.count, self.all_read_at = 0, now
        return -math.inf
