"""The table of all operations, and the application that serves them."""

from typing import Final

from aiohttp import web

from poller.api import events, health, jobs, sinks, status, stream
from poller.api.auth import authorize
from poller.api.context import ApiContext
from poller.api.endpoint import CONTEXT, Endpoint
from poller.api.middleware import add_headers, mark_busy, report_problems

MAX_BODY_BYTES: Final = 256 * 1024

ENDPOINTS: Final = (
    Endpoint(
        route="GET /livez",
        name="livez",
        handler=health.livez,
        summary="Liveness probe",
        description="503 when a loop has stalled and a restart would help.",
    ),
    Endpoint(
        route="GET /readyz",
        name="readyz",
        handler=health.readyz,
        summary="Readiness probe",
        description="503 until the store is open and the loops run, and while the daemon stops.",
    ),
    Endpoint(
        route="GET /healthz",
        name="healthz",
        handler=health.readyz,
        summary="Readiness probe, under another name",
    ),
    Endpoint(
        route="GET /metrics",
        name="metrics",
        handler=health.metrics,
        summary="Metrics for Prometheus",
        description="In the text format, or in OpenMetrics if the client accepts it.",
    ),
    Endpoint(route="GET /version", name="version", handler=health.version, summary="Version"),
    Endpoint(
        route="GET /openapi.json",
        name="openapi",
        handler=status.openapi,
        summary="This OpenAPI document",
    ),
    Endpoint(
        route="GET /v1/status",
        name="status",
        handler=status.show_status,
        summary="Readiness, issues, jobs by state and the backlog of each sink",
    ),
    Endpoint(
        route="GET /v1/jobs",
        name="listJobs",
        handler=jobs.list_jobs,
        summary="List jobs, the last changed first",
    ),
    Endpoint(
        route="POST /v1/jobs",
        name="addJobs",
        handler=jobs.add_jobs,
        summary="Watch jobs",
        description="They stay watched after a restart. Idempotent.",
        problems=("conflict",),
    ),
    Endpoint(
        route="GET /v1/jobs/{job_id}",
        name="showJob",
        handler=jobs.show_job,
        summary="Show a job",
        problems=("not-found",),
    ),
    Endpoint(
        route="DELETE /v1/jobs/{job_id}",
        name="removeJob",
        handler=jobs.remove_job,
        summary="Stop watching a job that was added",
        description="Jobs of the settings, the jobs file or discovery cannot be removed (409)."
        " An end that was seen already is still announced.",
        problems=("not-found", "managed-by-config"),
    ),
    Endpoint(
        route="GET /v1/events",
        name="listEvents",
        handler=events.list_events,
        summary="List events, the latest first",
    ),
    Endpoint(
        route="GET /v1/events/stream",
        name="streamEvents",
        handler=stream.stream_events,
        summary="Stream events as they are recorded",
        description="Server-sent events: `id` is the event's id, `event` its type, `data` its"
        " body. A comment is sent every 15 seconds.",
        problems=("too-many-streams",),
    ),
    Endpoint(
        route="GET /v1/events/{event_id}",
        name="showEvent",
        handler=events.show_event,
        summary="Show an event with its body and its deliveries",
        problems=("not-found",),
    ),
    Endpoint(
        route="POST /v1/events/{event_id}/replay",
        name="replayEvent",
        handler=events.replay_event,
        summary="Send an event again",
        description="With the same id and the same bytes.",
        problems=("not-found", "conflict"),
    ),
    Endpoint(
        route="GET /v1/sinks",
        name="listSinks",
        handler=sinks.list_sinks,
        summary="List the sinks and their backlogs",
    ),
    Endpoint(
        route="POST /v1/sinks/{name}/enable",
        name="enableSink",
        handler=sinks.enable_sink,
        summary="Enable a sink that a 410 disabled",
        description="All events that were kept for it are sent.",
        problems=("not-found",),
    ),
    Endpoint(
        route="POST /v1/sinks/{name}/test",
        name="testSink",
        handler=sinks.test_sink,
        summary="Send a test event to a sink now",
        problems=("not-found",),
    ),
)


def application(context: ApiContext) -> web.Application:
    """Return the web application of a daemon."""
    app = web.Application(
        middlewares=[mark_busy, report_problems, authorize], client_max_size=MAX_BODY_BYTES
    )
    app[CONTEXT] = context
    app.add_routes(_route(endpoint) for endpoint in ENDPOINTS)
    app.on_response_prepare.append(add_headers)
    return app


def _route(endpoint: Endpoint) -> web.RouteDef:
    if endpoint.handler is stream.stream_events:  # a HEAD of it would never end
        return web.get(endpoint.path, endpoint.serve, allow_head=False)
    return web.RouteDef(endpoint.method, endpoint.path, endpoint.serve, {})
