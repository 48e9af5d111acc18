"""How far the API's clock is from ours, from the `Date` of its answers (RFC 9110 6.6.1)."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

SECOND: Final = 1.0
"""A `Date` tells the second in which an answer was made, not where in it."""
DRIFT: Final = 1e-4
"""Seconds that two clocks may part in one second."""


@dataclass(slots=True)
class ClockSkew:
    """The API's clock minus ours: in the middle of what all answers allow.

    Each answer was made between its request and its receipt. Where the answers contradict one
    another a clock was set, or an answer is an old one: then the newest counts alone.
    """

    _least: float = -math.inf
    _most: float = math.inf
    _at: float = 0.0

    @property
    def seconds(self) -> float:
        """The API's clock minus ours, 0 while nothing is known."""
        return (self._least + self._most) / 2 if math.isfinite(self._least) else 0.0

    def sample(self, date: datetime, *, asked_at: float, answered_at: float) -> None:
        """Take in the `Date` of one answer; the two moments are by our steady clock."""
        told = date.timestamp()
        least, most = told - answered_at, told + SECOND - asked_at
        drift = DRIFT * (answered_at - self._at)
        self._at = answered_at
        self._least, self._most = max(self._least - drift, least), min(self._most + drift, most)
        if self._least > self._most:
            self._least, self._most = least, most
