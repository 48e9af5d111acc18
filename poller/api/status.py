"""How the daemon stands, for people and programs that want all of it; what may be asked of it."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from aiohttp import web

from poller import __version__
from poller.api.context import PREMISES
from poller.api.parameters import Strict, read_query
from poller.core.issues import ADVICE
from poller.core.jobs import rfc3339
from poller.core.outbox import SinkState


async def status(request: web.Request) -> web.Response:
    """Say how it is, what troubles it from outside, and what waits."""
    read_query(request, Strict)
    premises = request.app[PREMISES]
    vitals = premises.vitals
    hearing, health = vitals.budget.hearing, vitals.health
    return web.json_response(
        {
            "version": __version__,
            "is_ready": health.is_ready,
            "reasons": list(health.reasons),
            "troubles": [{"name": it.value, "advice": ADVICE[it]} for it in vitals.troubles],
            "api": {
                "url": premises.config.settings.api_url,
                "heard_at": _moment(hearing.heard_at),
                "failing_since": _moment(hearing.failing_since),
            },
            "store": {"trouble": vitals.store_trouble},
            "jobs": dict(sorted(vitals.jobs.items())),
            "sinks": [_sink(it) for it in await vitals.backlog()],
        }
    )


async def openapi(request: web.Request) -> web.Response:
    """Give the OpenAPI document, which asks for a token where this daemon does."""
    read_query(request, Strict)
    document = json.loads(files("poller.api").joinpath("openapi.json").read_bytes())
    if request.app[PREMISES].config.settings.listen_token is None:
        del document["security"]
    return web.json_response(document)


def _sink(it: SinkState) -> dict[str, Any]:
    return {
        "sink": it.name,
        "is_enabled": not it.is_disabled,
        "is_configured": it.is_configured,
        "pending": it.pending,
        "oldest_at": _moment(it.oldest),
        "dead": it.dead,
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(datetime.fromtimestamp(int(seconds), UTC))
