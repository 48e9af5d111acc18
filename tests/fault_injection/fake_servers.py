"""Fake servers around the daemon: an API whose jobs wait for the daemon, and a receiver.

A job changes only after the event of its last change was acknowledged, so that a lost event stops
it for ever. Both ends can fail one request in some, in every way of `request_faults`; all chance
comes from one seeded generator.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
from aiohttp import web
from standardwebhooks import Webhook

from tests.fault_injection.request_faults import API_FAULTS, HOOK_FAULTS, LIST_FAULTS, Fault
from tests.fault_injection.scripted_jobs import ScriptedJob, stages
from tests.support.builders import check_event
from tests.support.daemon_process import PACE
from tests.support.run_checker import ExpectedEvent, ReceivedEvent
from tests.support.running_app import served
from tests.support.secret_canaries import KEY, PATH, SECRET

SHORT_PAGE: Final = 12
"""The size of a page, so small that a few jobs need several."""


@dataclass
class FakeServers:
    """An API and a receiver. One request in `odds` fails, none when it is 0.

    `now` is the clock of the API and of the records that the checker compares.
    """

    now: Callable[[], float]
    random: Random
    odds: int = 0
    delay: float = 0.0
    key: str = KEY
    secret: str = SECRET
    jobs: dict[str, ScriptedJob] = field(default_factory=dict)
    expected: list[ExpectedEvent] = field(default_factory=list)
    received: list[ReceivedEvent] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    api_url: str = ""
    hook_url: str = ""

    def add(self, job_id: str, ends_as: str = "succeeded") -> None:
        """Create a job."""
        self.jobs[job_id] = ScriptedJob(job_id, stages(ends_as), [self.now()])

    @property
    def is_reported(self) -> bool:
        """Return whether every event has been acknowledged."""
        return all(job.is_reported for job in self.jobs.values())

    @property
    def unacknowledged(self) -> set[tuple[str, str]]:
        """The events that were caused but not acknowledged."""
        expected = {(event.job_id, event.type) for event in self.expected}
        return {fact for fact in expected if fact[1] not in self.jobs[fact[0]].acknowledged}

    def stop_faults(self) -> None:
        """Stop failing."""
        self.odds = 0

    async def handle_poll(self, request: web.Request) -> web.StreamResponse:
        """Answer one poll of a job, or fail it."""
        self.polls.append(self.now())
        name = request.path.rpartition("/")[2]
        job = self.jobs.get(name)
        if request.headers.get("Authorization") != f"Key {self.key}":
            return self.json_response({"message": "The API key is not valid."}, status=401)
        if name == "list-jobs":
            return await self.list_page(request)
        if job is None:
            return self.json_response({"message": f"No job found with ID {name}"}, status=404)
        job.advance(self.now())
        if fault := self._fault(API_FAULTS):
            return await fault(self, request, job)
        return await self.send_job(request, job)

    async def send_job(self, request: web.Request, job: ScriptedJob) -> web.StreamResponse:
        """Answer as the API does, and record the event that this causes once it is sent."""
        stage, response = job.stage, self.json_response({"job": job.as_object()})
        await response.prepare(request)
        await response.write_eof()
        if stage.event_type:
            self.expected.append(ExpectedEvent(self.now(), job.job_id, stage.event_type))
        return response

    async def list_page(self, request: web.Request) -> web.StreamResponse:
        """Return a page of the list, newest first, or fail; some of its jobs lag."""
        jobs = list(reversed(self.jobs.values()))
        start = int(request.query.get("cursor", 0))
        end = start + min(int(request.query["limit"]), SHORT_PAGE)
        is_more, jobs = end < len(jobs), jobs[start:end]
        for job in jobs:
            job.advance(self.now())
        if fault := self._fault(LIST_FAULTS):
            return await fault(self, request, None)
        rows = self.rows(jobs)
        events = [(job.job_id, job.stage.event_type) for job, row in rows if row == job.as_object()]
        cursor = str(end) if is_more else self.last_cursor
        response = self.json_response({"jobs": [row for _, row in rows], "next_cursor": cursor})
        await response.prepare(request)
        await response.write_eof()
        self.expected += [
            ExpectedEvent(self.now(), job_id, event) for job_id, event in events if event
        ]
        return response

    def rows(self, jobs: Sequence[ScriptedJob]) -> list[tuple[ScriptedJob, dict[str, Any]]]:
        """Return the rows of a page, each with its job; some lag by one stage."""
        ages = [self.random.randrange(2) if self.odds else 0 for _ in jobs]
        return [(job, job.as_object(stages_ago=age)) for job, age in zip(jobs, ages, strict=True)]

    @property
    def last_cursor(self) -> str | None:
        """The cursor on the last page."""
        return None

    def json_response(self, body: Any, status: int = 200, **headers: str) -> web.Response:
        """Return a JSON response, dated by this clock."""
        dated = {"Date": formatdate(self.now(), usegmt=True), **headers}
        return web.json_response(body, status=status, headers=dated)

    async def handle_event(self, request: web.Request) -> web.StreamResponse:
        """Accept one event, or fail."""
        body = await request.read()
        await anyio.sleep(self.delay)
        if fault := self._fault(HOOK_FAULTS):
            return await fault(self, request, body)
        return await self.acknowledge(request, body)

    async def acknowledge(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Accept an event, and record when it was acknowledged."""
        arrival = self.record(request, body)
        if arrival is None:
            return web.Response(status=400)
        response = web.Response(status=204)
        await response.prepare(request)
        await response.write_eof()
        arrival.acknowledged_at = self.now()
        if job := self.jobs.get(arrival.job_id):
            job.acknowledged.add(arrival.type)
        return response

    def record(self, request: web.Request, body: bytes) -> ReceivedEvent | None:
        """Verify and record an event; one that is not genuine is an error."""
        try:
            self.verify(dict(request.headers), body)
            event = check_event(body)
        except Exception as error:  # noqa: BLE001 - reported by the test
            self.errors.append(error)
            return None
        arrival = ReceivedEvent(
            at=self.now(),
            event_id=request.headers["webhook-id"],
            job_id=event["data"].get("job", {}).get("job_id", "poller"),
            type=event["type"],
            sequence=event["data"].get("sequence", 0),
            body=body,
            is_replay=request.headers.get("webhook-replay") == "1",
        )
        self.received.append(arrival)
        return arrival

    def verify(self, headers: dict[str, str], body: bytes) -> None:
        """Verify a signature and its timestamp. Raises WebhookVerificationError."""
        Webhook(self.secret).verify(body, headers)

    def _fault(self, faults: dict[str, Fault]) -> Fault | None:
        if not self.odds or self.random.randrange(self.odds):
            return None
        name = self.random.choice(list(faults))
        self.failed[name] = self.failed.get(name, 0) + 1
        return faults[name]


def environment(servers: FakeServers, folder: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a daemon that watches the jobs with events to come."""
    return (
        PACE
        | {
            "HOME": str(folder),
            "SUTRO_API_URL": servers.api_url,
            "SUTRO_API_KEY": KEY,
            "POLLER_JOB_IDS": ",".join(
                job.job_id for job in servers.jobs.values() if not job.is_reported
            ),
            "POLLER_SINKS": "webhook",
            "POLLER_WEBHOOK_EVENTS": "*",
            "POLLER_WEBHOOK_URL": servers.hook_url,
            "POLLER_WEBHOOK_SECRET": SECRET,
            "POLLER_STORE": str(folder / "state.db"),
            "POLLER_LISTEN": "off",
            "POLLER_LOG_LEVEL": "warning",
        }
        | changes
    )


@asynccontextmanager
async def serving(servers: FakeServers) -> AsyncIterator[FakeServers]:
    """Serve both ends on loopback."""
    async with served(servers.handle_poll) as api, served(servers.handle_event) as hook:
        servers.api_url, servers.hook_url = f"{api}/v1", hook + PATH
        yield servers
    assert not servers.errors
