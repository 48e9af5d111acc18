"""The sinks: who gets the events, what waits for each, and whether one is reached."""

from aiohttp import web

from poller.api.context import PREMISES
from poller.api.events import SinkName
from poller.api.parameters import Strict, read_path, read_query, refuse_body
from poller.api.problems import Problem
from poller.delivery.attempt import a_test_event, try_once
from poller.wiring import origin


class SinkPath(Strict):
    """Which sink is meant."""

    name: SinkName


async def list_sinks(request: web.Request) -> web.Response:
    """List the sinks that are configured or have deliveries left."""
    read_query(request, Strict)
    rows = await request.app[PREMISES].look(lambda desk: desk.sinks())
    return web.json_response({"sinks": rows})


async def enable_sink(request: web.Request) -> web.Response:
    """Switch on a sink that its receiver switched off, with all that was kept for it."""
    refuse_body(request)
    read_query(request, Strict)
    premises, name = request.app[PREMISES], read_path(request, SinkPath).name
    rows = await premises.look(lambda desk: desk.enable(name))
    premises.work.dispatcher.wake()
    body = {"sink": name, "was_disabled": rows is not None, "pending_again": len(rows or ())}
    return web.json_response(body)


async def try_sink(request: web.Request) -> web.Response:
    """Send a test event through a sink at once, and say what came of it."""
    refuse_body(request)
    read_query(request, Strict)
    premises, name = request.app[PREMISES], read_path(request, SinkPath).name
    sinks = premises.work.dispatcher.sinks
    if name not in sinks:
        told = f"no sink is configured by this name; there are: {', '.join(sinks)}"
        raise Problem("not-found", told)
    event = a_test_event(origin(premises.config), premises.clock, sink=name)
    reason = await try_once(sinks[name], name, event, premises.clock)
    body = {"sink": name, "event_id": event.id, "is_taken": reason is None, "reason": reason}
    return web.json_response(body)
