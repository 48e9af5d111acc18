"""Retry-After in all its forms, at both ends: no request inside, work as soon as it is over."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

import anyio
import pytest
from aiohttp import web

from tests.fault_injection.rig import tally
from tests.support.builders import a_job_object
from tests.support.running_app import Handler, an_app, living, served
from tests.support.virtual_time import START, virtual_clock

HOUR, DAY = 3_600.0, 86_400.0
INSTANT = 0.5
"""What was under way when a pause was asked for arrives within so many seconds."""
SOON = 20.0
"""A wait of the usual pace, the jitter of a pause, and the first step of the ladder."""
PROMISE = (
    "no request is sent during a Retry-After, in any form, and polling continues right after it"
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=40 * DAY),
    pytest.mark.usefixtures("quiet"),
]


@dataclass(frozen=True, slots=True)
class Wish:
    """One form of Retry-After. `until`: seconds from the end's own clock, which is `ahead`."""

    text: str | None = None
    until: float = 0.0
    ahead: float = 0.0
    has_date: bool = True

    def headers(self) -> dict[str, str]:
        """Give it as an answer of this moment has it."""
        sent = datetime.fromtimestamp(int(virtual_clock().wall() + self.ahead), UTC)
        until = datetime.fromtimestamp(sent.timestamp() + self.until, UTC)
        text = format_datetime(until, usegmt=True) if self.text is None else self.text
        date = format_datetime(sent if self.has_date else START, usegmt=True)
        return {"Retry-After": text, "Date": date if self.has_date else "today"}


@dataclass(slots=True)
class Asking:
    """An end that asks for a pause at its first request from `begin` on, then is calm."""

    calm: Handler
    wish: Wish
    status: int
    begin: float = 0.0
    asked_at: float = -1.0
    moments: list[float] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and note when it came."""
        at = anyio.current_time()
        self.moments.append(at)
        if self.asked_at < 0.0 and at >= self.begin:
            self.asked_at = at
            return web.json_response({}, status=self.status, headers=self.wish.headers())
        return await self.calm(request)

    def wrong(self, seconds: float) -> list[str]:
        """Name what came inside the pause, and a silence that goes on after it."""
        end = self.asked_at + seconds
        inside = [at for at in self.moments if self.asked_at + INSTANT < at < end]
        found = [f"{self.wish}: a request {at - self.asked_at:.1f} s into it" for at in inside]
        if not any(end <= at <= end + SOON for at in self.moments):
            found.append(f"{self.wish}: nothing within {SOON:.0f} s after it")
        return found


async def running_on(request: web.Request) -> web.Response:
    """Be an API whose jobs run."""
    return _job(request, status="RUNNING", datetime_completed=None, job_cost=None)


async def ended(request: web.Request) -> web.Response:
    """Be an API whose jobs have ended."""
    return _job(request)


def _job(request: web.Request, **fields: object) -> web.Response:
    job_id = request.path.rpartition("/")[2]
    return web.json_response({"job": a_job_object(job_id=job_id, **fields)})


async def taken(_request: web.Request) -> web.Response:
    """Be a receiver that is well."""
    return web.Response(status=204)


@asynccontextmanager
async def between(api: Handler, hook: Handler) -> AsyncIterator[None]:
    """Let a daemon with a few jobs live between two ends."""
    async with served(api) as api_url, served(hook) as hook_url:
        jobs = ",".join(f"job-{number}" for number in range(4))
        pace = {"POLLER_MIN_INTERVAL": "5s", "POLLER_MAX_INTERVAL": "10s"}
        async with living(an_app(api_url + "/v1", hook_url, POLLER_JOB_IDS=jobs, **pace)):
            yield


COMMON = [
    (Wish("1"), 1.0),
    (Wish("90"), 90.0),
    (Wish("3600"), HOUR),
    (Wish(until=600.0), 600.0),
    (Wish(until=600.0, ahead=DAY), 600.0),
    (Wish(until=600.0, ahead=-DAY), 600.0),
    (Wish(until=-600.0), 0.0),
    (Wish(until=600.0, has_date=False), 0.0),
    (Wish(""), 0.0),
    (Wish("soon"), 0.0),
    (Wish("-5"), 0.0),
    (Wish("1.5"), 0.0),
    (Wish("1e9"), 0.0),
]
OF_API = [*COMMON, (Wish("7200"), HOUR), (Wish("9" * 30), HOUR), (Wish(until=30 * DAY), HOUR)]
OF_HOOK = [*COMMON, (Wish("7200"), 2 * HOUR), (Wish("9" * 30), DAY), (Wish(until=30 * DAY), DAY)]


@pytest.mark.parametrize("status", [429, 503])
async def test_the_api_gets_its_pause(status: int):
    """Whatever form the API's wish has, no look comes before it is over, an hour at most."""
    wrong = []
    for wish, seconds in OF_API:
        api = Asking(running_on, wish, status, begin=anyio.current_time() + SOON)
        async with between(api.take, taken):
            await anyio.sleep(seconds + 3 * SOON)
        wrong += api.wrong(seconds)

    tally(PROMISE, cases=len(OF_API), violations=wrong)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_gets_its_pause(status: int):
    """Whatever form a receiver's wish has, no event comes before it is over, a day at most."""
    wrong = []
    for wish, seconds in OF_HOOK:
        hook = Asking(taken, wish, status)
        async with between(ended, hook.take):
            await anyio.sleep(seconds + 2 * SOON)
        wrong += hook.wrong(seconds)

    tally(PROMISE, cases=len(OF_HOOK), violations=wrong)
