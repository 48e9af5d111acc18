"""The sinks: who gets the events, and what waits for each."""

from aiohttp import web

from poller.api.premises import PREMISES
from poller.api.reading import Strict, read_query


async def list_sinks(request: web.Request) -> web.Response:
    """List the sinks that are configured or have deliveries left."""
    read_query(request, Strict)
    rows = await request.app[PREMISES].look(lambda desk: desk.sinks())
    return web.json_response({"sinks": rows})
