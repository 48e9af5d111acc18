"""An API without sockets: slow, late, and in trouble with all requests or with one job's."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final, NamedTuple

import anyio

from poller.core.errors import (
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.jobs import Job, format_rfc3339
from poller.sutro.client import JobPage, no_known_jobs
from poller.sutro.port import Known
from tests.support.builders import a_job
from tests.support.virtual_time import START

LATENCIES: Final = (0.01, 0.05, 0.3, 2.0, 8.0)


class Trouble(NamedTuple):
    """An error, and with which odds a request meets it."""

    error: PollError
    odds: float


UNKNOWN: Final = NotFound("404")
ERRORS: Final[tuple[PollError, ...]] = (
    Transient("503"),
    RateLimited("429", retry_after=7.0),
    RateLimited("429", retry_after=None),
    Unauthorized("401", status=401),
    Unauthorized("403", status=403),
    Rejected("422"),
    WrongEndpoint("302"),
    MalformedResponse("no job"),
    ResponseTooLarge("over the cap"),
)


@dataclass(frozen=True, slots=True)
class Course:
    """The life of one job, in seconds of the loop's clock."""

    job_id: str
    ends_as: str
    created: float
    started: float
    ended: float
    cost_at: float

    @property
    def end(self) -> str:
        """The type of the event that is owed for its end."""
        return f"job.{self.ends_as}"

    def at(self, now: float) -> Job:
        """Give the job as it is at some time."""
        moments = {"created": self.created, "started": self.started, "completed": self.ended}
        fields: dict[str, Any] = {
            f"datetime_{name}": format_rfc3339(START + timedelta(seconds=at))
            for name, at in moments.items()
            if at <= now
        }
        going = "RUNNING" if now >= self.started else "QUEUED"
        status = self.ends_as.upper() if now >= self.ended else going
        cost = 0.5 if now >= self.cost_at else None
        return a_job(status, job_id=self.job_id, job_cost=cost, **fields)


class ShakyApi:
    """An API of three verbs, slow and in trouble; its list lags."""

    clock_skew = 0.0

    def __init__(self, random: Random) -> None:
        self.courses: dict[str, Course] = {}
        self.troubles: dict[str | None, Trouble] = {}
        self.lag = 0.0
        self._random = random

    async def get_job(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Show a job as it was at the begin or at the end of the request."""
        asked_at = anyio.current_time()
        await self._take_time(job_id)
        return self.courses[job_id].at(self._random.choice([asked_at, anyio.current_time()]))

    async def get_status(self, job_id: str) -> Job:
        """Show its status alone."""
        return a_job((await self.get_job(job_id)).status, job_id=job_id)

    async def list_jobs(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        known: Known = no_known_jobs,
    ) -> JobPage:
        """Show a page, newest first, as it was some time ago."""
        asked_at = anyio.current_time()
        await self._take_time(None)
        newest = list(reversed(self.courses.values()))
        start = int(cursor or 0)
        end = start + limit
        shown = [it.at(max(it.created, asked_at - self.lag)) for it in newest[start:end]]
        return JobPage(tuple(shown), str(end) if end < len(newest) else None)

    async def _take_time(self, job_id: str | None) -> None:
        await anyio.sleep(self._random.choice(LATENCIES))
        for whom in dict.fromkeys([None, job_id]):
            trouble = self.troubles.get(whom)
            if trouble and self._random.random() < trouble.odds:
                raise trouble.error.with_traceback(None)
