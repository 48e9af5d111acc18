"""The status of the daemon as a whole, and the OpenAPI document."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import cast

from aiohttp import web
from pydantic import Field

from poller import __version__
from poller.api.context import ApiContext
from poller.api.models import Count, JobState, ResponseModel, SinkName, UtcTime
from poller.core.issues import Issue
from poller.core.jobs import format_rfc3339
from poller.core.outbox import SinkBacklog


class IssueReport(ResponseModel):
    """A cause outside the daemon that keeps it from its work."""

    name: Issue
    remedy: str


class ApiStatus(ResponseModel):
    """The state of the Sutro API."""

    url: str
    last_response_at: UtcTime | None
    failing_since: UtcTime | None
    error: str | None = Field(description="Why the last request failed")


class StoreHealth(ResponseModel):
    """The state of the database."""

    id: str | None = Field(description="Random ID of the database; null while it is not open")
    error: str | None = Field(description="Why the last access failed")


class Backlog(ResponseModel):
    """The backlog of a sink."""

    sink: SinkName
    enabled: bool
    configured: bool
    pending: Count
    oldest_at: UtcTime | None
    failing_since: UtcTime | None = Field(description="When its attempts began to fail")
    dead: Count


class Status(ResponseModel):
    """Readiness, issues, jobs and backlogs."""

    version: str
    ready: bool
    reasons: list[str] = Field(description="Why the daemon is not ready")
    issues: list[IssueReport]
    api: ApiStatus
    store: StoreHealth
    jobs: dict[JobState, Count] = Field(description="The number of watched jobs in each state")
    sinks: list[Backlog]


async def status(context: ApiContext) -> Status:
    """Return readiness, issues, jobs by state and the backlog of each sink."""
    daemon, health = context.status, context.status.health
    sinks = [_backlog(sink) for sink in await daemon.backlog()]
    reachability = daemon.rate_limiter.reachability
    return Status(
        version=__version__,
        ready=health.is_ready,
        reasons=list(health.reasons),
        issues=[IssueReport(name=issue, remedy=daemon.remedy(issue)) for issue in daemon.issues],
        api=ApiStatus(
            url=context.config.settings.api_url,
            last_response_at=_utc_time(reachability.last_response_at),
            failing_since=_utc_time(reachability.failing_since),
            error=reachability.last_error,
        ),
        store=StoreHealth(id=daemon.database_id, error=daemon.store_error),
        jobs=cast("dict[JobState, int]", dict(sorted(daemon.jobs.items()))),
        sinks=sinks,
    )


async def openapi(context: ApiContext) -> web.Response:
    """Return the OpenAPI document; it requires a token where this daemon does."""
    document = json.loads(files("poller.api").joinpath("openapi.json").read_bytes())
    if context.config.settings.listen_token is None:
        del document["security"]
    return web.json_response(document)


def _backlog(sink: SinkBacklog) -> Backlog:
    return Backlog(
        sink=sink.name,
        enabled=not sink.is_disabled,
        configured=sink.is_configured,
        pending=sink.pending,
        oldest_at=_utc_time(sink.oldest_pending_at),
        failing_since=_utc_time(sink.failing_since),
        dead=sink.dead,
    )


def _utc_time(seconds: float | None) -> str | None:
    return None if seconds is None else format_rfc3339(datetime.fromtimestamp(int(seconds), UTC))
