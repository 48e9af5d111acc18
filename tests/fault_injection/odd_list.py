"""An account's list that keeps no order: late rows, odd dates, cursors without an end."""

from bisect import bisect, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import inf, log2
from random import Random
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from poller.core.errors import RateLimited, StaleConnection, Transient
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.polling.discovery import Discovery, DiscoveryFilter
from poller.sutro.client import JobPage, no_known_jobs
from poller.sutro.list_planner import ListPlanner
from poller.sutro.list_survey import MAX_REPEATS, SURVEY_INTERVAL
from poller.sutro.port import Known, Observation
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.support.fakes import a_store, half
from tests.support.virtual_time import START, virtual_clock

HOUR: Final = 3_600.0
RUN_SECONDS: Final = 4 * HOUR
INTERVAL: Final = 30.0
LATENESS: Final = (5.0, 40.0, 250.0, 900.0, HOUR, 2 * HOUR)
FAR_PAST: Final = (datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC))
FAR_FUTURE: Final = (datetime(2077, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
ERRORS: Final = (Transient("503"), StaleConnection("closed"), RateLimited("429", retry_after=5.0))
PAGE_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the list, and from when on it is there, in seconds of the loop.

    `place` is the time in whose order it stands; that of an unreadable row has no job.
    """

    key: str
    job_id: str
    job: Job | None
    created: float
    shown_at: float
    place: float

    @property
    def is_undated_end(self) -> bool:
        """Return whether it shows an end, and no date that can be believed."""
        return self.job is not None and self.job.status.is_terminal and self.is_undated

    @property
    def is_undated(self) -> bool:
        """Return whether its date cannot be believed."""
        created = self.job and self.job.datetime_created
        return created is None or created in FAR_PAST or created in FAR_FUTURE


class OddList:
    """A client of the API whose list is odd in several ways."""

    clock_skew = 0.0

    def __init__(self, random: Random) -> None:
        choice = random.choice
        self.random = random
        self.began_at = anyio.current_time()
        self.rows: list[Row] = []
        self.requests = 0
        self.gap = choice([10.0, 60.0, 600.0])
        self.history = choice([0.0, HOUR, 6 * HOUR])
        self.is_dateless = self.random.random() < 0.2
        self.is_by_date = self.random.random() < 0.5
        self.end = choice(["none", "none", "loop", "empty", "repeat"])
        self.errors = choice([0.0, 0.0, 0.03])
        self._submit_all()
        self._numbers = {row.key: number for number, row in enumerate(self.rows)}
        self._hidden = sorted(self._numbers.values(), key=lambda n: -self.rows[n].shown_at)
        self._shown: list[int] = []

    @property
    def now(self) -> float:
        """The seconds since it began."""
        return anyio.current_time() - self.began_at

    def _submit_all(self) -> None:
        at, number = -self.history, 0
        while (at := at + self.random.expovariate(1 / self.gap)) < RUN_SECONDS / 2:
            for _ in range(self.random.choice([1] * 50 + [30, 250])):  # now and then a burst
                self.rows.append(self._row(f"job-{number}", at))
                number += 1
        twice = self.random.sample(self.rows, len(self.rows) // 30)
        self.rows += [replace(row, key=f"{row.key}-again") for row in twice]
        self.rows.sort(key=lambda row: row.place, reverse=True)

    def _row(self, job_id: str, at: float) -> Row:
        is_odd, random = self.random.random() < 0.1, self.random
        late = random.choice(LATENESS) * random.random() if is_odd else 0.0
        place = at + (random.uniform(-HOUR / 2, HOUR / 2) if random.random() < 0.05 else 0.0)
        created: datetime | None = START + timedelta(seconds=self.began_at + at)
        if self.is_dateless or random.random() < 0.05:
            created = None
        elif random.random() < 0.05:
            created = random.choice(FAR_PAST + FAR_FUTURE)
            if self.is_by_date:
                place = inf if created in FAR_FUTURE else -inf
        status = random.choice([JobStatus.RUNNING, JobStatus.SUCCEEDED])
        job = Job(
            job_id=job_id,
            status=status,
            datetime_created=created,
            datetime_completed=created if status.is_terminal else None,
        )
        is_readable = random.random() > 0.02
        return Row(job_id, job_id, job if is_readable else None, at, at + late, place)

    async def list_jobs(
        self, *, limit: int, cursor: str | None = None, known: Known = no_known_jobs
    ) -> JobPage:
        """Return a page; cursors are the places below which it starts."""
        self.requests += 1
        await anyio.sleep(0.2)
        if self.random.random() < self.errors:
            raise self.random.choice(ERRORS).with_traceback(None)
        shown = self._show()
        start = self._start(cursor)
        page = self._rows(shown[start : start + limit])
        jobs = tuple(row.job for row in page if row.job)
        if start + limit < len(shown):
            return JobPage(jobs, f"{page[-1].key} {start + limit}")
        if self.end == "repeat" and cursor and not page:
            jobs = tuple(row.job for row in self._rows(shown[-limit:]) if row.job)
        first = f"{self.rows[shown[0]].key} 1" if shown else ""
        endless = f"end {self.requests}"
        return JobPage(
            jobs,
            {"none": None, "loop": first or None, "empty": endless, "repeat": endless}[self.end],
        )

    def _show(self) -> list[int]:
        """Return the numbers of the rows that are there by now."""
        now = self.now
        while self._hidden and self.rows[self._hidden[-1]].shown_at <= now:
            insort(self._shown, self._hidden.pop())
        return self._shown

    def _rows(self, numbers: Sequence[int]) -> list[Row]:
        return [self.rows[number] for number in numbers]

    def _start(self, cursor: str | None) -> int:
        """Return where the page starts: below the row that the cursor names."""
        if cursor is None:
            return 0
        key = cursor.partition(" ")[0]
        return len(self._shown) if key == "end" else bisect(self._shown, self._numbers[key])


@dataclass(slots=True)
class Discovered:
    """When each admitted job of an odd list was discovered."""

    api: OddList
    per_minute: float
    surveyed_at: float = inf
    found: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Discover jobs for RUN_SECONDS."""
        clock = virtual_clock()
        source = SutroSource(
            self.api,  # type: ignore[arg-type]
            RateLimiter(per_minute=self.per_minute, now=clock.steady, random=half),
            planner=ListPlanner(clock.steady),
            now=clock.steady,
            renew_key=checkpoint,
        )
        discovery = Discovery(
            source,
            a_store(),
            deployment="odd",
            job_filter=DiscoveryFilter(),
            interval=INTERVAL,
            clock=clock,
            random=half,
        )

        async def ingest(observations: Sequence[Observation]) -> None:
            await checkpoint()
            for seen in observations:
                if isinstance(seen.result, Job) and discovery.admits(seen.result):
                    self.found.setdefault(seen.job_id, self.api.now)
            if source.is_surveyed:
                self.surveyed_at = min(self.surveyed_at, self.api.now)

        with anyio.move_on_after(RUN_SECONDS):
            await discovery.run(ingest)

    @property
    def violations(self) -> list[str]:
        """The jobs that were found late or never, and a number of requests that is too high."""
        limit = self._max_requests
        found = [f"{self.api.requests} requests, over {limit:.0f}"] * (self.api.requests > limit)
        for row in self.api.rows:
            due_at = self._due_at(row)
            if due_at < min(RUN_SECONDS, self.found.get(row.job_id, inf)):
                found.append(f"{row} found at {self.found.get(row.job_id)}, due at {due_at:.0f}")
        return found

    def _due_at(self, row: Row) -> float:
        """Return until when a row is to be found: as late again as it showed, or six minutes."""
        is_baseline = row.created < 0.0 or (row.is_undated_end and row.shown_at < self.surveyed_at)
        if row.job is None or (row.job.status.is_terminal and is_baseline):
            return inf
        shown_at = max(row.shown_at, 0.0)
        late = max(shown_at - max(row.place, -self.api.history), 0.0)
        if self.api.is_dateless or row.is_undated:  # depth is counted in pages
            above = bisect(self.api.rows, -row.place, key=lambda other: -other.place)
            late = max(late, 2 * SURVEY_INTERVAL * (above / PAGE_ROWS + 1))
        return shown_at + 1.15 * max(SURVEY_INTERVAL + INTERVAL, late) + self._reading_seconds

    @property
    def _pages(self) -> float:
        return len(self.api.rows) / PAGE_ROWS + 1

    @property
    def _reading_seconds(self) -> float:
        return (self._pages + MAX_REPEATS) * (60.0 / self.per_minute + 0.2) * 1.5

    @property
    def _max_requests(self) -> float:
        surveys = RUN_SECONDS / SURVEY_INTERVAL
        levels = log2(2 + (RUN_SECONDS + self.api.history) / 900.0)
        deep = 3 * levels * self._pages + (MAX_REPEATS + 1) * surveys
        return RUN_SECONDS / INTERVAL + deep
