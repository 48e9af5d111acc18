"""Jobs of an account whose list is wrong, while everything else works.

So each end has to be reported in time. The daemon sees it in a row that is right, or with a GET of
that job alone, which comes at the latest after CONFIRM_SECONDS or CONFIRM_SHARE of the job's age.
There are no sockets, so a case replays exactly from its seed, given the same PYTHONHASHSEED.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Final

import anyio

from poller.core.events import Event
from poller.core.pacing import PollPolicy
from poller.polling.watcher import Watcher
from tests.fault_injection.list_faults import FAULTS, RowFault
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.socketless_daemon import SCAN_INTERVAL, build_daemon
from tests.fault_injection.unreliable_api import JobTimeline, Site, UnreliableApi
from tests.fault_injection.unreliable_list import RIGHT_ROW, Date, Row
from tests.support.builders import check_event
from tests.support.fakes import a_store, recorded
from tests.support.virtual_time import START

CONFIRM_SECONDS: Final = 600.0
CONFIRM_SHARE: Final = 0.1
"""How long a wrong row may hide an end: ten minutes, or a tenth of the job's age by then."""
SURVEY_SECONDS: Final = 330.0
"""Seconds until a row that came late, or out of order, is read: those of a survey and of a scan.

A row that came very late is read before as long again has passed.
"""
SLACK_SECONDS: Final = 60.0
"""Seconds for slow responses and jitter, beside two rounds of a GET for each job."""
JITTER: Final = 1.1
QUIET_SECONDS: Final = 60.0
"""Seconds before the first job: discovery reports only what ends after its first start."""
OLD_SECONDS: Final = 4_000.0
"""Seconds between the creation of two jobs that had ended before the start."""
WINDOW_SECONDS: Final = 60.0
PAGES_PER_SCAN: Final = 3
OVERDUE: Final = ([], ["job.overdue"], ["job.overdue"] * 2)
"""What may come before the end of a job that takes long: at most one event for each stage."""
PAGES_OF_NOTHING: Final = 10
"""How many pages in vain a survey may read of a list without end."""


