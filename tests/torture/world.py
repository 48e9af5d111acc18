"""A world around the daemon: an API whose jobs wait for the daemon, and a receiver.

A job moves on only when the event of what it showed last has been acknowledged. So an event that
is lost is seen at once: the job stands still for ever. Both ends can fail one request in some,
in every way of `FAULTS`; all chance comes from one seeded generator.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
from aiohttp import web
from standardwebhooks import Webhook

from poller.jobs import rfc3339
from tests.checker import Arrival, Shown
from tests.loops.product import served
from tests.process.canaries import KEY, PATH, SECRET
from tests.process.daemon import PACE
from tests.support import a_job_object, check_event

SHORT_PAGE: Final = 12
"""The most jobs that a page shows here, so that a few jobs need several."""
FATES: Final = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a job shows: a status, with its cost or not, and the event that is owed for it."""

    status: str
    owes: str | None
    has_cost: bool = False


def stages(fate: str, *, is_cost_late: bool = False) -> tuple[Stage, ...]:
    """Give the life of a job of some fate."""
    end = Stage(fate.upper(), f"job.{fate}", has_cost=not is_cost_late)
    late = (Stage(fate.upper(), "job.cost_settled", has_cost=True),) if is_cost_late else ()
    return (Stage("QUEUED", None), Stage("RUNNING", "job.started"), end, *late)


@dataclass(slots=True)
class Story:
    """One job of this world. `reached` holds the moment at which each stage began."""

    job_id: str
    stages: tuple[Stage, ...]
    reached: list[float]
    acknowledged: set[str] = field(default_factory=set)

    @property
    def stage(self) -> Stage:
        """What the job shows now."""
        return self.stages[len(self.reached) - 1]

    @property
    def is_told(self) -> bool:
        """Whether every event that this job owes has been acknowledged."""
        return all(it.owes is None or it.owes in self.acknowledged for it in self.stages)

    def move_on(self, now: float) -> None:
        """Go to the next stage when nothing is owed for this one."""
        owes = self.stage.owes
        if len(self.reached) < len(self.stages) and (owes is None or owes in self.acknowledged):
            self.reached.append(now)

    def shown(self, *, stages_ago: int = 0) -> dict[str, Any]:
        """Give the API's job object, or that of an earlier stage."""
        number = max(len(self.reached) - 1 - stages_ago, 0)
        stage = self.stages[number]
        moments = [_written(it) for it in self.reached[: number + 1]] + [None] * 2
        return a_job_object(
            job_id=self.job_id,
            status=stage.status,
            datetime_created=moments[0],
            datetime_started=moments[1],
            datetime_completed=moments[2],
            job_cost=0.0234 if stage.has_cost else None,
            failure_reason={"message": "No output."} if stage.status == "FAILED" else None,
        )


def _written(moment: float) -> str:
    return rfc3339(datetime.fromtimestamp(moment, UTC))


