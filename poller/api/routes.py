"""The table of all operations, and the application that serves them."""

from typing import Final

from aiohttp import web

from poller.api import costs, events, health, jobs, sinks, status, stream
from poller.api.auth import authorize
from poller.api.context import ApiContext
from poller.api.endpoint import CONTEXT, Endpoint
from poller.api.middleware import add_headers, add_proof, report_problems
from poller.api.page import PAGES, Page

MAX_BODY_BYTES: Final = 256 * 1024

METRICS: Final = Endpoint("GET", "/metrics", health.metrics)
ENDPOINTS: Final = (
    Endpoint("GET", "/livez", health.livez),
    Endpoint("GET", "/readyz", health.readyz),
    Endpoint("GET", "/healthz", health.healthz),
    METRICS,
    Endpoint("GET", "/version", health.version),
    Endpoint("GET", "/openapi.json", status.openapi),
    Endpoint("GET", "/v1/status", status.status),
    Endpoint("GET", "/v1/jobs", jobs.list_jobs),
    Endpoint("POST", "/v1/jobs", jobs.add_jobs, ("conflict",)),
    Endpoint("GET", "/v1/jobs/{job_id}", jobs.show_job, ("not-found",)),
    Endpoint("DELETE", "/v1/jobs/{job_id}", jobs.remove_job, ("not-found", "managed-by-config")),
    Endpoint("GET", "/v1/jobs/{job_id}/sinks", sinks.explain_job, ("not-found",)),
    Endpoint("GET", "/v1/events", events.list_events),
    Endpoint("GET", "/v1/events/stream", stream.stream_events, ("too-many-streams",)),
    Endpoint("GET", "/v1/events/{event_id}", events.show_event, ("not-found",)),
    Endpoint(
        "POST", "/v1/events/{event_id}/replay", events.replay_event, ("not-found", "conflict")
    ),
    Endpoint("GET", "/v1/costs", costs.list_costs),
    Endpoint("GET", "/v1/costs/estimates", costs.compare_costs),
    Endpoint("GET", "/v1/budgets", costs.list_budgets),
    Endpoint("GET", "/v1/sinks", sinks.list_sinks),
    Endpoint("POST", "/v1/sinks/{name}/enable", sinks.enable_sink, ("not-found",)),
    Endpoint("POST", "/v1/sinks/{name}/test", sinks.test_sink, ("not-found",)),
)


def application(context: ApiContext) -> web.Application:
    """Return the web application of a daemon."""
    app = web.Application(middlewares=[report_problems, authorize], client_max_size=MAX_BODY_BYTES)
    app[CONTEXT] = context
    app.add_routes(_route(endpoint) for endpoint in (*ENDPOINTS, *PAGES))
    app.on_response_prepare.extend((add_headers, add_proof))
    return app


def metrics_application(context: ApiContext) -> web.Application:
    """Return the application of the listener that serves the metrics alone.

    It sends no proof: anyone who can connect could pass one on, and pose as this daemon.
    """
    app = web.Application(middlewares=[report_problems])
    app[CONTEXT] = context
    app.add_routes([_route(METRICS)])
    app.on_response_prepare.append(add_headers)
    return app


def _route(endpoint: Endpoint | Page) -> web.RouteDef:
    if endpoint.handler is stream.stream_events:  # a HEAD of it would never end
        return web.get(endpoint.path, endpoint.serve, allow_head=False)
    # Braces may be in an id, but not in a variable of aiohttp as it is.
    path = endpoint.path.replace("}", ":[^/]+}")
    return web.RouteDef(endpoint.method, path, endpoint.serve, {})
