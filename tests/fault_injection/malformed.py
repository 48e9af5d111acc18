"""Every class of malformed response, and an API over bare TCP that sends them."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from anyio.abc import ByteStream

from tests.fault_injection.broken_transports import (
    REDIRECTS,
    TRANSPORTS,
    USABLE_TRANSPORTS,
    Transport,
)
from tests.fault_injection.response_bodies import (
    UNUSABLE_BODIES,
    USABLE_BODIES,
    Body,
    JobObject,
    job_body,
)
from tests.support.builders import a_job_object
from tests.support.http_peers import ConnectionHandler, Peer, peer, responds
from tests.support.run_checker import ExpectedEvent

ENDS: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
DATED: Final = {"date": "Mon, 15 Jan 2024 10:30:00 GMT"}


@dataclass(frozen=True, slots=True)
class Malformed:
    """One class of responses. `is_usable`: it is still an observation of its job."""

    name: str
    write: Callable[[JobObject, str], ConnectionHandler]
    is_usable: bool = False


@dataclass(frozen=True, slots=True)
class JobResponse:
    """One response about a job: this object, written well or malformed."""

    job: JobObject
    malformed: Malformed | None = None

    @property
    def event_type(self) -> str | None:
        """The event that this response causes."""
        if self.malformed and not self.malformed.is_usable:
            return None
        status = self.job["status"]
        return f"job.{status.lower()}" if status in ENDS else STARTED.get(status)

    def handler(self, base: str, *, is_status: bool) -> ConnectionHandler:
        """Return the response, which has its own shape when the status alone is requested."""
        if self.malformed and not (is_status and self.malformed.is_usable):
            return self.malformed.write(self.job, base)
        return responds(200, status_alone(self.job) if is_status else job_body(self.job), **DATED)


STARTED: Final = {"RUNNING": "job.started"}


def status_alone(job: JobObject) -> bytes:
    """Return the body of a response with the status alone."""
    reason = {"failure_reason": job["failure_reason"]}
    return json.dumps({"job_status": {job["job_id"]: job["status"]}, "metadata": reason}).encode()


@dataclass
class JobResponses:
    """The responses for one job, the last one repeated. `polled_at` holds the times of polls."""

    job_id: str
    responses: list[JobResponse]
    polled_at: list[float] = field(default_factory=list)

    def next_response(self) -> JobResponse:
        """Return the response to the next poll."""
        self.polled_at.append(anyio.current_time())
        return self.responses[min(len(self.polled_at), len(self.responses)) - 1]

    @property
    def expected_events(self) -> set[tuple[str, str]]:
        """The events that these responses cause in all."""
        return {
            (self.job_id, response.event_type) for response in self.responses if response.event_type
        }


@dataclass
class MalformedApi:
    """Responses by job id, and the events they cause. `page` is its list at any time.

    `status_only` holds the jobs whose status alone was requested, `redirected` the paths that only
    a client that follows redirects requests.
    """

    jobs: dict[str, JobResponses]
    now: Callable[[], float]
    page: Any = None
    base: str = ""
    listed: int = 0
    expected: list[ExpectedEvent] = field(default_factory=list)
    status_only: set[str] = field(default_factory=set)
    redirected: list[str] = field(default_factory=list)

    async def answer(self, stream: ByteStream, line: str) -> None:
        """Answer the request that begins with this line."""
        path = line.split()[1]
        if path.startswith("/v1/list-jobs"):
            self.listed += 1
            await responds(200, json.dumps(self.page).encode(), **DATED)(stream)
            return
        job = self.jobs.get(path.rpartition("/")[2])
        if job is None:
            self.redirected.append(path)
            return
        next_response, is_status = job.next_response(), "/job-status/" in path
        if is_status:
            self.status_only.add(job.job_id)
        await next_response.handler(self.base, is_status=is_status)(stream)
        if next_response.event_type:
            self.expected.append(ExpectedEvent(self.now(), job.job_id, next_response.event_type))


@asynccontextmanager
async def serving_api(api: MalformedApi) -> AsyncIterator[Peer]:
    """Serve an API over bare TCP."""

    async def handler(stream: ByteStream) -> None:
        await api.answer(stream, server.lines[-1])

    async with peer(handler) as server:
        api.base = f"{server.base}/v1"
        yield server


def job_objects(job_id: str, ends_as: str = "SUCCEEDED") -> tuple[JobObject, JobObject, JobObject]:
    """Return the objects of a job that is queued, running and ended."""
    cost = {"job_cost": None, "datetime_completed": None}
    queued = a_job_object(job_id=job_id, status="QUEUED", datetime_started=None, **cost)
    running = a_job_object(job_id=job_id, status="RUNNING", **cost)
    return queued, running, a_job_object(job_id=job_id, status=ends_as)


def first(job_id: str, malformed: Malformed) -> JobResponses:
    """Return responses of which the first one is malformed."""
    queued, running, ended = job_objects(job_id)
    return JobResponses(
        job_id,
        [
            _malformed(queued, malformed),
            JobResponse(queued),
            JobResponse(running),
            JobResponse(ended),
        ],
    )


def middle(job_id: str, malformed: Malformed) -> JobResponses:
    """Return responses whose RUNNING status is malformed, and sent again well if unusable."""
    queued, running, ended = job_objects(job_id)
    runs = [] if malformed.is_usable else [JobResponse(running)]
    return JobResponses(
        job_id, [JobResponse(queued), _malformed(running, malformed), *runs, JobResponse(ended)]
    )


def last(job_id: str, malformed: Malformed) -> JobResponses:
    """Return responses whose end is malformed, and sent well only if that is unusable."""
    queued, running, ended = job_objects(
        job_id, "FAILED" if "reason" in malformed.name else "SUCCEEDED"
    )
    ends = [] if malformed.is_usable else [JobResponse(ended)]
    return JobResponses(
        job_id, [JobResponse(queued), JobResponse(running), _malformed(ended, malformed), *ends]
    )


POSITIONS: Final = {"first": first, "middle": middle, "terminal": last}


def _malformed(job: JobObject, malformed: Malformed) -> JobResponse:
    """Return a malformed response; an unusable one claims an end that never happened."""
    if malformed.is_usable:
        return JobResponse(job, malformed)
    claim = {"status": "CANCELLED", "datetime_completed": "2024-01-15T10:32:15Z", "job_cost": 9}
    return JobResponse(job | claim, malformed)


def mixed(job_id: str, gaps: Sequence[Sequence[Malformed]]) -> JobResponses:
    """Return responses with malformed ones before, between and after the good ones."""
    responses: list[JobResponse] = []
    for job, gap in zip(job_objects(job_id), gaps, strict=True):
        responses += [*(_malformed(job, malformed) for malformed in gap), JobResponse(job)]
    return JobResponses(job_id, responses)


def _of_body(name: str, body: Body, *, is_usable: bool) -> Malformed:
    return Malformed(name, lambda job, _base: responds(200, body(job), **DATED), is_usable)


def _of_transport(name: str, transport: Transport, *, is_usable: bool) -> Malformed:
    return Malformed(name, lambda job, _base: transport(job_body(job)), is_usable)


def _redirects(code: int, name: str, place: Callable[[JobObject, str], str | None]) -> Malformed:
    def write(job: JobObject, base: str) -> ConnectionHandler:
        to = place(job, base)
        return responds(code, job_body(job), **({"location": to} if to else {}))

    return Malformed(f"{code} to {name}", write)


PLACES: Final[dict[str, Callable[[JobObject, str], str | None]]] = {
    "the same origin": lambda _job, base: f"{base}/elsewhere",
    "another origin": lambda _job, base: base.replace("127.0.0.1", "localhost") + "/elsewhere",
    "itself": lambda job, base: f"{base}/jobs/{job['job_id']}",
    "nowhere": lambda _job, _base: None,
}


def _text_plain(job: JobObject, _base: str) -> ConnectionHandler:
    return responds(200, job_body(job), content_type="text/plain; charset=latin-1")


CLASSES: Final = (
    *(_of_transport(name, how, is_usable=False) for name, how in TRANSPORTS.items()),
    *(_of_transport(name, how, is_usable=True) for name, how in USABLE_TRANSPORTS.items()),
    *(_redirects(code, name, place) for code in REDIRECTS for name, place in PLACES.items()),
    *(_of_body(name, body, is_usable=False) for name, body in UNUSABLE_BODIES.items()),
    *(_of_body(name, body, is_usable=True) for name, body in USABLE_BODIES.items()),
    Malformed("JSON as text/plain", _text_plain, is_usable=True),
)
"""Every class, ordered by its defect: first of the transport, then of the body."""
