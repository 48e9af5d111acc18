"""Which jobs are due for a GET of their own: a row of the list may stay stale for ever."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from poller.core.errors import NotFound, PollError
from poller.core.jobs import Job

CONFIRM_SECONDS: Final = 600.0
CONFIRM_SHARE: Final = 0.1
"""How long pages alone may show a job: ten minutes, or a tenth of the time it has been polled."""
GETS_PER_PAGE: Final = 1.0
MAX_GETS: Final = 10.0
"""How many GETs each page allows, and how many can be saved up: many jobs share one page."""


@dataclass(slots=True)
class Confirmations:
    """When each job was first polled through a page, and when a GET has last confirmed it."""

    now: Callable[[], float]
    _times: dict[str, tuple[float, float]] = field(default_factory=dict)
    _gets: float = 0.0

    def next_job(self, job_ids: Iterable[str]) -> str | None:
        """Return which of these jobs needs a GET most, if one does and one is allowed."""
        now, overdue = self.now(), {}
        for job_id in job_ids:
            first_at, last_at = self._times.setdefault(job_id, (now, now))
            limit = max(CONFIRM_SECONDS, CONFIRM_SHARE * (now - first_at))
            if now - last_at >= limit:
                overdue[job_id] = (now - last_at) / limit
        if not overdue or self._gets < 1.0:
            return None
        self._gets -= 1.0
        return max(overdue, key=overdue.__getitem__)

    def record_page(self, jobs: Iterable[Job]) -> None:
        """Record which jobs a page has shown, and allow further GETs: it has saved some."""
        self._gets = min(self._gets + GETS_PER_PAGE, MAX_GETS)
        for job in jobs:
            if job.status.is_terminal:
                self._times.pop(job.job_id, None)

    def record_get(self, job_id: str, result: Job | PollError) -> None:
        """Record what a GET has shown; a job that has ended, or is unknown, is forgotten."""
        if isinstance(result, NotFound) or (isinstance(result, Job) and result.status.is_terminal):
            self._times.pop(job_id, None)
        elif isinstance(result, Job) and (times := self._times.get(job_id)):
            self._times[job_id] = times[0], self.now()
