"""Throttles repeated failures in the log: their 1st, 2nd, 4th, 8th ... occurrence is logged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

FORGET_AFTER_SECONDS: Final = 600.0
MAX_MESSAGES: Final = 10_000


@dataclass(slots=True)
class LogThrottle:
    """Counts the failures of each text; a text without any for ten minutes counts as new."""

    now: Callable[[], float]
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def should_log(self, text: str) -> int:
        """Count one failure; return its number if it should be logged, otherwise 0."""
        now = self.now()
        count, last = self._seen.get(text, (0, now))
        count = 1 if now - last > FORGET_AFTER_SECONDS else count + 1
        if len(self._seen) >= MAX_MESSAGES:
            self._seen.clear()
        self._seen[text] = (count, now)
        return count if count & (count - 1) == 0 else 0
