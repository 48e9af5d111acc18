"""What service managers, kubelets and Prometheus ask: is it well, and what are its numbers."""

import platform
from typing import Final

from aiohttp import web

from poller import __version__
from poller.api.context import CONTEXT

UNAVAILABLE_STATUS: Final = 503


async def livez(request: web.Request) -> web.Response:
    """Say whether a restart would mend anything."""
    health = request.app[CONTEXT].status.health
    return _told(is_well=health.is_live, reasons=health.reasons if not health.is_live else ())


async def readyz(request: web.Request) -> web.Response:
    """Say whether the store is open and the loops turn; what the API says is no part of it."""
    health = request.app[CONTEXT].status.health
    return _told(is_well=health.is_ready, reasons=health.reasons)


async def metrics(request: web.Request) -> web.Response:
    """Draw the metrics in the format that is asked for."""
    from poller.api.metrics import Metrics  # noqa: PLC0415 - 1 MiB, for those who ask for them

    context = request.app[CONTEXT]
    drawn = Metrics(context.counters, context.status, context.clock.steady)
    body, content_type = await drawn.render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def version(_request: web.Request) -> web.Response:
    """Say which version runs."""
    return web.json_response({"version": __version__, "python": platform.python_version()})


def _told(*, is_well: bool, reasons: tuple[str, ...]) -> web.Response:
    body = {"is_well": is_well, "reasons": list(reasons)}
    return web.json_response(body, status=200 if is_well else UNAVAILABLE_STATUS)