class ListWorld:
    """A daemon that watches named and discovered jobs while some `faults` make the list wrong.

    `watched_from` has when each job could be known.
    """

    run_seconds: Sequence[float] = (10.0, 300.0, 2_000.0, 7_000.0)
    pauses: Sequence[float] = (1.0, 60.0, 600.0, 3_600.0)
    """How long jobs run, and how long it takes until more of them are submitted."""

    def __init__(self, random: Random, faults: Collection[str] = ()) -> None:
        self.random = random
        self.site = Site("only", UnreliableApi(random))
        self.is_discovering = random.random() < 0.7
        self.policy = PollPolicy(maximum=random.choice([30.0, 300.0]))
        self.per_minute = random.choice([120.0, 600.0])
        self.has_pages = random.random() < 0.7
        self.row_faults: list[RowFault] = []
        self.old_dates: Sequence[Date] = ("right",)
        self.watched_from: dict[str, float] = {}
        self.begun_at = 0.0
        self.store = a_store()
        self.store._deployment = self.site.name
        for name, begin in FAULTS.items():
            if name in faults:
                begin(self)

    async def run(self) -> None:
        """Run the daemon until everything has to be reported."""
        self._add_old_jobs(self.random.choice([0, 30, 250]))
        self.begun_at = anyio.current_time()
        watcher, discovery = build_daemon(
            self.site,
            self.store,
            self.random,
            policy=self.policy,
            per_minute=self.per_minute,
            has_pages=self.has_pages,
        )
        async with anyio.create_task_group() as group:
            if self.is_discovering:
                await watcher.discover(discovery.admits)
                group.start_soon(discovery.run, watcher.ingest)
            group.start_soon(watcher.run)
            await anyio.sleep(QUIET_SECONDS)
            await self._submit_jobs(watcher)
            await anyio.sleep(max(self._overdue_at + 1.0 - anyio.current_time(), 0.0))
            group.cancel_scope.cancel()

    async def _submit_jobs(self, watcher: Watcher) -> None:
        for _ in range(self.random.choice([2, 4, 8])):
            for _ in range(self.random.choice([1, 3, 8, 30])):
                self._submit()
            await watcher.watch(frozenset(self.site.watched_ids))
            await anyio.sleep(self.random.choice(self.pauses))

    @property
    def _overdue_at(self) -> float:
        """When every end has to have been reported."""
        return max(map(self._due, self.watched_from))

    def _add_old_jobs(self, jobs: int) -> None:
        """Create jobs that had ended before the daemon first started, the oldest first."""
        now = anyio.current_time()
        for number in range(jobs, 0, -1):
            created = now - OLD_SECONDS * number
            row = Row(created=self.random.choice(self.old_dates))
            self._create(f"old-{number}", created, created + 60.0, row)

    def _submit(self) -> str:
        """Create a job, and name it unless it is to be discovered; return its id."""
        now = anyio.current_time()
        job_id = f"job-{len(self.watched_from)}"
        ended = now + 5.0 + self.random.choice(self.run_seconds)
        is_named = not self.is_discovering or self.random.random() < 0.3
        row = RIGHT_ROW
        for fault in self.row_faults:
            row = fault(self.random, row, now, is_named)
        self._create(job_id, now, ended, row)
        if is_named:
            self.site.watched_ids.add(job_id)
        lateness = max(row.visible_at - now, 0.0)
        self.watched_from[job_id] = now if is_named else now + 2 * lateness + SURVEY_SECONDS
        return job_id

    def _create(self, job_id: str, created: float, ended: float, row: Row) -> None:
        ends_as = self.random.choice(OUTCOMES)
        self.site.api.timelines[job_id] = JobTimeline(
            job_id, ends_as, created, created + 5.0, ended, {}, row
        )

    # What is to be true.

    @property
    def violations(self) -> list[str]:
        """The ends that were lost, late, false or repeated, and requests beyond the budget."""
        events: dict[str, list[Event]] = defaultdict(list)
        for event in recorded(self.store):
            events[event.subject].append(event)
        found = [self._violation_of(job_id, events.pop(job_id, [])) for job_id in self.watched_from]
        found += self._other_violations(events)
        found += self._budget_violations() + self._discovery_violations()
        return [line for line in found if line]

    def _violation_of(self, job_id: str, events: Sequence[Event]) -> str:
        """Return in which way the events of a job are wrong, or nothing."""
        job, due = self.site.api.timelines[job_id], self._due(job_id)
        types = [event.type for event in events if event.type != "job.started"]
        *before, end = types or [""]
        if end != job.end or before not in OVERDUE:
            return f"{job} was reported as {types}"
        late = observed_at(events[-1]) - due
        return f"the end of {job} was reported {late:.0f} s too late" if late > 0.0 else ""

    def _other_violations(self, events: Mapping[str, Sequence[Event]]) -> list[str]:
        """Return the events of jobs that had ended before the start, also by their rows."""
        timelines, lag = self.site.api.timelines, self.site.api.listing.lag
        return [
            f"{event.type} of {job_id}"
            for job_id, of_job in events.items()
            for event in of_job
            if event.type not in {"job.started", timelines[job_id].end}
            or timelines[job_id].ended + lag <= self.begun_at
        ]

    def _due(self, job_id: str) -> float:
        """Return when the end of a job has to be reported."""
        job, lag = self.site.api.timelines[job_id], self.site.api.listing.lag
        begin = max(job.ended, self.watched_from[job_id])
        longest = self.policy.maximum * JITTER + (math.inf if job.row.is_stuck else lag)
        age_share = CONFIRM_SHARE / (1 - CONFIRM_SHARE) * (begin - job.created)
        longest = min(longest, max(CONFIRM_SECONDS, age_share, self.policy.maximum * JITTER))
        return begin + longest + SLACK_SECONDS + 2 * self._round_seconds(len(self.watched_from))

    def _round_seconds(self, jobs: int) -> float:
        return jobs * 60.0 / self.per_minute

    def _budget_violations(self) -> list[str]:
        times = [at for at, _ in self.site.api.requests]
        allowed = self.per_minute * WINDOW_SECONDS / 60.0 + 1.0 + self.per_minute / 120.0
        most = max(
            bisect_right(times, at + WINDOW_SECONDS) - number for number, at in enumerate(times)
        )
        return [f"{most} requests in {WINDOW_SECONDS:.0f} s"] if most > allowed else []

    def _discovery_violations(self) -> list[str]:
        """Return whether discovery has read too many pages, where nothing else reads any."""
        if self.has_pages:
            return []
        pages = len([at for at, job_id in self.site.api.requests if job_id is None])
        seconds = anyio.current_time() - self.site.api.requests[0][0]
        to_survey = len(self.site.api.timelines) / 100 + PAGES_OF_NOTHING
        allowed = seconds * (PAGES_PER_SCAN / SCAN_INTERVAL + to_survey / SURVEY_SECONDS)
        return [f"{pages} pages in {seconds:.0f} s"] if pages > allowed + to_survey else []


def observed_at(event: Event) -> float:
    """Return the loop's time at which the end was observed."""
    observed = datetime.fromisoformat(check_event(event.body)["data"]["observed_at"])
    return (observed - START).total_seconds()
