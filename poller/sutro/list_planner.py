"""What is known of the account's list of jobs: which page shows which jobs together.

The list is newest first and read in leaves of at most 100 jobs. Each leaf is known by the cursor
that it begins at, and can be read again without those before it. One page costs what one GET costs,
so it is worth its request as soon as it shows a second job that falls due soon.

New jobs push older ones across the ends of leaves. A job that is not where it was is asked for
singly, and placed anew when some page shows it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from poller.core.errors import (
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.jobs import Job
from poller.sutro.client import JobPage
from poller.sutro.port import QueueView

PAGE_JOBS: Final = 100
MARGIN_JOBS: Final = 5
"""How much deeper than the deepest job a page reads, for those that new jobs push down."""
PEEK_JOBS: Final = 20
"""How much of the first page is read to see whether there are new jobs."""
MIN_PAGE_JOBS: Final = 4
"""Pages of fewer jobs than that, since a job can be large, are not worth the trouble."""
DISABLED_SECONDS: Final = 3_600.0
FAILURES_BEFORE_GET: Final = 3
"""Failed pages in a row after which a GET shows whether it is the list alone that fails. While it
is not, each time twice as many: an outage must not cost more requests than health."""
PAGES_PER_GET: Final = 1 / 8
"""Of the list's unknown part so many pages may be read for each GET of a job that is not placed."""
MAX_PAGE_CREDIT: Final = 100.0

LIST_ERRORS: Final = (WrongEndpoint, NotFound, Rejected)

log = structlog.get_logger()


