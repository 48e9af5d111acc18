"""Plans how to read the pages of the account's list, by what is known of the list.

The list is newest first and read in pages of at most 100 jobs. Each page is known by its cursor,
and can be read again without those before it. A page costs as much as one GET, so it is worth its
request as soon as it shows a second job.

New jobs push older ones across the ends of pages. A job that is not where it was is polled with a
GET, and placed again when some page shows it.
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
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
from poller.core.jobs import EARLIEST_CREATION, Job
from poller.core.pacing import delay_after
from poller.core.poll_queue import PollQueue
from poller.sutro.client import JobPage
from poller.sutro.list_page import ListPage, PageRequest

PAGE_JOBS: Final = 100
MARGIN_JOBS: Final = 5
"""How many jobs deeper than the deepest due job to read: new jobs may have pushed it down."""
SKIP_PAGES: Final = 3
"""How many pages are compared to find out whether fewer would show the same jobs."""
PEEK_JOBS: Final = 20
"""How many jobs of the first page are read to check for new ones."""
MIN_PAGE_JOBS: Final = 4
"""Pages that have to be smaller than this, since jobs are large, are not worth their requests."""
LIST_RETRY_DELAYS: Final = (60.0, 120.0, 300.0, 900.0, 3_600.0)
"""Seconds until the list is requested again after each rejection in a row; the last one repeats."""
FAILURES_BEFORE_GET: Final = 3
"""Failed pages in a row after which a GET shows whether the list alone fails. While it does not,
this doubles: an outage must not cost more requests than normal operation."""
PAGES_PER_GET: Final = 1 / 8
"""How many pages of the list's unknown part each GET of a job without a place allows."""
MAX_PAGE_CREDIT: Final = 100.0

LIST_ERRORS: Final = (WrongEndpoint, NotFound, Rejected)

log = structlog.get_logger()


