"""An API that fails in every way of a network, and records the requests."""

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
class FaultyApi:
    """Simulated jobs behind a network that fails one request in `odds`.

    In `outages`, spans of virtual time, every request fails.
    """

    jobs: dict[str, SimulatedJob]
    now: Callable[[], float]
    random: Random
    odds: int = 5
    outages: tuple[tuple[float, float], ...] = ()
    requested_at: list[float] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or fail it."""
        at = anyio.current_time()
        self.requested_at.append(at)
        job = self.jobs[request.match_info["path"].rpartition("/")[2]]
        if any(start <= at < end for start, end in self.outages):
            return await self.random.choice([_server_error, _reset, _hang])(self, request, job)
        if self.random.randrange(self.odds) == 0:
            return await self.random.choice(FAULTS)(self, request, job)
        return self.answer(job)

    def answer(self, job: SimulatedJob) -> web.Response:
        """Answer as the API does."""
        return self.json_response({"job": job.as_object(self.now())})

    def json_response(self, body: Any = None, status: int = 200, **headers: str) -> web.Response:
        """Return a JSON response, dated by virtual time."""
        dated = {"Date": formatdate(self.now(), usegmt=True), **headers}
        return web.json_response(body, status=status, headers=dated)

    def pause(self, seconds: float) -> None:
        """Record that no request may come for so many seconds."""
        at = anyio.current_time()
        self.pauses.append((at, at + seconds))


async def _server_error(api: FaultyApi, _request: web.Request, _job: SimulatedJob) -> web.Response:
    return api.json_response(
        {"message": "trouble"}, status=api.random.choice([500, 502, 520, 524, 408])
    )


async def _hang(api: FaultyApi, _request: web.Request, job: SimulatedJob) -> web.Response:
    await anyio.sleep(LONGER_THAN_ANY_TIMEOUT)
    return api.answer(job)


async def _reset(api: FaultyApi, request: web.Request, job: SimulatedJob) -> web.Response:
    assert request.transport
    request.transport.abort()
    return api.answer(job)


async def _throttle(api: FaultyApi, _request: web.Request, _job: SimulatedJob) -> web.Response:
    seconds = api.random.randrange(1, 90)
    api.pause(seconds)
    return api.json_response(status=429, **{"Retry-After": str(seconds)})


async def _throttle_until(
    api: FaultyApi, _request: web.Request, _job: SimulatedJob
) -> web.Response:
    seconds = api.random.randrange(2, 90)
    api.pause(seconds - 1.0)  # a date has no fraction of a second
    until = formatdate(int(api.now()) + seconds, usegmt=True)
    return api.json_response(status=503, **{"Retry-After": until})


async def _html(_api: FaultyApi, _request: web.Request, _job: SimulatedJob) -> web.Response:
    return web.Response(text="<html>SUCCEEDED</html>", content_type="text/html")


async def _cut(api: FaultyApi, _request: web.Request, job: SimulatedJob) -> web.Response:
    text = json.dumps({"job": job.as_object(api.now())})
    return web.Response(text=text[: len(text) // 2], content_type="application/json")


async def _another_job(api: FaultyApi, _request: web.Request, job: SimulatedJob) -> web.Response:
    job = job.as_object(api.now()) | {"job_id": "job-of-another", "status": "FAILED"}
    return api.json_response({"job": job})


FAULTS = (_server_error, _hang, _reset, _throttle, _throttle_until, _html, _cut, _another_job)
