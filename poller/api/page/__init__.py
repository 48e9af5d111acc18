"""The pages for people: what the daemon does now, what it has done, and what needs attention.

They are rendered in threads, and what renders them is imported for the first one.
"""

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Final

from aiohttp import web
from anyio.to_thread import run_sync

from poller.api.endpoint import Endpoint
from poller.api.page.responses import html
from poller.api.page.session import STREAM_PATH
from poller.api.problems import Problem


@dataclass(frozen=True, slots=True)
class Page:
    """A page or an action; `handler` is the name of a module of this package and of a function."""

    method: str
    path: str
    handler: str

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Import the handler, and serve the request."""
        module, _, name = self.handler.partition(".")
        # An import may take longer than the event loop should wait.
        imported = await run_sync(import_module, f"{__name__}.{module}")
        return await Endpoint(self.method, self.path, getattr(imported, name)).serve(request)


LOGIN: Final = "/login"
ASSETS: Final = "/assets/{name}"
PAGES: Final = (
    Page("GET", "/", "views.overview"),
    Page("GET", "/jobs/{job_id}", "views.job"),
    Page("GET", "/dead-letters", "views.dead_letters"),
    Page("GET", ASSETS, "assets.asset"),
    Page("POST", LOGIN, "login.log_in"),
    Page("POST", "/logout", "login.log_out"),
    Page("POST", "/dead-letters/replay", "actions.replay_dead_letters"),
    Page("POST", "/dead-letters/drop", "actions.drop_dead_letters"),
    Page("POST", "/events/{event_id}/replay", "actions.replay_event"),
    Page("POST", "/sinks/{name}/enable", "actions.enable_sink"),
    Page("POST", "/sinks/{name}/test", "actions.test_sink"),
)
PATHS: Final = frozenset(page.path for page in PAGES)


def is_page(request: web.Request) -> bool:
    """Return whether a request is for a page, and not for the HTTP API."""
    return _path(request) in PATHS


def needs_no_token(request: web.Request) -> bool:
    """Return whether a request is served before the login."""
    return _path(request) in {LOGIN, ASSETS}


def accepts_session(request: web.Request) -> bool:
    """Return whether the cookie of a login is enough for a request."""
    return is_page(request) or request.path == STREAM_PATH


async def problem_page(request: web.Request, problem: Problem) -> web.Response:
    """Return a problem as a page, and a login form where the token is missing or wrong."""
    document = problem.document
    detail = document.detail
    template = "problem.html"
    if document.status == web.HTTPUnauthorized.status_code:
        template, detail = "login.html", detail if _path(request) == LOGIN else ""
    text = await run_sync(partial(_render, template, problem=document, detail=detail))
    response = html(text, document.status)
    response.headers.update(problem.headers)
    return response


def _render(template: str, **values: object) -> str:
    from poller.api.page.render import render  # noqa: PLC0415 - in a thread, for the first page

    return render(template, **values)


def _path(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return resource.canonical if resource else None
