"""Guards against false `job.missing` events: a wrong URL or tenant makes every job unknown."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from poller.core.errors import NotFound, Rejected
from poller.core.jobs import Job
from poller.polling.hysteresis import Hysteresis
from poller.sutro.port import Observation

GUARD_JOBS: Final = 3
GUARD_SHARE: Final = 0.9
KNOWN_JOBS: Final = 100
"""How many jobs that are known are remembered, or twice as many, while none is unknown."""
RECHECK_SECONDS: Final = 60.0
"""Seconds for which no job is polled again to learn whether the API still knows other jobs."""


class MissingGuard:
    """Decides whether a 404 concerns its job, or the API as a whole.

    When nearly all of the jobs that were polled lately are unknown at once, the URL or the tenant
    is wrong, and no job is missing. Fewer than `guard_jobs` unknown jobs do not prove that; then
    jobs that were present before are polled again. A page that shows other jobs is enough for jobs
    that were never present; for others it may be that of another account.
    """

    def __init__(
        self,
        now: Callable[[], float],
        guard_jobs: float = GUARD_JOBS,
        unconfirmed_seconds: float = 300.0,
    ) -> None:
        self._now = now
        self._guard_jobs = guard_jobs
        self._unconfirmed_seconds = unconfirmed_seconds
        self._present: dict[str, float] = {}
        self._absent: dict[str, float] = {}
        self._lost: set[str] = set()
        self._shows_others = False
        self._last_present_at = -math.inf
        self._wrong_endpoint = Hysteresis(now)

    def record_page(self, observations: Iterable[Observation]) -> None:
        """Record whether a page of the list shows jobs of the account."""
        self._shows_others |= any(
            seen.from_list and isinstance(seen.result, Job) for seen in observations
        )

    def record(self, seen: Observation, *, is_new: bool) -> None:
        """Record the latest result of polling a job; `is_new` if it was never present."""
        job_id, result = seen.job_id, seen.result
        if isinstance(result, Job):
            self.forget(job_id)  # it goes to the end: the first is rechecked first
            self._present[job_id] = self._now()
            self._last_present_at = max(self._last_present_at, seen.requested_at)
            if not self._absent and len(self._present) > 2 * KNOWN_JOBS:
                self._present = dict(islice(self._present.items(), KNOWN_JOBS, None))
        elif isinstance(result, NotFound):
            self._present.pop(job_id, None)
            self._absent.setdefault(job_id, self._now())
            if not is_new:
                self._lost.add(job_id)
        elif isinstance(result, Rejected):
            self._present.pop(job_id, None)  # the API will not show it soon

    def record_present(self, job_ids: Sequence[str], requested_at: float) -> None:
        """Record that a page shows these jobs, all of which were present before."""
        if job_ids:
            self._last_present_at = max(self._last_present_at, requested_at)
        if self._absent:
            self._present.update(dict.fromkeys(job_ids, self._now()))

    def forget(self, job_id: str) -> None:
        """Forget a job that is not polled any more."""
        self._present.pop(job_id, None)
        self._absent.pop(job_id, None)
        self._lost.discard(job_id)

    def is_unknown(self, job_id: str) -> bool:
        """Return whether the API did not know a job when it was last polled."""
        return job_id in self._absent

    def check_mass_not_found(self) -> bool:
        """Return whether nearly all jobs are unknown now; `is_wrong_endpoint` follows that."""
        is_mass_not_found = self._is_mass_not_found()
        self._wrong_endpoint.update(is_met=is_mass_not_found)
        return is_mass_not_found

    @property
    def is_wrong_endpoint(self) -> bool:
        """Return whether nearly all jobs have been unknown to the API for a minute."""
        return self._wrong_endpoint.is_active

    def is_confirmed(self, job_id: str) -> bool:
        """Return whether other jobs were polled after this one was unknown, and are known.

        With few jobs in all a page that shows others is enough, or else `unconfirmed_seconds`: the
        API may have lost a job that it showed only for a while.
        """
        since = self._absent.get(job_id, -math.inf)
        if self._last_present_at >= since:
            return True
        if job_id not in self._lost:
            return self._has_few_jobs or self._shows_others
        is_over = self._now() - since >= self._unconfirmed_seconds
        return self._has_few_jobs and (self._shows_others or is_over)

    def jobs_to_recheck(self, job_id: str) -> list[str]:
        """Return other jobs that can confirm it; none for a minute after one has."""
        if self._has_few_jobs and job_id not in self._lost:
            return []
        since = max(self._absent.get(job_id, -math.inf), self._now() - RECHECK_SECONDS)
        if self._last_present_at >= since:
            return []
        return list(islice(self._present, GUARD_JOBS - 1))

    def _is_mass_not_found(self) -> bool:
        """Return whether nearly all jobs that were polled since the first 404 are unknown."""
        absent = len(self._absent)
        if absent < self._guard_jobs or (self._shows_others and not self._lost):
            return False
        since = min(self._absent.values())
        present = sum(at >= since for at in self._present.values())
        return absent >= GUARD_SHARE * (absent + present)

    @property
    def _has_few_jobs(self) -> bool:
        return len(self._present) + len(self._absent) < self._guard_jobs
