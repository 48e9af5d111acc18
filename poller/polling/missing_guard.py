"""Guards against false `job.missing` events: a wrong URL or tenant makes every job unknown."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from poller.core.errors import NotFound, Rejected
from poller.core.jobs import Job

GUARD_JOBS: Final = 3
GUARD_SHARE: Final = 0.9
RECHECK_SECONDS: Final = 60.0
"""Seconds for which nobody is asked whether the API still knows other jobs."""


@dataclass(slots=True)
class MissingGuard:
    """Which jobs the API knew when each was last asked, and since when or when that was.

    When nearly all of those that have been asked lately are unknown at once, it is not they that
    are missing: the URL or the tenant is wrong. Fewer than `guard_jobs` unknown ones do not tell
    that; then those that were present before are asked whether they still are.
    """

    now: Callable[[], float]
    guard_jobs: float = GUARD_JOBS
    _present: dict[str, float] = field(default_factory=dict)
    _absent: dict[str, float] = field(default_factory=dict)
    _last_present_at: float = -math.inf

    def record(self, job_id: str, result: object, asked_at: float) -> None:
        """Take in the latest answer about a job, and when it was asked for."""
        if isinstance(result, Job):
            self._absent.pop(job_id, None)
            self._present.pop(job_id, None)  # it goes to the end: the first is asked again first
            self._present[job_id] = self.now()
            self._last_present_at = max(self._last_present_at, asked_at)
        elif isinstance(result, NotFound):
            self._present.pop(job_id, None)
            self._absent.setdefault(job_id, self.now())
        elif isinstance(result, Rejected):
            self._present.pop(job_id, None)  # it will not answer soon

    def forget(self, job_id: str) -> None:
        """Leave out a job that is no longer asked for."""
        self._present.pop(job_id, None)
        self._absent.pop(job_id, None)

    @property
    def is_mass_not_found(self) -> bool:
        """Whether nearly all jobs are unknown, of those asked since the first of them was."""
        absent = len(self._absent)
        if absent < self.guard_jobs:
            return False
        since = min(self._absent.values())
        present = sum(at >= since for at in self._present.values())
        return absent >= GUARD_SHARE * (absent + present)

    def is_confirmed(self, job_id: str) -> bool:
        """Tell whether an unknown job is unknown alone, as far as that needs to be known.

        Others were asked for after it was first unknown, and found.
        """
        return self._has_few_jobs or self._last_present_at >= self._absent.get(job_id, -math.inf)

    def jobs_to_recheck(self, job_id: str) -> list[str]:
        """Name others that can tell whether it still is; none for a minute after one has."""
        if self._has_few_jobs:
            return []
        told_since = max(self._absent.get(job_id, -math.inf), self.now() - RECHECK_SECONDS)
        return (
            []
            if self._last_present_at >= told_since
            else list(islice(self._present, GUARD_JOBS - 1))
        )

    @property
    def _has_few_jobs(self) -> bool:
        return len(self._present) + len(self._absent) < self.guard_jobs