class ListPlanner:
    """Plans pages, and learns from their results. `is_on=False` leaves everything to GETs."""

    def __init__(self, now: Callable[[], float], *, is_on: bool = True) -> None:
        self._now = now
        self._off_until = 0.0 if is_on else math.inf
        self._rejections = 0
        self._pages = [ListPage(0, None)]
        self._cursors: dict[str | None, ListPage] = {}
        self._places: dict[str, ListPage] = {}
        self._created: dict[str, datetime | None] = {}
        self._credit = 1.0
        self._limit = PAGE_JOBS
        self._failures, self._failures_allowed = 0, FAILURES_BEFORE_GET

    def retry(self) -> None:
        """Allow the list again at once, if it was rejected or failing."""
        self._off_until = self._off_until if math.isinf(self._off_until) else 0.0
        self._rejections, self._failures, self._failures_allowed = 0, 0, FAILURES_BEFORE_GET

    def plan(self, job_id: str, queue: PollQueue) -> PageRequest | None:
        """Return the page that shows a due job and others, or None where a GET is better."""
        if self._is_off:
            return None
        list_page = self._places.get(job_id)
        if list_page is None:
            is_alone = len(self._created) == (job_id in self._created)
            self._created.setdefault(job_id, None)
            return None if is_alone else self.search(job_id)
        depth, jobs = self._extent(list_page, queue)
        is_shown = job_id in list_page.job_ids[: self._limit]
        return self._down_to(list_page, depth) if is_shown and jobs > 1 else None

    def read_again(self, list_page: ListPage, queue: PollQueue) -> PageRequest | None:
        """Return a page that is due, or None where a GET of one of its jobs is better.

        A page may be read down to its first job that waits only: the next one then begins there.
        """
        if self._is_off:
            return None
        if rows := self._rows_to_skip(list_page, queue):
            return PageRequest(list_page, rows, is_whole=True)
        depth, jobs = self._extent(list_page, queue)
        return self._down_to(list_page, depth) if jobs > 1 else None

    def is_readable(self, list_page: ListPage) -> bool:
        """Return whether a page is part of the list as it is known, and the list may be read."""
        return self.has(list_page) and self._now() >= self._off_until

    def locate(self, job_id: str) -> PageRequest | None:
        """Return the page that shows a job, also if no other is due; None if it is not known."""
        list_page = self._places.get(job_id)
        if list_page is None or self._is_off:
            return None
        depth = list_page.job_ids.index(job_id) + 1
        return self._down_to(list_page, depth) if depth <= self._limit else None

    def search(self, job_id: str) -> PageRequest | None:
        """Return an unread page in which a job may be, if there is credit for one."""
        list_page = self._page_of(self._created.setdefault(job_id, None))
        if list_page is None or self._credit < 1.0 or self._is_off:
            return None
        self._credit -= 1.0
        return PageRequest(list_page, self._limit, is_whole=True)

    def peek(self) -> PageRequest | None:
        """Return a small first page that can show a few new jobs, if pages may be larger."""
        if self._limit <= PEEK_JOBS:
            return None
        return PageRequest(self._pages[0], PEEK_JOBS, is_whole=False)

    def first(self) -> PageRequest:
        """Return the first page."""
        return PageRequest(self._pages[0], self._limit, is_whole=True)

    def has(self, list_page: ListPage) -> bool:
        """Return whether a page is part of the list as it is known now."""
        number = list_page.number
        return number < len(self._pages) and self._pages[number] is list_page

    def after(self, request: PageRequest) -> PageRequest | None:
        """Return the page after a whole one, or None at the end of the list."""
        number = request.page.number + 1
        if not self.has(request.page) or number == len(self._pages):
            return None
        return PageRequest(self._pages[number], self._limit, is_whole=True)

    def learn_page(self, request: PageRequest, page: JobPage) -> None:
        """Record what a page showed."""
        self.retry()
        list_page, shown = request.page, [job.job_id for job in page.jobs]
        if not self.has(list_page):
            return  # the list was forgotten meanwhile
        found = sum(job_id in self._created for job_id in shown)
        self._credit = min(self._credit + found, MAX_PAGE_CREDIT)
        below = list_page.job_ids[request.limit :]
        self._place(list_page, shown, kept=() if request.is_whole else below)
        if request.is_whole:
            self._limit = min(self._limit + 1, PAGE_JOBS)
            list_page.is_read = True
            created = [job.datetime_created for job in page.jobs if job.datetime_created]
            list_page.oldest = min((at for at in created if at >= EARLIEST_CREATION), default=None)
            self._link_next(list_page, page.next_cursor)
            if below and (following := self.after(request)):
                self._place(following.page, below, kept=following.page.job_ids)

    def learn_job(self, job_id: str, result: Job | PollError) -> None:
        """Record what a GET showed of a job."""
        if self._failures >= self._failures_allowed:
            self._failures, self._failures_allowed = 0, 2 * self._failures_allowed
            if isinstance(result, Job):
                self._failures_allowed = 1  # later one page shows whether the list works
                self._disable("pages fail while single requests work")
        if not isinstance(result, Job) or job_id in self._places:
            return
        self._credit = min(self._credit + PAGES_PER_GET, MAX_PAGE_CREDIT)
        if result.status.is_terminal:
            self._created.pop(job_id, None)
        else:
            self._created[job_id] = result.datetime_created

    def forget(self, job_id: str) -> None:
        """Forget a job that is not polled any more, unless a page shows it."""
        self._created.pop(job_id, None)

    def fail(self, request: PageRequest, error: PollError) -> None:
        """Record that a page failed."""
        if isinstance(error, ResponseTooLarge):
            self._limit = request.limit // 2
            self._forget()
            if self._limit < MIN_PAGE_JOBS:
                self._limit = PAGE_JOBS
                self._disable(str(error))
        elif is_list_error(error):
            if request.page.cursor is None:
                self._disable(str(error))
            self._forget()  # a cursor may have expired: start again at the top
        else:
            self._failures += not isinstance(error, RateLimited | Unauthorized)

    @property
    def _is_off(self) -> bool:
        return self._now() < self._off_until or self._failures >= self._failures_allowed

    def _extent(self, list_page: ListPage, queue: PollQueue) -> tuple[int, int]:
        """Return down to which row a page shows jobs that wait, and how many, counted to 2."""
        depth = jobs = 0
        for row in range(len(list_page.job_ids), 0, -1):
            if queue.is_waiting(list_page.job_ids[row - 1]):
                depth, jobs = max(depth, row), jobs + 1
                if jobs == 2:
                    break
        return depth, jobs

    def _rows_to_skip(self, list_page: ListPage, queue: PollQueue) -> int:
        """Return how many rows are above the first job that waits, if fewer pages can begin there.

        Only the next pages count, and 0 means that as many would be needed.
        """
        if not self.has(list_page) or any(map(queue.is_waiting, list_page.job_ids[:1])):
            return 0
        pages = self._pages[list_page.number :][:SKIP_PAGES]
        rows = [[queue.is_waiting(job_id) for job_id in page.job_ids] for page in pages]
        needed = end = 0
        for row, is_waiting in enumerate(chain.from_iterable(rows)):
            if is_waiting and row >= end:
                needed, end = needed + 1, row + self._limit
        used = sum(any(page_rows) for page_rows in rows)
        return rows[0].index(True) if needed < used and any(rows[0]) else 0

    def _down_to(self, list_page: ListPage, depth: int) -> PageRequest:
        limit = min(depth + MARGIN_JOBS, self._limit)
        return PageRequest(list_page, limit, is_whole=limit == self._limit)

    def _page_of(self, created: datetime | None) -> ListPage | None:
        """Return the first unread page, or the one that reaches down to a creation time."""
        for list_page in self._pages:
            if not list_page.is_read or (
                created and list_page.oldest and list_page.oldest <= created
            ):
                return list_page
        return None

    def _place(self, list_page: ListPage, shown: Sequence[str], *, kept: Sequence[str]) -> None:
        rows = [*shown, *(job_id for job_id in kept if job_id not in shown)]
        if list_page.has_all_rows and rows == list_page.job_ids:
            return
        for job_id in list_page.job_ids:
            if self._places.get(job_id) is list_page:
                del self._places[job_id]
        list_page.job_ids, list_page.has_all_rows = rows, True
        for job_id in rows:
            if other := self._places.get(job_id):
                other.has_all_rows = False
            self._places[job_id] = list_page
            self._created.pop(job_id, None)

    def _link_next(self, list_page: ListPage, cursor: str | None) -> None:
        """Start the next page where this one ended; a cursor that repeats ends the list."""
        number = list_page.number + 1
        if not cursor or self._is_above(list_page, cursor):
            for later in self._pages[number:]:
                self._remove_cursor(later)
            del self._pages[number:]
            return
        if number == len(self._pages):
            self._pages.append(ListPage(number, cursor))
        following = self._pages[number]
        self._remove_cursor(following)
        following.cursor = cursor
        self._cursors[cursor] = following

    def _remove_cursor(self, list_page: ListPage) -> None:
        if self._cursors.get(list_page.cursor) is list_page:
            del self._cursors[list_page.cursor]

    def _is_above(self, list_page: ListPage, cursor: str) -> bool:
        """Return whether a cursor is that of this page, or of one above it."""
        other = self._cursors.get(cursor)
        return other is not None and other.number <= list_page.number and self.has(other)

    def _disable(self, reason: str) -> None:
        seconds = list_retry_delay(self._rejections)
        self._rejections += 1
        self._off_until = max(self._off_until, self._now() + seconds)
        log.warning("listing.disabled", seconds=seconds, error=reason)

    def _forget(self) -> None:
        self._pages, self._cursors, self._places = [ListPage(0, None)], {}, {}
        self._credit = max(self._credit, 1.0)


def list_retry_delay(rejections: int) -> float:
    """Return the seconds until the list is requested again, after so many earlier rejections."""
    return delay_after(rejections + 1, LIST_RETRY_DELAYS)


def is_list_error(error: PollError) -> bool:
    """Return whether an error means that this API, or this key, has no list."""
    return isinstance(error, LIST_ERRORS)
