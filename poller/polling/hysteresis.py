"""A condition that has to hold for a while before it counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HOLD_SECONDS: Final = 60.0


@dataclass(slots=True)
class Hysteresis:
    """Active once a condition has held for a minute, until it does not hold."""

    now: Callable[[], float]
    is_active: bool = False
    _since: float | None = None

    def update(self, *, is_met: bool) -> bool:
        """Record whether the condition holds now; return whether `is_active` has changed."""
        was_active, now = self.is_active, self.now()
        if not is_met:
            self._since, self.is_active = None, False
        elif self._since is None:
            self._since = now
        else:
            self.is_active = was_active or now - self._since >= HOLD_SECONDS
        return self.is_active is not was_active
