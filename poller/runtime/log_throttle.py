"""How often the same thing has gone wrong: it is told the 1st, 2nd, 4th, 8th ... time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

FORGET_AFTER_SECONDS: Final = 600.0
MAX_MESSAGES: Final = 10_000


@dataclass(slots=True)
class LogThrottle:
    """The texts of recent failures. One that has not come for ten minutes counts as new."""

    now: Callable[[], float]
    _times: dict[str, tuple[int, float]] = field(default_factory=dict)

    def should_log(self, text: str) -> int:
        """Count one more time of a text; 0 when it should not be told again yet."""
        now = self.now()
        times, last = self._times.get(text, (0, now))
        times = 1 if now - last > FORGET_AFTER_SECONDS else times + 1
        if len(self._times) >= MAX_MESSAGES:
            self._times.clear()
        self._times[text] = (times, now)
        return times if times & (times - 1) == 0 else 0
