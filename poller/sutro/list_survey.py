"""How far down the account's list discovery reads, and which jobs it has seen there.

New jobs come on top, but no order is believed: a job may show late, below others that are known,
and any date may be wrong. So each scan reads down to jobs that are known, and every SURVEY_INTERVAL
seconds a survey reads at least a whole page, down to a horizon in time. Every second survey reads
twice as deep, every fourth one four times, and so on: a job that shows late is found before as long
again has passed. For each doubling of their age, a hundred jobs cost three pages at most.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

import structlog

from poller.core.jobs import Job, is_plausible
from poller.sutro.client import JobPage
from poller.sutro.list_page import PageRequest

SURVEY_INTERVAL: Final = 300.0
LATE_SECONDS: Final = 600.0
"""How far a survey reads below the one before: a job that shows so late is found by the next."""
BOTTOM_SHARE: Final = 4
"""The last quarter of a page says how deep it reaches: some of its jobs and dates may be odd."""
MAX_REPEATS: Final = 5
"""Pages in a row without a job that is new to a walk: the list has no end, and repeats itself."""
MAX_PAGES: Final = 5_000
"""Pages after which a list counts as one without end, though each has shown other jobs."""
UNDATED_FACTOR: Final = 2
"""How many times deeper than any run of jobs without dates a survey reads to find dates below."""

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class ListWalk:
    """One way down the list: it ends at jobs that are known and, if a survey, below its horizon.

    `since`: jobs created before count as known. `base` is how far down jobs are remembered, at
    least a page of them. Of a list without dates a survey reads `min_pages`. `undated` is how many
    jobs down the list had pages without dates, above others with dates, or else its first page.
    """

    now: datetime
    since: datetime
    base: datetime
    horizon: datetime | None = None
    min_pages: int = 1
    undated: int = 0
    is_known: Callable[[str], bool]
    request: PageRequest | None = None
    begun_at: float = -math.inf
    pages: int = 0
    shown: set[str] = field(default_factory=set)
    recent: set[str] = field(default_factory=set)
    _repeats: int = 0
    _undated_shown: int = 0
    _has_met_known: bool = False
    _is_below_base: bool = False

    def take(self, page: JobPage, requested_at: float) -> bool:
        """Record the next page; return whether it is the last."""
        if not self.pages:
            self.begun_at, self._undated_shown = requested_at, len(page.jobs)
        self.pages += 1
        job_ids = {job.job_id for job in page.jobs}
        self._repeats = 0 if job_ids - self.shown else self._repeats + 1
        self.shown |= job_ids
        if not self._is_below_base:
            self.recent |= job_ids
        bottom = page.jobs[-math.ceil(len(page.jobs) / BOTTOM_SHARE) :]
        unknown = sum(self._is_news(job) for job in bottom)
        may_end = bool(bottom) or self.horizon is None
        self._has_met_known |= may_end and 2 * unknown <= len(bottom)
        is_dated = 0 < len(page.jobs) <= 2 * len(self._dates(page.jobs))
        if is_dated:
            self.undated = max(self.undated, self._undated_shown)
        else:
            self._undated_shown = len(self.shown)
        created = self._dates(bottom)
        self._is_below_base |= self._is_below(self.base, created, 1, is_dated=is_dated)
        if page.next_cursor is None or self._repeats >= MAX_REPEATS or self.pages >= MAX_PAGES:
            return True
        if self.horizon is None or not self._has_met_known:
            return self._has_met_known
        return self._is_below(self.horizon, created, self.min_pages, is_dated=is_dated)

    def _is_news(self, job: Job) -> bool:
        created = job.datetime_created
        is_old = is_plausible(created, self.now) and created < self.since
        return not is_old and not self.is_known(job.job_id)

    def _dates(self, jobs: Iterable[Job]) -> list[float]:
        """Return when the jobs were created, without the dates that cannot be believed."""
        return [
            job.datetime_created.timestamp()
            for job in jobs
            if is_plausible(job.datetime_created, self.now)
        ]

    def _is_below(
        self, moment: datetime, created: Sequence[float], min_pages: int, *, is_dated: bool
    ) -> bool:
        """Return whether jobs that were created then are below a moment, for the most part.

        Where few jobs have a date to believe, more with one may be below.
        """
        is_below = median(created) < moment.timestamp() if created else self.pages >= min_pages
        return is_below and (is_dated or len(self.shown) >= UNDATED_FACTOR * self.undated)


class ListSurvey:
    """Which jobs of the list were seen, and how far down the next scan has to read.

    `scanned_at` is when the top of the list was last known, in seconds of `now`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.reset()

    def reset(self) -> None:
        """Forget which jobs were seen."""
        self.scanned_at = self._surveyed_at = -math.inf
        self.unfinished: ListWalk | None = None
        self._seen: dict[str, float] = {}
        self._surveys = 0
        self._undated = 0
        self._since: datetime | None = None

    @property
    def is_due(self) -> bool:
        """Return whether the list is to be read further down than to jobs that are known."""
        return self._now() - self._surveyed_at >= SURVEY_INTERVAL

    @property
    def is_complete(self) -> bool:
        """Return whether the list was read down to the oldest job that counts."""
        return self._surveyed_at > -math.inf

    def new_scan(self, since: datetime, clock_skew: float) -> ListWalk:
        """Return a walk down to jobs that are known. `since` is the oldest creation that counts."""
        self._since = since
        now = datetime.fromtimestamp(self._now() + clock_skew, UTC)
        base = now - timedelta(seconds=SURVEY_INTERVAL + LATE_SECONDS)
        return ListWalk(
            now=now, since=since, base=base, undated=self._undated, is_known=self._is_known
        )

    def new_survey(self, since: datetime, clock_skew: float) -> ListWalk:
        """Return a walk down to the horizon of the next survey."""
        walk = self.new_scan(since, clock_skew)
        walk.is_known = lambda job_id: job_id in self._seen
        walk.min_pages = self._surveys & -self._surveys or 1
        walk.horizon = self._horizon(walk.now, since, walk.min_pages)
        return walk

    def finish(self, walk: ListWalk) -> None:
        """Record that all was read which a walk was to read."""
        if walk.pages >= MAX_PAGES:
            log.warning("listing.endless", pages=walk.pages)
        self.scanned_at = max(self.scanned_at, walk.begun_at)
        self._undated = max(self._undated, walk.undated)
        if walk.horizon is None:
            self._seen.update(dict.fromkeys(walk.shown, walk.begun_at))
            return
        self._surveys += 1
        self._surveyed_at = walk.begun_at
        self.unfinished = None
        since = {job_id: at for job_id, at in self._seen.items() if at >= walk.begun_at}
        self._seen = dict.fromkeys(walk.recent, walk.begun_at) | since

    def record_page(
        self, request: PageRequest, page: JobPage, requested_at: float, clock_skew: float
    ) -> None:
        """Count a page that was read for other reasons as a scan, or as a survey, if it is one."""
        if self._since is None or request.page.cursor is not None:
            return
        if self.is_due and not self.unfinished and (request.is_whole or not page.next_cursor):
            survey = self.new_survey(self._since, clock_skew)
            if survey.take(page, requested_at):
                self.finish(survey)
                return
        scan = self.new_scan(self._since, clock_skew)
        if scan.take(page, requested_at):
            self.finish(scan)

    def _is_known(self, job_id: str) -> bool:
        walk = self.unfinished
        return job_id in self._seen or (walk is not None and job_id in walk.shown)

    def _horizon(self, now: datetime, since: datetime, depth: int) -> datetime:
        seconds = depth * (self._now() - self._surveyed_at + LATE_SECONDS)
        age = min(seconds, (now - since).total_seconds())
        return now - timedelta(seconds=age)
