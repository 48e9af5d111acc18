"""The faults of single requests to the fake servers."""

import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiohttp import web

from tests.fault_injection.scripted_jobs import ScriptedJob
from tests.support.run_checker import ExpectedEvent

if TYPE_CHECKING:
    from tests.fault_injection.fake_servers import FakeServers

Fault = Callable[["FakeServers", web.Request, Any], Awaitable[web.StreamResponse]]

BEYOND_TIMEOUT: Final = 3_600.0
"""Seconds, longer than any timeout."""


def _status(*statuses: int) -> Fault:
    async def fail(servers: "FakeServers", _request: web.Request, _what: object) -> web.Response:
        return servers.json_response({"message": "trouble"}, status=servers.random.choice(statuses))

    return fail


async def _throttle(servers: "FakeServers", _request: web.Request, _what: object) -> web.Response:
    until = formatdate(servers.now() + 3, usegmt=True)
    retry = servers.random.choice(
        ["0", "2", until, "soon", "-5", "1.5", "", "99999999999999999999"]
    )
    if retry.startswith("9"):
        retry = "5"
    return servers.json_response(
        {}, status=servers.random.choice([429, 503]), **{"Retry-After": retry}
    )


async def _hang(servers: "FakeServers", request: web.Request, _what: object) -> web.StreamResponse:
    await anyio.sleep(BEYOND_TIMEOUT)
    return await _reset(servers, request, _what)


async def _reset(_servers: "FakeServers", request: web.Request, _what: object) -> web.Response:
    """Close the connection without a response; the request itself was handled."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _delay(
    servers: "FakeServers", request: web.Request, job: ScriptedJob
) -> web.StreamResponse:
    await anyio.sleep(servers.random.uniform(0.0, 2.0))
    return await servers.send_job(request, job)


async def _drip(
    servers: "FakeServers", request: web.Request, job: ScriptedJob
) -> web.StreamResponse:
    """Send a complete response, a few bytes at a time."""
    body, stage = json.dumps({"job": job.as_object()}).encode(), job.stage
    response = web.StreamResponse(headers={"Date": formatdate(servers.now(), usegmt=True)})
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), 200):
        await response.write(body[start : start + 200])
        await anyio.sleep(0.01)
    await response.write_eof()
    if stage.event_type:
        servers.expected.append(ExpectedEvent(servers.now(), job.job_id, stage.event_type))
    return response


async def _cut(
    servers: "FakeServers", request: web.Request, job: ScriptedJob
) -> web.StreamResponse:
    body = json.dumps({"job": job.as_object()}).encode()
    response = web.StreamResponse()
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: servers.random.randrange(len(body))])
    return await _reset(servers, request, job)


async def _bomb(
    _servers: "FakeServers", request: web.Request, job: ScriptedJob
) -> web.StreamResponse:
    """Send a job over the size limit: the client then requests the status alone."""
    text = json.dumps({"job": job.as_object() | {"system_prompt": "x" * 4_300_000}})
    return web.Response(text=text, content_type="application/json")


async def _another(servers: "FakeServers", _request: web.Request, job: ScriptedJob) -> web.Response:
    return servers.json_response(
        {"job": job.as_object() | {"job_id": "of-another", "status": "FAILED"}}
    )


async def _stale(servers: "FakeServers", _request: web.Request, job: ScriptedJob) -> web.Response:
    return servers.json_response({"job": job.as_object(stages_ago=1)})


async def _html(_servers: "FakeServers", _request: web.Request, _job: ScriptedJob) -> web.Response:
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


async def _accept_and_reset(
    servers: "FakeServers", request: web.Request, body: bytes
) -> web.StreamResponse:
    """Accept an event, and lose the response."""
    servers.record(request, body)
    return await _reset(servers, request, body)


async def _accept_and_hang(
    servers: "FakeServers", request: web.Request, body: bytes
) -> web.StreamResponse:
    servers.record(request, body)
    return await _hang(servers, request, body)


HOOK_FAULTS: Final[dict[str, Fault]] = {
    "status": _status(408, 425, 429, 500, 502, 503, 504, 401, 404, 409, 451, 302),
    "throttle": _throttle,
    "hang": _hang,
    "reset": _reset,
    "processed, answer lost": _accept_and_reset,
    "processed, answer late": _accept_and_hang,
}