@dataclass
class World:
    """An API and a receiver. One request in `odds` fails, none when it is 0.

    `now` is what the API dates by; `clock` is that of the logs, which the checker compares.
    """

    now: Callable[[], float]
    random: Random
    odds: int = 0
    delay: float = 0.0
    key: str = KEY
    secret: str = SECRET
    jobs: dict[str, Story] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    api_url: str = ""
    hook_url: str = ""

    def add(self, job_id: str, fate: str = "succeeded", *, is_cost_late: bool = False) -> None:
        """Begin a job."""
        told = stages(fate, is_cost_late=is_cost_late)
        self.jobs[job_id] = Story(job_id, told, [self.now()])

    @property
    def is_told(self) -> bool:
        """Whether all that is owed has been acknowledged."""
        return all(it.is_told for it in self.jobs.values())

    @property
    def owed(self) -> set[tuple[str, str]]:
        """What was shown and has not been acknowledged."""
        shown = {(it.job_id, it.type) for it in self.shown}
        return {fact for fact in shown if fact[1] not in self.jobs[fact[0]].acknowledged}

    def heal(self) -> None:
        """Fail no more."""
        self.odds = 0

    async def look(self, request: web.Request) -> web.StreamResponse:
        """Answer one look at a job, or fail it."""
        self.asked.append(self.now())
        name = request.path.rpartition("/")[2]
        story = self.jobs.get(name)
        if request.headers.get("Authorization") != f"Key {self.key}":
            return self.say({"message": "The API key is not valid."}, status=401)
        if name == "list-jobs":
            return await self.turn_page(request)
        if story is None:
            return self.say({"message": "No job found with ID"}, status=404)
        story.move_on(self.now())
        if fault := self._fault(API_FAULTS):
            return await fault(self, request, story)
        return await self.show(request, story)

    async def show(self, request: web.Request, story: Story) -> web.StreamResponse:
        """Answer as the API does, and note what is owed once that has been sent."""
        stage, response = story.stage, self.say({"job": story.shown()})
        await response.prepare(request)
        await response.write_eof()
        if stage.owes:
            self.shown.append(Shown(self.now(), story.job_id, stage.owes))
        return response

    async def turn_page(self, request: web.Request) -> web.StreamResponse:
        """Answer with a page of the list, newest first, or fail; some of its jobs lag behind."""
        stories = list(reversed(self.jobs.values()))
        start = int(request.query.get("cursor", 0))
        end = start + min(int(request.query["limit"]), SHORT_PAGE)
        is_more, stories = end < len(stories), stories[start:end]
        for story in stories:
            story.move_on(self.now())
        if fault := self._fault(LIST_FAULTS):
            return await fault(self, request, None)
        ago = [self.random.randrange(2) if self.odds else 0 for _ in stories]
        owed = [story for story, stages_ago in zip(stories, ago, strict=True) if not stages_ago]
        owes = [(story.job_id, story.stage.owes) for story in owed]
        shown = [it.shown(stages_ago=number) for it, number in zip(stories, ago, strict=True)]
        cursor = str(end) if is_more else None
        response = self.say({"jobs": shown, "next_cursor": cursor})
        await response.prepare(request)
        await response.write_eof()
        self.shown += [Shown(self.now(), job_id, event) for job_id, event in owes if event]
        return response

    def say(self, body: Any, status: int = 200, **headers: str) -> web.Response:
        """Answer some JSON, dated by this world's time."""
        dated = {"Date": formatdate(self.now(), usegmt=True), **headers}
        return web.json_response(body, status=status, headers=dated)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take one event, or fail."""
        body = await request.read()
        await anyio.sleep(self.delay)
        if fault := self._fault(HOOK_FAULTS):
            return await fault(self, request, body)
        return await self.acknowledge(request, body)

    async def acknowledge(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Take an event and say so."""
        arrival = self.note(request, body)
        if arrival is None:
            return web.Response(status=400)
        response = web.Response(status=204)
        await response.prepare(request)
        await response.write_eof()
        arrival.acknowledged_at = self.now()
        if story := self.jobs.get(arrival.job_id):
            story.acknowledged.add(arrival.type)
        return response

    def note(self, request: web.Request, body: bytes) -> Arrival | None:
        """Verify an event and note that it came; one that is not genuine is a trouble."""
        try:
            self.verify(dict(request.headers), body)
            event = check_event(body)
        except Exception as error:  # noqa: BLE001 - the test that owns this tells what it was
            self.troubles.append(error)
            return None
        arrival = Arrival(
            at=self.now(),
            event_id=request.headers["webhook-id"],
            job_id=event["data"].get("job", {}).get("job_id", "poller"),
            type=event["type"],
            sequence=event["data"].get("sequence", 0),
            body=body,
            is_replay=request.headers.get("webhook-replay") == "1",
        )
        self.arrivals.append(arrival)
        return arrival

    def verify(self, headers: dict[str, str], body: bytes) -> None:
        """Verify a signature, and that it is of this minute. Raises WebhookVerificationError."""
        Webhook(self.secret).verify(body, headers)

    def _fault(self, faults: dict[str, "Fault"]) -> "Fault | None":
        if not self.odds or self.random.randrange(self.odds):
            return None
        name = self.random.choice(list(faults))
        self.failed[name] = self.failed.get(name, 0) + 1
        return faults[name]


Fault = Callable[[World, web.Request, Any], Awaitable[web.StreamResponse]]

FAR: Final = 3_600.0
"""Longer than any timeout, in seconds."""


def _status(*statuses: int) -> Fault:
    async def fail(world: World, _request: web.Request, _what: object) -> web.Response:
        return world.say({"message": "trouble"}, status=world.random.choice(statuses))

    return fail


async def _throttle(world: World, _request: web.Request, _what: object) -> web.Response:
    until = formatdate(world.now() + 3, usegmt=True)
    asked = world.random.choice(["0", "2", until, "soon", "-5", "1.5", "", "99999999999999999999"])
    if asked.startswith("9"):
        asked = "5"
    return world.say({}, status=world.random.choice([429, 503]), **{"Retry-After": asked})