@dataclass(slots=True)
class ListPage:
    """Some jobs of the list, as its last reading showed them. `oldest` is None before that."""

    number: int
    cursor: str | None
    job_ids: list[str] = field(default_factory=list)
    oldest: datetime | None = None
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page to ask for, and the scheduled jobs that it is expected to show.

    `is_whole`: it goes down to where the next leaf begins.
    """

    page: ListPage
    limit: int
    expected: tuple[str, ...]
    is_whole: bool


class ListPlanner:
    """Choose pages, and learn from them. `is_on` is false where only GETs are wanted."""

    def __init__(self, now: Callable[[], float], *, is_on: bool = True) -> None:
        self._now = now
        self._off_until = 0.0 if is_on else float("inf")
        self._pages = [ListPage(0, None)]
        self._cursors: dict[str | None, ListPage] = {}
        self._places: dict[str, ListPage] = {}
        self._created: dict[str, datetime | None] = {}
        self._credit = 1.0
        self._limit = PAGE_JOBS
        self._failures, self._failures_allowed = 0, FAILURES_BEFORE_GET
        self._top: frozenset[str] = frozenset()
        self.scanned_at = -math.inf

    def invalidate(self) -> None:
        """Take in that any job may be news."""
        self._top, self.scanned_at = frozenset(), -math.inf

    def plan(self, job_id: str, queue: QueueView) -> PageRequest | None:
        """Return the page that shows a due job and others due soon, or None where GET is better."""
        now = self._now()
        if now < self._off_until or self._failures >= self._failures_allowed:
            return None
        leaf = self._places.get(job_id)
        if leaf is None:
            return self._unread(job_id)
        ids = leaf.job_ids[: self._limit]
        due_soon = [
            number
            for number, other in enumerate(ids)
            if other != job_id and queue.is_due_soon(other, now)
        ]
        if not due_soon or job_id not in ids:
            return None
        depth = max(due_soon[-1], ids.index(job_id)) + 1
        # The page shows jobs that are not due yet as well, or its failure concerns them too.
        expected = tuple(other for other in ids[:depth] if queue.is_batchable(other))
        limit = min(depth + MARGIN_JOBS, self._limit)
        return PageRequest(leaf, limit, expected, is_whole=limit == self._limit)

    def peek(self) -> PageRequest | None:
        """Give as much of the first page as shows a few new jobs, once older ones are known."""
        if not self._top or self._limit <= PEEK_JOBS:
            return None
        return PageRequest(self._pages[0], PEEK_JOBS, (), is_whole=False)

    def first(self) -> PageRequest:
        """Give the first page."""
        return PageRequest(self._pages[0], self._limit, (), is_whole=True)

    def has(self, leaf: ListPage) -> bool:
        """Tell whether a leaf is part of the list as it is known now."""
        number = leaf.number
        return number < len(self._pages) and self._pages[number] is leaf

    def after(self, sheet: PageRequest) -> PageRequest | None:
        """Give the page after a whole one, unless the list ends there."""
        number = sheet.page.number + 1
        if not self.has(sheet.page) or number == len(self._pages):
            return None
        return PageRequest(self._pages[number], self._limit, (), is_whole=True)

    def reaches_known(self, page: JobPage) -> bool:
        """Tell whether a page reaches down to what the last survey saw at the top."""
        return any(job.job_id in self._top for job in page.jobs)

    def mark_scanned(self, page: JobPage) -> None:
        """Take in that all is known below this first page, and it too."""
        self._top = frozenset(job.job_id for job in page.jobs)
        self.scanned_at = self._now()

    def learn_page(self, sheet: PageRequest, page: JobPage) -> None:
        """Take in what a page showed."""
        if sheet.page.cursor is None and self.reaches_known(page):
            self.mark_scanned(page)
        self._failures, self._failures_allowed = 0, FAILURES_BEFORE_GET
        leaf, shown = sheet.page, [job.job_id for job in page.jobs]
        if not self.has(leaf):
            return  # the list was begun anew meanwhile
        found = sum(it in self._created for it in shown)
        self._credit = min(self._credit + found, MAX_PAGE_CREDIT)
        self._move(leaf, shown, kept=leaf.job_ids[sheet.limit :])
        if sheet.is_whole:
            self._limit = min(self._limit + 1, PAGE_JOBS)
            leaf.is_read = True
            leaf.oldest = min((it for it in map(_created, page.jobs) if it), default=None)
            self._bind(leaf, page.next_cursor)

    def learn_job(self, job_id: str, result: Job | PollError) -> None:
        """Take in what a GET showed of a job."""
        if self._failures >= self._failures_allowed:
            self._failures, self._failures_allowed = 0, 2 * self._failures_allowed
            if isinstance(result, Job):
                self._failures_allowed = 1  # in an hour one page shows whether it is still so
                self._disable("pages fail while single requests work")
        if not isinstance(result, Job) or job_id in self._places:
            return
        self._credit = min(self._credit + PAGES_PER_GET, MAX_PAGE_CREDIT)
        if result.status.is_terminal:
            self._created.pop(job_id, None)
        else:
            self._created[job_id] = result.datetime_created

    def fail(self, sheet: PageRequest, error: PollError) -> None:
        """Take in that a page failed."""
        if isinstance(error, ResponseTooLarge):
            self._limit = sheet.limit // 2
            self._forget()
            if self._limit < MIN_PAGE_JOBS:
                self._limit = PAGE_JOBS
                self._disable(str(error))
        elif is_list_error(error):
            if sheet.page.cursor is None:
                self._disable(str(error))
            self._forget()  # a cursor may have grown too old: begin at the top
        else:
            self._failures += not isinstance(error, RateLimited | Unauthorized)

    def _unread(self, job_id: str) -> PageRequest | None:
        """Give a page of the list's unknown part in which a job may be, if that is affordable."""
        self._created.setdefault(job_id, None)
        if len(self._created) < 2 or self._credit < 1.0:
            return None
        leaf = self._likely(self._created[job_id])
        if leaf is None:
            return None
        self._credit -= 1.0
        return PageRequest(leaf, self._limit, (), is_whole=True)

    def _likely(self, created: datetime | None) -> ListPage | None:
        """Give the leaf that shows jobs of a time; one that was read, and not found, shows less."""
        for leaf in self._pages:
            if not leaf.is_read or (created and leaf.oldest and leaf.oldest <= created):
                return leaf
        return None

    def _move(self, leaf: ListPage, shown: Sequence[str], *, kept: Sequence[str]) -> None:
        for it in leaf.job_ids:
            if self._places.get(it) is leaf:
                del self._places[it]
        leaf.job_ids = [*shown, *(it for it in kept if it not in shown)]
        for it in leaf.job_ids:
            self._places[it] = leaf
            self._created.pop(it, None)

    def _bind(self, leaf: ListPage, cursor: str | None) -> None:
        """Let the next leaf begin where this one ended; a cursor that comes again ends the list."""
        number = leaf.number + 1
        if not cursor or self._is_above(leaf, cursor):
            for it in self._pages[number:]:
                self._unname(it)
            del self._pages[number:]
            return
        if number == len(self._pages):
            self._pages.append(ListPage(number, cursor))
        following = self._pages[number]
        self._unname(following)
        following.cursor = cursor
        self._cursors[cursor] = following

    def _unname(self, leaf: ListPage) -> None:
        if self._cursors.get(leaf.cursor) is leaf:
            del self._cursors[leaf.cursor]

    def _is_above(self, leaf: ListPage, cursor: str) -> bool:
        """Tell whether a cursor is that of a leaf, or of one above it."""
        other = self._cursors.get(cursor)
        return other is not None and other.number <= leaf.number and self.has(other)

    def _disable(self, why: str) -> None:
        self._off_until = self._now() + DISABLED_SECONDS
        log.warning("listing.disabled", seconds=DISABLED_SECONDS, error=why)

    def _forget(self) -> None:
        self._pages, self._cursors, self._places = [ListPage(0, None)], {}, {}
        self._credit = max(self._credit, 1.0)


def _created(job: Job) -> datetime | None:
    return job.datetime_created


def is_list_error(error: PollError) -> bool:
    """Tell whether an error means that this API, or this key, has no list."""
    is_forbidden = isinstance(error, Unauthorized) and error.status == 403
    return is_forbidden or isinstance(error, LIST_ERRORS)
