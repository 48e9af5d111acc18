"""A job that has been in one stage for too long, as values.

By default that is after three times the time in which 95 % of the jobs of its class, or else of its
model, get through that stage, but never before ten minutes.
"""

from dataclasses import dataclass
from typing import Any, Final

from poller.core.durations import Stage, UsualDuration

OVERDUE_RATIO: Final = 3.0
MIN_OVERDUE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverduePolicy:
    """The seconds in each stage from which a job is overdue: None by the history, inf for never."""

    queued: float | None = None
    running: float | None = None

    def threshold(self, stage: Stage, usual: UsualDuration | None) -> float | None:
        """Return the seconds from which a job is overdue; None where too little is known."""
        limit = self.queued if stage is Stage.QUEUED else self.running
        if limit is not None:
            return limit
        return max(OVERDUE_RATIO * usual.p95, MIN_OVERDUE_SECONDS) if usual else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A job that has been in a stage for too long, in seconds; `usual` is None if not known."""

    stage: Stage
    elapsed: float
    threshold: float
    usual: UsualDuration | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "phase": self.stage,
            "elapsed_seconds": round(self.elapsed, 3),
            "threshold_seconds": round(self.threshold, 3),
            "expected_seconds": self.usual and round(self.usual.p95, 3),
            "basis": self.usual and self.usual.basis_dict(),
        }
