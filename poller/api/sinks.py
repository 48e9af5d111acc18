"""The sinks: who gets the events, what waits for each, and whether one is reached."""

from aiohttp import web

from poller.api.context import CONTEXT
from poller.api.events import SinkName
from poller.api.parameters import StrictModel, read_path, read_query, reject_body
from poller.api.problems import Problem
from poller.delivery.attempt import attempt, test_delivery


class SinkPath(StrictModel):
    """Which sink is meant."""

    name: SinkName


async def list_sinks(request: web.Request) -> web.Response:
    """List the sinks that are configured or have deliveries left."""
    read_query(request, StrictModel)
    rows = await request.app[CONTEXT].query(lambda admin: admin.sinks())
    return web.json_response({"sinks": rows})


async def enable_sink(request: web.Request) -> web.Response:
    """Switch on a sink that its receiver switched off, with all that was kept for it."""
    reject_body(request)
    read_query(request, StrictModel)
    context, name = request.app[CONTEXT], read_path(request, SinkPath).name
    rows = await context.query(lambda admin: admin.enable_sink(name))
    context.daemon.dispatcher.wake()
    body = {"sink": name, "was_disabled": rows is not None, "pending_again": len(rows or ())}
    return web.json_response(body)


async def test_sink(request: web.Request) -> web.Response:
    """Send a test event through a sink at once, and say what came of it."""
    reject_body(request)
    read_query(request, StrictModel)
    context, name = request.app[CONTEXT], read_path(request, SinkPath).name
    sinks = context.daemon.dispatcher.sinks
    if name not in sinks:
        told = f"no sink is configured by this name; there are: {', '.join(sinks)}"
        raise Problem("not-found", told)
    delivery = test_delivery(name, context.config.origin, context.clock)
    error = await attempt(sinks[name], delivery, secrets=context.config.secrets)
    body = {
        "sink": name,
        "event_id": delivery.event.id,
        "is_taken": error is None,
        "reason": error.reason if error else None,
    }
    return web.json_response(body)
