"""The difference between the API's clock and ours, by the `Date` header (RFC 9110 6.6.1)."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

DATE_RESOLUTION_SECONDS: Final = 1.0
"""A `Date` states the second in which a response was made, not where in that second."""
MAX_SKEW: Final = 36_500 * 86_400.0
"""Seconds: a century, more than a clock in 1970 is off. A larger difference is no clock's."""
SMALL_SKEW: Final = 3_600.0
"""Seconds: no time zone is taken for another day."""
DRIFT_PER_SECOND: Final = 1e-4
"""Seconds that two clocks may drift apart in one second."""


@dataclass(slots=True)
class ClockSkew:
    """The API's clock minus ours: the middle of the range that all responses allow.

    Each response was made between its request and its receipt. When responses contradict one
    another, a clock was set, or a response is an old one: then the newest counts alone.
    """

    _lower: float = -math.inf
    _upper: float = math.inf
    _sampled_at: float = 0.0

    @property
    def seconds(self) -> float:
        """The API's clock minus ours; 0 while nothing is known."""
        return (self._lower + self._upper) / 2 if math.isfinite(self._lower) else 0.0

    @property
    def is_small(self) -> bool:
        """Return whether responses have shown that the clocks differ by less than an hour."""
        return self._lower > -SMALL_SKEW and self._upper < SMALL_SKEW

    def sample(self, date: datetime, *, requested_at: float, received_at: float) -> None:
        """Narrow the range by the `Date` of one response; both times are of our steady clock."""
        stated = date.timestamp()
        if abs(stated - received_at) > MAX_SKEW:
            return
        lower, upper = stated - received_at, stated + DATE_RESOLUTION_SECONDS - requested_at
        drift = DRIFT_PER_SECOND * (received_at - self._sampled_at)
        self._sampled_at = received_at
        self._lower, self._upper = max(self._lower - drift, lower), min(self._upper + drift, upper)
        if self._lower > self._upper:
            self._lower, self._upper = lower, upper
