"""Every way in which one request to a world can fail: by chance, or when a test says so."""

import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiohttp import web

from tests.fault_injection.job_stories import Story
from tests.support.run_checker import Shown

if TYPE_CHECKING:
    from tests.fault_injection.world import World

Fault = Callable[["World", web.Request, Any], Awaitable[web.StreamResponse]]

FAR: Final = 3_600.0
"""Longer than any timeout, in seconds."""


def _status(*statuses: int) -> Fault:
    async def fail(world: "World", _request: web.Request, _what: object) -> web.Response:
        return world.say({"message": "trouble"}, status=world.random.choice(statuses))

    return fail


async def _throttle(world: "World", _request: web.Request, _what: object) -> web.Response:
    until = formatdate(world.now() + 3, usegmt=True)
    asked = world.random.choice(["0", "2", until, "soon", "-5", "1.5", "", "99999999999999999999"])
    if asked.startswith("9"):
        asked = "5"
    return world.say({}, status=world.random.choice([429, 503]), **{"Retry-After": asked})


async def _hang(world: "World", request: web.Request, _what: object) -> web.StreamResponse:
    await anyio.sleep(FAR)
    return await _reset(world, request, _what)


async def _reset(_world: "World", request: web.Request, _what: object) -> web.Response:
    """End a connection without an answer: what was done is done, but nobody is told."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _delay(world: "World", request: web.Request, story: Story) -> web.StreamResponse:
    await anyio.sleep(world.random.uniform(0.0, 2.0))
    return await world.show(request, story)


async def _drip(world: "World", request: web.Request, story: Story) -> web.StreamResponse:
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


async def _cut(world: "World", request: web.Request, story: Story) -> web.StreamResponse:
    body = json.dumps({"job": story.shown()}).encode()
    response = web.StreamResponse()
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: world.random.randrange(len(body))])
    return await _reset(world, request, story)


async def _bomb(_world: "World", request: web.Request, story: Story) -> web.StreamResponse:
    """Say that a job is too large to be told of: then its status alone is asked for."""
    text = json.dumps({"job": story.shown() | {"system_prompt": "x" * 4_300_000}})
    return web.Response(text=text, content_type="application/json")


async def _another(world: "World", _request: web.Request, story: Story) -> web.Response:
    return world.say({"job": story.shown() | {"job_id": "of-another", "status": "FAILED"}})


async def _stale(world: "World", _request: web.Request, story: Story) -> web.Response:
    return world.say({"job": story.shown(stages_ago=1)})


async def _html(_world: "World", _request: web.Request, _story: Story) -> web.Response:
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


async def _take_and_reset(world: "World", request: web.Request, body: bytes) -> web.StreamResponse:
    """Process an event, and lose the answer."""
    world.note(request, body)
    return await _reset(world, request, body)


async def _take_and_hang(world: "World", request: web.Request, body: bytes) -> web.StreamResponse:
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
