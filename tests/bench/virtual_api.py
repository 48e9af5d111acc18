"""A Sutro API inside this process: it responds in no time, by a virtual clock.

It stands in for the HTTP client of the daemon, so that the daemon can live through months in a
minute. Its jobs follow the simulator's scripts; the bytes of a job are kept until it changes.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

from poller.runtime.http_values import NoResponse, Response
from poller.sutro.simulator.script import BRIEFLY, JobScript, SimulatedJob
from tests.bench.rules import Timeline

NO_RESPONSE = 0
"""The outage in which connections are refused; any other is an HTTP status."""


@dataclass(slots=True)
class ApiJob:
    """A job, and the bytes of its object. While `is_stuck`, the list shows it as it was last."""

    job: SimulatedJob
    is_stuck: bool = False
    _changes: tuple[float, ...] = field(init=False)
    _body: bytes = b""
    _until: float = -math.inf

    def __post_init__(self) -> None:
        """Compute when the object changes."""
        queue, run = self.job.script.queue_seconds, self.job.script.run_seconds
        moments = ((1 - BRIEFLY) * queue, queue, queue + run)
        self._changes = (*map(self.job.moment, moments), math.inf)

    @property
    def ends_at(self) -> float:
        """The moment of its end."""
        return self._changes[-2]

    def body(self, now: float) -> bytes:
        """Return its object at a moment that is not before the last one."""
        if now >= self._until:
            self._until = next(moment for moment in self._changes if moment > now)
            self._body = json.dumps(self.job.as_object(now)).encode()
        return self._body

    def row(self, now: float) -> bytes:
        """Return its object as the list shows it."""
        return self._body if self.is_stuck else self.body(now)


@dataclass(slots=True, eq=False)
class VirtualApi:
    """The jobs of an account, and the number of requests by kind.

    While `outage` is set, each request fails with it.
    """

    now: Callable[[], float]
    requests: Counter[str] = field(default_factory=Counter)
    outage: int | None = None
    jobs: dict[str, ApiJob] = field(default_factory=dict)
    _in_order: list[ApiJob] = field(default_factory=list)

    def add(self, timeline: Timeline, *, is_stuck: bool = False) -> str:
        """Create a job now; return its ID. A stuck one never changes in the list."""
        number, run = len(self.jobs) + 1, timeline.ended - timeline.started
        job_id = f"job-{number}"
        script = JobScript(job_id=job_id, queue_seconds=timeline.started, run_seconds=run)
        created = SimulatedJob(script=script, number=number, created=self.now(), speed=1.0)
        self.jobs[job_id] = job = ApiJob(created)
        job.body(self.now())
        job.is_stuck = is_stuck
        self._in_order.append(job)
        return job_id

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        cap: int,
    ) -> Response:
        """Respond like `HttpClient.request`."""
        target = urlsplit(url)
        kind, _, job_id = target.path.removeprefix("/v1/").partition("/")
        self.requests[kind] += 1
        if self.outage == NO_RESPONSE:
            raise NoResponse("connection refused")
        if self.outage is not None:
            return self._respond(b'{"message": "the API is down"}', self.outage)
        if kind == "list-jobs":
            return self._respond(b"".join(self._page(target.query)))
        return self._respond(b'{"job": %b}' % self.jobs[job_id].body(self.now()))

    def _page(self, query: str) -> Iterator[bytes]:
        """Return a page, newest first; a cursor is the number of jobs that are older."""
        parameters, now = parse_qs(query), self.now()
        top = int(parameters.get("cursor", [str(len(self._in_order))])[0])
        bottom = max(top - int(parameters["limit"][0]), 0)
        yield b'{"jobs": ['
        yield b", ".join(job.row(now) for job in reversed(self._in_order[bottom:top]))
        yield b'], "next_cursor": %b}' % (b'"%d"' % bottom if bottom else b"null")

    def _respond(self, body: bytes, status: int = 200) -> Response:
        date = formatdate(math.floor(self.now()), usegmt=True)
        return Response(status, {"Date": date}, body, is_truncated=False)
