"""A world around the daemon: an API whose jobs wait for the daemon, and a receiver.

A job moves on only when the event of what it showed last has been acknowledged. So an event that
is lost is seen at once: the job stands still for ever. Both ends can fail one request in some,
in every way of `faults`; all chance comes from one seeded generator.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
from aiohttp import web
from standardwebhooks import Webhook

from tests.fault_injection.job_stories import Story, stages
from tests.fault_injection.request_faults import API_FAULTS, HOOK_FAULTS, LIST_FAULTS, Fault
from tests.support.builders import check_event
from tests.support.daemon_process import PACE
from tests.support.run_checker import Arrival, Shown
from tests.support.running_app import served
from tests.support.secret_canaries import KEY, PATH, SECRET

SHORT_PAGE: Final = 12
"""The most jobs that a page shows here, so that a few jobs need several."""


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

    def add(self, job_id: str, ends_as: str = "succeeded", *, is_cost_late: bool = False) -> None:
        """Begin a job."""
        told = stages(ends_as, is_cost_late=is_cost_late)
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

    def _fault(self, faults: dict[str, Fault]) -> Fault | None:
        if not self.odds or self.random.randrange(self.odds):
            return None
        name = self.random.choice(list(faults))
        self.failed[name] = self.failed.get(name, 0) + 1
        return faults[name]


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
            "POLLER_LISTEN": "off",
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
