"""Probes, metrics and the version."""

import platform
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from poller import __version__
from poller.api.context import ApiContext
from poller.api.costs import budget_states
from poller.api.models import ResponseModel
from poller.api.problems import Problem
from poller.core.budgets import BudgetState
from poller.core.errors import StoreError


class Liveness(ResponseModel):
    """The result of the liveness probe."""

    live: bool
    reasons: list[str]

    @property
    def http_status(self) -> int:
        """503 if a restart would help."""
        return HTTPStatus.OK if self.live else HTTPStatus.SERVICE_UNAVAILABLE


class Readiness(ResponseModel):
    """The result of the readiness probe."""

    ready: bool
    reasons: list[str]

    @property
    def http_status(self) -> int:
        """503 while not ready."""
        return HTTPStatus.OK if self.ready else HTTPStatus.SERVICE_UNAVAILABLE


class Version(ResponseModel):
    """The versions of sutro-poller and of Python."""

    version: str
    python: str


async def livez(context: ApiContext) -> Liveness:
    """Return whether no loop has stalled; otherwise a restart would help (503)."""
    health = context.status.health
    return Liveness(live=health.is_live, reasons=[] if health.is_live else list(health.reasons))


async def readyz(context: ApiContext) -> Readiness:
    """Return whether the store is open and the loops run, whatever the Sutro API does.

    503 until they do, and while the daemon stops.
    """
    health = context.status.health
    return Readiness(ready=health.is_ready, reasons=list(health.reasons))


async def healthz(context: ApiContext) -> Readiness:
    """Return the readiness, as /readyz does."""
    return await readyz(context)


async def metrics(context: ApiContext, request: web.Request) -> web.Response:
    """Return metrics for Prometheus.

    In the text format, or in OpenMetrics if the client accepts it.
    """
    from poller.api.metrics import render  # noqa: PLC0415 - 1 MiB, only when they are scraped

    accept = ",".join(request.headers.getall("Accept", ()))
    body, content_type = await render(
        context.counters, context.status, accept, await _budgets(context)
    )
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _budgets(context: ApiContext) -> Sequence[BudgetState]:
    """Return how the budgets stand; nothing while the database cannot be read."""
    try:
        return await budget_states(context)
    except (Problem, StoreError):
        return []


async def version(_context: ApiContext) -> Version:
    """Return the versions of sutro-poller and of Python."""
    return Version(version=__version__, python=platform.python_version())
