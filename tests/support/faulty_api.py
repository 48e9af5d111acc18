"""An API that fails in every way that a network knows, and keeps a log of what it was asked."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from random import Random
from typing import Any

import anyio
from aiohttp import web

from poller.sutro.simulator.script import SimulatedJob

LONGER_THAN_ANY_TIMEOUT = 60.0


@dataclass
class HostileApi:
    """Jobs that live by scripts, behind a network that fails one request in `odds`.

    In `outages`, spans of virtual time, every request fails.
    """

    lives: dict[str, SimulatedJob]
    now: Callable[[], float]
    random: Random
    odds: int = 5
    outages: tuple[tuple[float, float], ...] = ()
    asked: list[float] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or fail it."""
        at = anyio.current_time()
        self.asked.append(at)
        life = self.lives[request.match_info["path"].rpartition("/")[2]]
        if any(start <= at < end for start, end in self.outages):
            return await self.random.choice([_trouble, _reset, _hang])(self, request, life)
        if self.random.randrange(self.odds) == 0:
            return await self.random.choice(FAULTS)(self, request, life)
        return self.answer(life)

    def answer(self, life: SimulatedJob) -> web.Response:
        """Answer as the API does."""
        return self.say({"job": life.as_object(self.now())})

    def say(self, body: Any = None, status: int = 200, **headers: str) -> web.Response:
        """Answer some JSON, dated by virtual time."""
        dated = {"Date": formatdate(self.now(), usegmt=True), **headers}
        return web.json_response(body, status=status, headers=dated)

    def pause(self, seconds: float) -> None:
        """Note that no request may come for so long."""
        at = anyio.current_time()
        self.pauses.append((at, at + seconds))


async def _trouble(api: HostileApi, _request: web.Request, _life: SimulatedJob) -> web.Response:
    return api.say({"message": "trouble"}, status=api.random.choice([500, 502, 520, 524, 408]))


async def _hang(api: HostileApi, _request: web.Request, life: SimulatedJob) -> web.Response:
    await anyio.sleep(LONGER_THAN_ANY_TIMEOUT)
    return api.answer(life)


async def _reset(api: HostileApi, request: web.Request, life: SimulatedJob) -> web.Response:
    assert request.transport
    request.transport.abort()
    return api.answer(life)


async def _throttle(api: HostileApi, _request: web.Request, _life: SimulatedJob) -> web.Response:
    seconds = api.random.randrange(1, 90)
    api.pause(seconds)
    return api.say(status=429, **{"Retry-After": str(seconds)})


async def _throttle_until(
    api: HostileApi, _request: web.Request, _life: SimulatedJob
) -> web.Response:
    seconds = api.random.randrange(2, 90)
    api.pause(seconds - 1.0)  # a date has no fraction of a second
    until = formatdate(int(api.now()) + seconds, usegmt=True)
    return api.say(status=503, **{"Retry-After": until})


async def _html(_api: HostileApi, _request: web.Request, _life: SimulatedJob) -> web.Response:
    return web.Response(text="<html>SUCCEEDED</html>", content_type="text/html")


async def _cut(api: HostileApi, _request: web.Request, life: SimulatedJob) -> web.Response:
    text = json.dumps({"job": life.as_object(api.now())})
    return web.Response(text=text[: len(text) // 2], content_type="application/json")


async def _another(api: HostileApi, _request: web.Request, life: SimulatedJob) -> web.Response:
    job = life.as_object(api.now()) | {"job_id": "job-of-another", "status": "FAILED"}
    return api.say({"job": job})


FAULTS = (_trouble, _hang, _reset, _throttle, _throttle_until, _html, _cut, _another)
