"""APIs without sockets: slow, late, and failing for all requests or for one job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final, NamedTuple

import anyio

from poller.core.errors import (
    Intercepted,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    StaleConnection,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.events import EventOrigin
from poller.core.jobs import Job, format_rfc3339
from poller.sutro.client import JobPage, no_known_jobs
from poller.sutro.port import Known
from tests.fault_injection.unreliable_list import RIGHT_ROW, Row, UnreliableList
from tests.support.builders import a_job
from tests.support.virtual_time import START

LATENCIES: Final = (0.01, 0.05, 0.3, 2.0, 8.0)


LATE_FIELDS: Final = (
    "datetime_completed",
    "job_cost",
    "input_tokens",
    "output_tokens",
    "failure_reason",
)


class ApiFault(NamedTuple):
    """An error, and the probability that a request meets it."""

    error: PollError
    odds: float


UNKNOWN: Final = NotFound("404")
ERRORS: Final[tuple[PollError, ...]] = (
    Transient("503"),
    StaleConnection("closed"),
    RateLimited("429", retry_after=7.0),
    RateLimited("429", retry_after=None),
    Unauthorized("401", status=401),
    Unauthorized("403", status=403),
    Intercepted("403 of a proxy"),
    Rejected("422"),
    WrongEndpoint("302"),
    MalformedResponse("no job"),
    ResponseTooLarge("over the cap"),
)


@dataclass(frozen=True, slots=True)
class JobTimeline:
    """When one job changes, in seconds of the loop, and how the list shows it.

    `late` has when each of LATE_FIELDS comes, never before the end.
    """

    job_id: str
    ends_as: str
    created: float
    started: float
    ended: float
    late: Mapping[str, float]
    row: Row = RIGHT_ROW
    _jobs: dict[int, Job] = field(default_factory=dict, init=False, repr=False)

    @property
    def end(self) -> str:
        """The type of the event that its end causes."""
        return f"job.{self.ends_as}"

    def at(self, now: float) -> Job:
        """Return the job as it is at a time, the same object until the next change."""
        changes = sum(at <= now for at in (self.started, self.ended, *self.late.values()))
        if changes not in self._jobs:
            self._jobs[changes] = self._build(now)
        return self._jobs[changes]

    def _build(self, now: float) -> Job:
        moments = {"created": self.created, "started": self.started, "completed": self.ended}
        fields: dict[str, Any] = {"job_cost": 0.5, "input_tokens": 20, "output_tokens": 0}
        fields |= {
            f"datetime_{name}": format_rfc3339(START + timedelta(seconds=at))
            for name, at in moments.items()
            if at <= now
        }
        if self.ends_as == "failed":
            fields["failure_reason"] = {"message": "out of quota"}
        fields |= {name: None for name, at in self.late.items() if now < at}
        going = "RUNNING" if now >= self.started else "QUEUED"
        status = self.ends_as.upper() if now >= self.ended else going
        return a_job(status, job_id=self.job_id, **fields)


class UnreliableApi:
    """An API of three methods that is slow and fails, with a list that is wrong.

    `requests` has the time and the job of each request, None for that of a page.
    """

    clock_skew = 0.0

    def __init__(self, random: Random) -> None:
        self.timelines: dict[str, JobTimeline] = {}
        self.faults: dict[str | None, ApiFault] = {}
        self.listing = UnreliableList()
        self.requests: list[tuple[float, str | None]] = []
        self._random = random

    async def get_job(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return a job as it was at the beginning or at the end of the request."""
        requested_at = anyio.current_time()
        await self._delay_or_fail(job_id)
        if job_id not in self.timelines:
            raise NotFound("404")
        return self.timelines[job_id].at(self._random.choice([requested_at, anyio.current_time()]))

    async def get_status(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return its status alone."""
        return a_job((await self.get_job(job_id)).status, job_id=job_id)

    async def list_jobs(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        known: Known = no_known_jobs,
    ) -> JobPage:
        """Return a page, newest first, of the rows that are there when the response is sent."""
        requested_at = anyio.current_time()
        await self._delay_or_fail(None)
        return self.listing.page(
            self.timelines.values(),
            limit=limit,
            cursor=cursor,
            requested_at=requested_at,
            seen_at=anyio.current_time(),
        )

    async def _delay_or_fail(self, job_id: str | None) -> None:
        self.requests.append((anyio.current_time(), job_id))
        await anyio.sleep(self._random.choice(LATENCIES))
        for scope in dict.fromkeys([None, job_id]):
            fault = self.faults.get(scope)
            if fault and self._random.random() < fault.odds:
                raise fault.error.with_traceback(None)


@dataclass(slots=True)
class Site:
    """A deployment of the API with jobs of its own, and which of them are named."""

    name: str
    api: UnreliableApi
    watched_ids: set[str] = field(default_factory=set)
    faulty_jobs: set[str] = field(default_factory=set)

    @property
    def origin(self) -> EventOrigin:
        """The origin of its events: job ids repeat, so that each site has its namespace."""
        return EventOrigin(deployment=self.name, namespace=self.name)
