"""A list that is read through a scanner, page by page."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from poller.core.errors import PollError
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.sutro.client import JobPage
from poller.sutro.list_page import PageRead, PageRequest
from poller.sutro.list_planner import ListPlanner
from poller.sutro.list_scanner import ListScanner

NOW = datetime(2026, 1, 10, tzinfo=UTC)
SINCE = NOW - timedelta(days=7)
Created = Callable[[int], datetime | None]


def every_minute(number: int) -> datetime:
    """Return when a job was created: one a minute, the newest first."""
    return NOW - timedelta(minutes=number)


def every_ten_seconds(number: int) -> datetime:
    """Return when a job of a busy account was created."""
    return NOW - timedelta(seconds=10 * number)


def page_of(
    numbers: Sequence[int], cursor: str | None = None, created: Created = every_minute
) -> JobPage:
    """Return a page with some of the jobs."""
    jobs = [
        Job(job_id=f"job-{number}", status=JobStatus.RUNNING, datetime_created=created(number))
        for number in numbers
    ]
    return JobPage(tuple(jobs), cursor)


class Pages:
    """A list that is read through a scanner, and the cursors that were requested."""

    def __init__(
        self, respond: Callable[[str | None, int], JobPage | PollError], latency: float = 0.0
    ) -> None:
        self.respond = respond
        self.latency = latency
        self.now = NOW.timestamp()
        self.cursors: list[str | None] = []
        self.planner = ListPlanner(lambda: self.now)
        self.scanner = ListScanner(self.planner, self._fetch, lambda: self.now)

    async def _fetch(self, request: PageRequest) -> PageRead:
        self.cursors.append(request.page.cursor)
        requested_at = self.now
        self.now += self.latency
        page = self.respond(request.page.cursor, request.limit)
        if isinstance(page, PollError):
            raise page
        self.planner.learn_page(request, page)
        return PageRead(request, page, requested_at)

    async def scan(self) -> set[str]:
        """Scan once and return the ids of the jobs that were shown."""
        self.cursors.clear()
        return {
            job.job_id
            async for read in self.scanner.scan(SINCE, lambda: 0.0)
            for job in read.page.jobs
        }


def numbered(
    total: int, created: Created = every_minute
) -> Callable[[str | None, int], JobPage | PollError]:
    """Return a list of so many jobs, whose cursors are their numbers."""

    def respond(cursor: str | None, limit: int) -> JobPage:
        begin = int(cursor or 0)
        end = min(begin + limit, total)
        return page_of(range(begin, end), str(end) if end < total else None, created)

    return respond
