"""How the daemon stands, for people and programs that want all of it; what may be asked of it."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from aiohttp import web

from poller import __version__
from poller.api.context import CONTEXT
from poller.api.parameters import StrictModel, read_query
from poller.core.issues import REMEDIES
from poller.core.jobs import format_rfc3339
from poller.core.outbox import SinkBacklog


async def status(request: web.Request) -> web.Response:
    """Say how it is, what troubles it from outside, and what waits."""
    read_query(request, StrictModel)
    context = request.app[CONTEXT]
    daemon_status = context.status
    reachability, health = daemon_status.rate_limiter.reachability, daemon_status.health
    return web.json_response(
        {
            "version": __version__,
            "is_ready": health.is_ready,
            "reasons": list(health.reasons),
            "troubles": [{"name": it.value, "advice": REMEDIES[it]} for it in daemon_status.issues],
            "api": {
                "url": context.config.settings.api_url,
                "heard_at": _moment(reachability.last_response_at),
                "failing_since": _moment(reachability.failing_since),
            },
            "store": {"trouble": daemon_status.store_error},
            "jobs": dict(sorted(daemon_status.jobs.items())),
            "sinks": [_sink(it) for it in await daemon_status.backlog()],
        }
    )


async def openapi(request: web.Request) -> web.Response:
    """Give the OpenAPI document, which asks for a token where this daemon does."""
    read_query(request, StrictModel)
    document = json.loads(files("poller.api").joinpath("openapi.json").read_bytes())
    if request.app[CONTEXT].config.settings.listen_token is None:
        del document["security"]
    return web.json_response(document)


def _sink(it: SinkBacklog) -> dict[str, Any]:
    return {
        "sink": it.name,
        "is_enabled": not it.is_disabled,
        "is_configured": it.is_configured,
        "pending": it.pending,
        "oldest_at": _moment(it.oldest_pending_at),
        "dead": it.dead,
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_rfc3339(datetime.fromtimestamp(int(seconds), UTC))