async def _hang(world: World, request: web.Request, _what: object) -> web.StreamResponse:
    await anyio.sleep(FAR)
    return await _reset(world, request, _what)


async def _reset(_world: World, request: web.Request, _what: object) -> web.Response:
    """End a connection without an answer: what was done is done, but nobody is told."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _delay(world: World, request: web.Request, story: Story) -> web.StreamResponse:
    await anyio.sleep(world.random.uniform(0.0, 2.0))
    return await world.show(request, story)


async def _drip(world: World, request: web.Request, story: Story) -> web.StreamResponse:
    """Give a whole answer, a little at a time."""
    body, stage = json.dumps({"job": story.shown()}).encode(), story.stage
    response = web.StreamResponse(headers={"Date": formatdate(world.now(), usegmt=True)})
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), 200):
        await response.write(body[start : start + 200])
        await anyio.sleep(0.01)
    await response.write_eof()
    if stage.owes:
        world.shown.append(Shown(world.now(), story.job_id, stage.owes))
    return response


async def _cut(world: World, request: web.Request, story: Story) -> web.StreamResponse:
    body = json.dumps({"job": story.shown()}).encode()
    response = web.StreamResponse()
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: world.random.randrange(len(body))])
    return await _reset(world, request, story)


async def _bomb(_world: World, request: web.Request, story: Story) -> web.StreamResponse:
    """Say that a job is too large to be told of: then its status alone is asked for."""
    text = json.dumps({"job": story.shown() | {"system_prompt": "x" * 4_300_000}})
    return web.Response(text=text, content_type="application/json")


async def _another(world: World, _request: web.Request, story: Story) -> web.Response:
    return world.say({"job": story.shown() | {"job_id": "of-another", "status": "FAILED"}})


async def _stale(world: World, _request: web.Request, story: Story) -> web.Response:
    return world.say({"job": story.shown(stages_ago=1)})


async def _html(_world: World, _request: web.Request, _story: Story) -> web.Response:
    return web.Response(text="<html>SUCCEEDED</html>", content_type="text/html")


API_FAULTS: Final[dict[str, Fault]] = {
    "status": _status(408, 425, 500, 502, 503, 520, 524, 530),
    "throttle": _throttle,
    "hang": _hang,
    "reset": _reset,
    "delay": _delay,
    "drip": _drip,
    "cut": _cut,
    "another job": _another,
    "stale": _stale,
    "HTML": _html,
}


LIST_FAULTS: Final = {
    name: API_FAULTS[name] for name in ("status", "throttle", "hang", "reset", "HTML")
}


async def _take_and_reset(world: World, request: web.Request, body: bytes) -> web.StreamResponse:
    """Process an event, and lose the answer."""
    world.note(request, body)
    return await _reset(world, request, body)


async def _take_and_hang(world: World, request: web.Request, body: bytes) -> web.StreamResponse:
    world.note(request, body)
    return await _hang(world, request, body)


HOOK_FAULTS: Final[dict[str, Fault]] = {
    "status": _status(408, 425, 429, 500, 502, 503, 504, 404, 422, 302),
    "throttle": _throttle,
    "hang": _hang,
    "reset": _reset,
    "processed, answer lost": _take_and_reset,
    "processed, answer late": _take_and_hang,
}


def environment(world: World, folder: Path, **changes: str) -> dict[str, str]:
    """Give all that a process in this world gets to know: the jobs that are not told yet."""
    return (
        PACE
        | {
            "HOME": str(folder),
            "SUTRO_API_URL": world.api_url,
            "SUTRO_API_KEY": KEY,
            "POLLER_JOB_IDS": ",".join(it.job_id for it in world.jobs.values() if not it.is_told),
            "POLLER_SINKS": "webhook",
            "POLLER_WEBHOOK_EVENTS": "*",
            "POLLER_WEBHOOK_URL": world.hook_url,
            "POLLER_WEBHOOK_SECRET": SECRET,
            "POLLER_STORE": str(folder / "state.db"),
            "POLLER_LOG_LEVEL": "warning",
        }
        | changes
    )


@asynccontextmanager
async def inhabited(world: World) -> AsyncIterator[World]:
    """Let a world's two ends listen on loopback."""
    async with served(world.look) as api, served(world.take) as hook:
        world.api_url, world.hook_url = f"{api}/v1", hook + PATH
        yield world
    assert not world.troubles
