"""Which handler answers what."""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from poller import __version__
from poller.api import events, jobs, sinks, status, stream
from poller.api import health as probes
from poller.api.auth import authorize
from poller.api.context import CONTEXT, ApiContext
from poller.api.problems import problem_middleware

BODY_CAP: Final = 256 * 1024
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Server": f"sutro-poller/{__version__}",
    "X-Content-Type-Options": "nosniff",
}

ROUTES: Final = (
    web.get("/livez", probes.livez),
    web.get("/readyz", probes.readyz),
    web.get("/healthz", probes.readyz),
    web.get("/metrics", probes.metrics),
    web.get("/version", probes.version),
    web.get("/openapi.json", status.openapi),
    web.get("/v1/status", status.status),
    web.get("/v1/jobs", jobs.list_jobs),
    web.post("/v1/jobs", jobs.add_jobs),
    web.get("/v1/jobs/{job_id}", jobs.show_job),
    web.delete("/v1/jobs/{job_id}", jobs.remove_job),
    web.get("/v1/events", events.list_events),
    web.get("/v1/events/stream", stream.stream_events, allow_head=False),
    web.get("/v1/events/{event_id}", events.show_event),
    web.post("/v1/events/{event_id}/replay", events.replay_event),
    web.get("/v1/sinks", sinks.list_sinks),
    web.post("/v1/sinks/{name}/enable", sinks.enable_sink),
    web.post("/v1/sinks/{name}/test", sinks.test_sink),
)


def application(context: ApiContext) -> web.Application:
    """Make the web application of a daemon."""
    app = web.Application(
        middlewares=[_busy, problem_middleware, authorize], client_max_size=BODY_CAP
    )
    app[CONTEXT] = context
    app.add_routes(ROUTES)
    app.on_response_prepare.append(_add_headers)
    return app


@web.middleware
async def _busy(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note that this connection must not make room for others."""
    busy = request.app[CONTEXT].busy
    busy.add(request.protocol)
    try:
        return await handler(request)
    finally:
        busy.discard(request.protocol)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
