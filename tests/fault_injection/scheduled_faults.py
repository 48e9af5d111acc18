"""Servers with fault periods: for hours one end has one kind of fault.

These come on top of the random faults of `FakeServers`. No period causes an event by itself: a
single job is unknown for less time than it takes to be missing, all of them together for any time.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from poller.polling.missing_guard import GUARD_JOBS
from tests.fault_injection.fake_servers import FakeServers
from tests.fault_injection.request_faults import API_FAULTS, HOOK_FAULTS
from tests.fault_injection.scripted_jobs import OUTCOMES, ScriptedJob, stages

MINUTE, HOUR = 60.0, 3_600.0
FAULTY_SUFFIX: Final = "3"
"""Jobs whose ids end so have fault periods of their own."""
LATE_FIELDS: Final = ("job_cost", "input_tokens", "output_tokens", "datetime_completed")
SLOWEST_RESPONSE: Final = 3.0
SEND_TIMEOUT: Final = 20.0
ENDS: Final = {f"job.{ends_as}" for ends_as in OUTCOMES}


@dataclass(frozen=True, slots=True)
class FaultPeriod:
    """A time with one kind of fault."""

    kind: str
    begin: float
    end: float


@dataclass(slots=True)
class TimedJob(ScriptedJob):
    """A job that stays in each stage until a time of its own, acknowledged or not."""

    holds: tuple[float, ...] = ()

    def advance(self, now: float) -> None:
        """Go to the next stage once its time has come and the event of this one is acknowledged."""
        number = len(self.reached) - 1
        if number >= len(self.holds) or now >= self.holds[number]:
            ScriptedJob.advance(self, now)


@dataclass
class ScheduledFaults(FakeServers):
    """Servers with fault periods until `faults_end_at`.

    The API is under the prefix `home`; under the other one is a page, or nothing.
    """

    faults_end_at: float = 0.0
    home: str = "/v1"
    periods: list[FaultPeriod] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    polled_at: list[float] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    suspect_ids: set[str] | None = field(default_factory=set)

    def schedule(self, *, jobs: int, lasting: float) -> None:
        """Create the jobs and the fault periods of the next so many seconds."""
        now, random = self.now(), self.random
        self.faults_end_at = now + lasting
        for number in range(jobs):
            late_fields = random.sample(LATE_FIELDS, random.choice([0, 0, 0, 1, 2, 3]))
            job_stages = stages(random.choice(["failed", *OUTCOMES]), late_fields=late_fields)
            # Half of the ends come late, so that events are pending when the faults end.
            holds = sorted(
                now + lasting * random.uniform(low, 1.0) for low in (0.0, number % 2 * 0.8)
            )
            job_id = f"job-{number}"
            self.jobs[job_id] = TimedJob(job_id, job_stages, [now], holds=tuple(holds))
        # One of the two: 404s of one job in both might add up to the grace of a missing job.
        unknown = random.choice(["all unknown", "one unknown"])
        for kind in [*random.choices(RANDOM_KINDS, k=6), unknown]:
            self._add_period(kind, random.uniform(0.0, lasting), at_most=lasting / 5)
        for kind in [random.choice(RANDOM_KINDS), random.choice(list(RECEIVER_FAULT_KINDS))]:
            self._add_period(kind, lasting - random.uniform(0.0, lasting / 5), at_most=lasting)

    def _add_period(self, kind: str, after: float, *, at_most: float) -> None:
        """Add a fault period that begins after so many seconds."""
        begin = self.now() + after
        lasts = self.random.uniform(0.2, 1.0) * min(LONGEST_PERIOD[kind], at_most)
        self.periods.append(FaultPeriod(kind, begin, begin + lasts))

    def stop_faults(self) -> None:
        """End all faults, except for requests that are in flight."""
        FakeServers.stop_faults(self)
        self.periods.clear()

    async def handle_poll(self, request: web.Request) -> web.StreamResponse:
        """Answer one poll of a job, or fail it by the active faults."""
        if request.path.startswith("/v1/") != (self.home == "/v1"):
            return await self.random.choice([_page, _status(404, 502)])(self, request, None)
        job = self.jobs.get(request.path.rpartition("/")[2])
        self.polled_at.append(self.now())
        if kind := self._active_fault(API_FAULT_KINDS, job):
            return await API_FAULT_KINDS[kind](self, request, job)
        return await FakeServers.handle_poll(self, request)

    def rows(self, jobs: Sequence[ScriptedJob]) -> list[tuple[ScriptedJob, dict[str, Any]]]:
        """Return the rows of a page as the active faults leave them."""
        rows = FakeServers.rows(self, jobs)
        for kind in self.active_faults:
            if kind in LIST_FAULT_KINDS:
                rows = LIST_FAULT_KINDS[kind](rows)
        return rows

    @property
    def last_cursor(self) -> str | None:
        """The cursor on the last page; in a list without end that of the first."""
        return "0" if "list without end" in self.active_faults else None

    async def handle_event(self, request: web.Request) -> web.StreamResponse:
        """Accept one event, or fail it by the active faults."""
        self.delay = (
            self.random.uniform(0.0, SLOWEST_RESPONSE)
            if "receiver slow" in self.active_faults
            else 0.0
        )
        kind = self._active_fault(RECEIVER_FAULT_KINDS, None)
        self.failed_at = [*self.failed_at, self.now()] if kind in RECEIVER_OUTAGES else []
        self._note_suspect(request.headers["webhook-id"], is_away=kind == "endpoint away")
        if kind:
            return await RECEIVER_FAULT_KINDS[kind](self, request, await request.read())
        return await FakeServers.handle_event(self, request)

    @property
    def active_faults(self) -> Collection[str]:
        """The kinds of faults that are active now."""
        now = self.now()
        return [period.kind for period in self.periods if period.begin <= now < period.end]

    def _note_suspect(self, event_id: str, *, is_away: bool) -> None:
        """Note an event that meets an endpoint that is away; None after any other failure."""
        if not self.failed_at:
            self.suspect_ids = set()
        elif is_away and self.suspect_ids is not None:
            self.suspect_ids.add(event_id)
        elif not is_away:
            self.suspect_ids = None

    @property
    def is_receiver_out(self) -> bool:
        """Return whether the daemon must know of the outage: five failures, one after the other.

        Statuses that may be the fault of one event are those of at least three.
        """
        is_known = self.suspect_ids is None or len(self.suspect_ids) >= SUSPECT_EVENTS
        return is_known and sum(at > self.failed_at[0] + SEND_TIMEOUT for at in self.failed_at) >= 5

    def _active_fault(self, periods: dict[str, "Fault"], job: ScriptedJob | None) -> str | None:
        """Return the active fault that a request meets: of a job, of a page, or of an event."""
        for kind in self.active_faults:
            if kind in periods and self._applies(kind, job):
                return kind
        return None

    def _applies(self, kind: str, job: ScriptedJob | None) -> bool:
        """Return whether a fault applies to this job too; None stands for a page or an event."""
        if kind.startswith("one "):
            return job is not None and job.job_id.endswith(FAULTY_SUFFIX)
        return kind != "all unknown" or self._confirming_jobs >= GUARD_JOBS

    @property
    def _confirming_jobs(self) -> int:
        """The number of running jobs without faults of their own, which confirm a mass 404.

        No others are sure to be polled.
        """
        return sum(
            f"job.{job.stage.status.lower()}" not in ENDS and not job.job_id.endswith(FAULTY_SUFFIX)
            for job in self.jobs.values()
        )

    @property
    def stuck_jobs(self) -> list[str]:
        """The jobs that do not proceed, except for costs, whose next poll may be a day away."""
        return [
            f"still at {job.stage.status}: {job.job_id}"
            for job in self.jobs.values()
            if any(
                at.event_type not in {None, "job.settled", *job.acknowledged} for at in job.stages
            )
        ]


Fault = Callable[[ScheduledFaults, web.Request, Any], Awaitable[web.StreamResponse]]


def _any_of(faults: dict[str, Any], *names: str) -> Fault:
    async def fail(
        servers: ScheduledFaults, request: web.Request, what: object
    ) -> web.StreamResponse:
        return await faults[servers.random.choice(names)](servers, request, what)

    return fail


def _status(*statuses: int) -> Fault:
    async def fail(servers: ScheduledFaults, _request: web.Request, _what: object) -> web.Response:
        return servers.json_response({"message": "No."}, status=servers.random.choice(statuses))

    return fail


async def _not_found(
    servers: ScheduledFaults, _request: web.Request, job: ScriptedJob | None
) -> web.Response:
    """Answer as the API of another account does."""
    if job is None:
        return servers.json_response({"jobs": [], "next_cursor": None})
    return servers.json_response({"message": f"No job found with ID {job.job_id}"}, status=404)


async def _page(servers: ScheduledFaults, _request: web.Request, _what: object) -> web.Response:
    """Answer as a proxy or firewall does."""
    status = servers.random.choice([200, 302, 401, 403, 404, 407, 503])
    text = "<html><title>Just a moment...</title></html>"
    return web.Response(status=status, text=text, content_type="text/html")


async def _pause(servers: ScheduledFaults, _request: web.Request, _what: object) -> web.Response:
    """Request a pause until the period is over, and record that no poll may come before."""
    end = max(period.end for period in servers.periods if period.kind == "API throttles")
    seconds = int(min(end - servers.now(), HOUR))
    servers.pauses.append((servers.now(), servers.now() + seconds))
    return servers.json_response({}, status=429, **{"Retry-After": str(seconds)})


async def _retry_later(
    servers: ScheduledFaults, _request: web.Request, _what: object
) -> web.Response:
    seconds = servers.random.randrange(10, 120)
    return servers.json_response(
        {}, status=servers.random.choice([429, 503]), **{"Retry-After": str(seconds)}
    )


FAILURES: Final = ("status", "reset", "hang")
API_FAULT_KINDS: Final[dict[str, Fault]] = {
    "API down": _any_of(API_FAULTS, *FAILURES),
    "API throttles": _pause,
    "key revoked": _status(401, 403),
    "all unknown": _not_found,
    "one unknown": _not_found,
    "page in between": _page,
    "route lost": _status(404),
    "one rejected": _status(400, 403, 405, 410, 422, 451, 501),
}
Rows = list[tuple[ScriptedJob, dict[str, Any]]]
LIST_FAULT_KINDS: Final[dict[str, Callable[[Rows], Rows]]] = {
    "list stale": lambda rows: [(job, job.as_object(stages_ago=9)) for job, _ in rows],
    "rows unreadable": lambda rows: [(job, row | {"status": None}) for job, row in rows],
    "rows gone": lambda rows: rows[::2],
}
RECEIVER_FAULT_KINDS: Final[dict[str, Fault]] = {
    "receiver down": _any_of(HOOK_FAULTS | {"status": _status(500, 502, 503, 504)}, *FAILURES),
    "receiver throttles": _retry_later,
    "endpoint away": _status(401, 403, 404, 405, 407),
    "receiver refuses": _status(402, 406, 409, 423, 451),
}
RECEIVER_OUTAGES: Final = {"receiver down", "receiver throttles", "endpoint away"}
SUSPECT_EVENTS: Final = 3
LONGEST_PERIOD: Final = {
    "API down": 6 * HOUR,
    "API throttles": HOUR,
    "key revoked": 4 * HOUR,
    "all unknown": 2 * HOUR,
    "one unknown": 4 * MINUTE,
    "page in between": 4 * HOUR,
    "route lost": 4 * HOUR,
    "one rejected": 4 * HOUR,
    "list stale": 12 * HOUR,
    "list without end": 6 * HOUR,
    "rows unreadable": 6 * HOUR,
    "rows gone": 6 * HOUR,
    "receiver down": 12 * HOUR,
    "receiver throttles": 2 * HOUR,
    "receiver refuses": 2 * HOUR,
    "endpoint away": 12 * HOUR,
    "receiver slow": 6 * HOUR,
}
RANDOM_KINDS: Final = sorted(set(LONGEST_PERIOD) - {"all unknown", "one unknown"})
