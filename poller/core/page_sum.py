"""The lag that has piled up unseen on a page: a quadratic in the time, known by three numbers."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class PageSum:
    """The sum of w (t - s)² over some jobs, w being a job's weight and s when it was polled.

    It is a t² - 2 b t + c, with all times counted from `base`: squares of seconds since 1970 would
    leave no digits for those since the last poll.
    """

    base: float
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0

    def add(self, weight: float, polled_at: float) -> None:
        """Add a job."""
        since = polled_at - self.base
        self.a += weight
        self.b += weight * since
        self.c += weight * since * since

    def restart(self, now: float) -> None:
        """Record that all jobs were polled now."""
        self.base, self.b, self.c = now, 0.0, 0.0

    def at(self, now: float) -> float:
        """Return the sum at a time."""
        elapsed = now - self.base
        return (self.a * elapsed - 2.0 * self.b) * elapsed + self.c

    def reaches_one_at(self) -> float:
        """Return when the sum reaches 1, or did; infinity without jobs."""
        if not self.a:
            return math.inf
        discriminant = self.b * self.b - self.a * (self.c - 1.0)
        return self.base + (self.b + math.sqrt(max(discriminant, 0.0))) / self.a
