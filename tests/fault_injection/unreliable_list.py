"""A job list that is wrong: rows that are late, stuck, odd or out of order, and endless cursors."""

import math
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from poller.core.jobs import Job
from poller.sutro.client import JobPage

if TYPE_CHECKING:
    from tests.fault_injection.unreliable_api import JobTimeline

Cursors = Literal["right", "loop", "empty", "repeat"]
"""The cursor at the end: none, an earlier one, new ones of empty pages, or of the list again."""

Place = tuple[float, str]
"""The place of a row: its creation time, as the list sorts it, and its id."""

Date = datetime | Literal["right"] | None

ODD_DATES: Final[tuple[Date, ...]] = (
    None,
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
)
"""Creation times that are wrong: no such date makes a job too old to be discovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How the list shows one job.

    Times are seconds of the loop: the row is there from `listed` until `unlisted`, and can be read
    from `readable` on. It is `displaced` by seconds. A stuck row stays as it was first shown;
    `created` replaces its creation time.
    """

    listed: float = 0.0
    unlisted: float = math.inf
    readable: float = 0.0
    displaced: float = 0.0
    is_stuck: bool = False
    created: Date = "right"

    @property
    def visible_at(self) -> float:
        """The time from which on the row shows its job."""
        return max(self.listed, self.readable)


RIGHT_ROW: Final = Row()


@dataclass(slots=True)
class UnreliableList:
    """The list of an account. Its rows show what was `lag` seconds ago."""

    lag: float = 0.0
    cursors: Cursors = "right"
    _second_page: str | None = None
    _sorted: list["JobTimeline"] = field(default_factory=list)

    def page(
        self,
        timelines: Collection["JobTimeline"],
        *,
        limit: int,
        cursor: str | None,
        requested_at: float,
        seen_at: float,
    ) -> JobPage:
        """Return a page, newest first, of the rows that are there at `seen_at`."""
        number, below = _read_cursor(cursor)
        rows = list(islice(self._rows(timelines, below, seen_at), limit + 1))
        shown = rows[:limit]
        jobs = [self._show(job, requested_at) for job in shown if job.row.readable <= seen_at]
        if len(rows) > limit:
            following = _write_cursor(number, _place(shown[-1]))
            self._second_page = self._second_page if cursor else following
        else:
            following = self._last_cursor(number, cursor)
        return JobPage(tuple(jobs), following)

    def _rows(
        self, timelines: Collection["JobTimeline"], below: Place, now: float
    ) -> Iterator["JobTimeline"]:
        """Yield the rows that are there, newest first; jobs are sorted only when some are new."""
        if len(self._sorted) != len(timelines):
            self._sorted = sorted(timelines, key=_place)
        for number in reversed(range(bisect_left(self._sorted, below, key=_place))):
            job = self._sorted[number]
            if job.row.listed <= now < job.row.unlisted:
                yield job

    def _show(self, job: "JobTimeline", now: float) -> Job:
        first_shown = max(job.created, job.row.visible_at)
        seen = job.at(first_shown if job.row.is_stuck else max(first_shown, now - self.lag))
        created = job.row.created
        return seen if created == "right" else replace(seen, datetime_created=created)

    def _last_cursor(self, number: int, cursor: str | None) -> str | None:
        match self.cursors:
            case "loop":
                return self._second_page or cursor or _write_cursor(0, (-math.inf, ""))
            case "empty":
                return _write_cursor(number + 1, (-math.inf, ""))
            case "repeat":
                return _write_cursor(number + 1, (math.inf, ""))
        return None


def _place(job: "JobTimeline") -> Place:
    return job.created + job.row.displaced, job.job_id


def _write_cursor(number: int, place: Place) -> str:
    return f"{number} {place[0]!r} {place[1]}"


def _read_cursor(cursor: str | None) -> tuple[int, Place]:
    number, created, job_id = (cursor or "0 inf ").split(" ")
    return int(number), (float(created), job_id)
