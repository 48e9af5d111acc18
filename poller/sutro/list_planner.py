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
    Misconfigured,
    NotFound,
    PollError,
    Refused,
    Rejected,
    Throttled,
    TooLarge,
)
from poller.core.jobs import Job
from poller.polling.queue import Schedule
from poller.sutro.client import Page

PAGE: Final = 100
MARGIN: Final = 5
"""How much deeper than the deepest job a page reads, for those that new jobs push down."""
GLIMPSE: Final = 20
"""How much of the first page is read to see whether there are new jobs."""
LEAST: Final = 4
"""Pages of fewer jobs than that, since a job can be large, are not worth the trouble."""
OFF_FOR: Final = 3_600.0
DOUBTS: Final = 3
"""Failed pages in a row after which a GET shows whether it is the list alone that fails. While it
is not, each time twice as many: an outage must not cost more requests than health."""
GET_CREDIT: Final = 1 / 8
"""Of the list's unknown part so many pages may be read for each GET of a job that is not placed."""
MOST_CREDIT: Final = 100.0

ABOUT_THE_LIST: Final = (Misconfigured, NotFound, Rejected)

log = structlog.get_logger()


@dataclass(slots=True)
class Leaf:
    """Some jobs of the list, as its last reading showed them. `oldest` is None before that."""

    number: int
    cursor: str | None
    job_ids: list[str] = field(default_factory=list)
    oldest: datetime | None = None
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page to ask for, and the scheduled jobs that it is expected to show.

    `is_whole`: it goes down to where the next leaf begins.
    """

    leaf: Leaf
    limit: int
    expected: tuple[str, ...]
    is_whole: bool


class Listing:
    """Choose pages, and learn from them. `is_on` is false where only GETs are wanted."""

    def __init__(self, now: Callable[[], float], *, is_on: bool = True) -> None:
        self._now = now
        self._off_until = 0.0 if is_on else float("inf")
        self._leaves = [Leaf(0, None)]
        self._cursors: dict[str | None, Leaf] = {}
        self._places: dict[str, Leaf] = {}
        self._created: dict[str, datetime | None] = {}
        self._credit = 1.0
        self._limit = PAGE
        self._failures, self._doubts = 0, DOUBTS
        self._top: frozenset[str] = frozenset()
        self.surveyed_at = -math.inf

    def survey_anew(self) -> None:
        """Take in that any job may be news."""
        self._top, self.surveyed_at = frozenset(), -math.inf

    def page_for(self, job_id: str, schedule: Schedule) -> Sheet | None:
        """Give the page that shows a due job and others that are due soon; None: a GET is best."""
        now = self._now()
        if now < self._off_until or self._failures >= self._doubts:
            return None
        leaf = self._places.get(job_id)
        if leaf is None:
            return self._unread(job_id)
        ids = leaf.job_ids[: self._limit]
        soon = [number for number, it in enumerate(ids) if schedule.is_soon(it, now)]
        if not soon or job_id not in ids:
            return None
        depth = max(soon[-1], ids.index(job_id)) + 1
        # Who is not due yet is seen as well, or, in an outage, has failed to be seen.
        expected = tuple(it for it in ids[:depth] if schedule.is_sociable(it))
        limit = min(depth + MARGIN, self._limit)
        return Sheet(leaf, limit, expected, is_whole=limit == self._limit)

    def glimpse(self) -> Sheet | None:
        """Give as much of the first page as shows a few new jobs, once older ones are known."""
        if not self._top or self._limit <= GLIMPSE:
            return None
        return Sheet(self._leaves[0], GLIMPSE, (), is_whole=False)

    def top(self) -> Sheet:
        """Give the first page."""
        return Sheet(self._leaves[0], self._limit, (), is_whole=True)

    def has(self, leaf: Leaf) -> bool:
        """Tell whether a leaf is part of the list as it is known now."""
        number = leaf.number
        return number < len(self._leaves) and self._leaves[number] is leaf

    def after(self, sheet: Sheet) -> Sheet | None:
        """Give the page after a whole one, unless the list ends there."""
        number = sheet.leaf.number + 1
        if not self.has(sheet.leaf) or number == len(self._leaves):
            return None
        return Sheet(self._leaves[number], self._limit, (), is_whole=True)

    def meets_the_known(self, page: Page) -> bool:
        """Tell whether a page reaches down to what the last survey saw at the top."""
        return any(job.job_id in self._top for job in page.jobs)

    def surveyed(self, page: Page) -> None:
        """Take in that all is known below this first page, and it too."""
        self._top = frozenset(job.job_id for job in page.jobs)
        self.surveyed_at = self._now()

    def learn(self, sheet: Sheet, page: Page) -> None:
        """Take in what a page showed."""
        if sheet.leaf.cursor is None and self.meets_the_known(page):
            self.surveyed(page)
        self._failures, self._doubts = 0, DOUBTS
        leaf, shown = sheet.leaf, [job.job_id for job in page.jobs]
        if not self.has(leaf):
            return  # the list was begun anew meanwhile
        found = sum(it in self._created for it in shown)
        self._credit = min(self._credit + found, MOST_CREDIT)
        self._move(leaf, shown, kept=leaf.job_ids[sheet.limit :])
        if sheet.is_whole:
            self._limit = min(self._limit + 1, PAGE)
            leaf.is_read = True
            leaf.oldest = min((it for it in map(_created, page.jobs) if it), default=None)
            self._bind(leaf, page.next_cursor)

    def learn_singly(self, job_id: str, result: Job | PollError) -> None:
        """Take in what a GET showed of a job."""
        if self._failures >= self._doubts:
            self._failures, self._doubts = 0, 2 * self._doubts
            if isinstance(result, Job):
                self._doubts = 1  # in an hour one page shows whether it is still so
                self._switch_off("pages fail while single requests work")
        if not isinstance(result, Job) or job_id in self._places:
            return
        self._credit = min(self._credit + GET_CREDIT, MOST_CREDIT)
        if result.status.is_terminal:
            self._created.pop(job_id, None)
        else:
            self._created[job_id] = result.datetime_created

    def fail(self, sheet: Sheet, error: PollError) -> None:
        """Take in that a page failed."""
        if isinstance(error, TooLarge):
            self._limit = sheet.limit // 2
            self._forget()
            if self._limit < LEAST:
                self._limit = PAGE
                self._switch_off(str(error))
        elif is_about_the_list(error):
            if sheet.leaf.cursor is None:
                self._switch_off(str(error))
            self._forget()  # a cursor may have grown too old: begin at the top
        else:
            self._failures += not isinstance(error, Throttled | Refused)

    def _unread(self, job_id: str) -> Sheet | None:
        """Give a page of the list's unknown part in which a job may be, if that is affordable."""
        self._created.setdefault(job_id, None)
        if len(self._created) < 2 or self._credit < 1.0:
            return None
        leaf = self._likely(self._created[job_id])
        if leaf is None:
            return None
        self._credit -= 1.0
        return Sheet(leaf, self._limit, (), is_whole=True)

    def _likely(self, created: datetime | None) -> Leaf | None:
        """Give the leaf that shows jobs of a time; one that was read, and not found, shows less."""
        for leaf in self._leaves:
            if not leaf.is_read or (created and leaf.oldest and leaf.oldest <= created):
                return leaf
        return None

    def _move(self, leaf: Leaf, shown: Sequence[str], *, kept: Sequence[str]) -> None:
        for it in leaf.job_ids:
            if self._places.get(it) is leaf:
                del self._places[it]
        leaf.job_ids = [*shown, *(it for it in kept if it not in shown)]
        for it in leaf.job_ids:
            self._places[it] = leaf
            self._created.pop(it, None)

    def _bind(self, leaf: Leaf, cursor: str | None) -> None:
        """Let the next leaf begin where this one ended; a cursor that comes again ends the list."""
        number = leaf.number + 1
        if not cursor or self._is_above(leaf, cursor):
            for it in self._leaves[number:]:
                self._unname(it)
            del self._leaves[number:]
            return
        if number == len(self._leaves):
            self._leaves.append(Leaf(number, cursor))
        following = self._leaves[number]
        self._unname(following)
        following.cursor = cursor
        self._cursors[cursor] = following

    def _unname(self, leaf: Leaf) -> None:
        if self._cursors.get(leaf.cursor) is leaf:
            del self._cursors[leaf.cursor]

    def _is_above(self, leaf: Leaf, cursor: str) -> bool:
        """Tell whether a cursor is that of a leaf, or of one above it."""
        other = self._cursors.get(cursor)
        return other is not None and other.number <= leaf.number and self.has(other)

    def _switch_off(self, why: str) -> None:
        self._off_until = self._now() + OFF_FOR
        log.warning("list.off", seconds=OFF_FOR, error=why)

    def _forget(self) -> None:
        self._leaves, self._cursors, self._places = [Leaf(0, None)], {}, {}
        self._credit = max(self._credit, 1.0)


def _created(job: Job) -> datetime | None:
    return job.datetime_created


def is_about_the_list(error: PollError) -> bool:
    """Tell whether an error means that this API, or this key, has no list."""
    is_forbidden = isinstance(error, Refused) and error.status == 403
    return is_forbidden or isinstance(error, ABOUT_THE_LIST)
