"""What is wrong with a request, or in its way: problem documents (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from poller.core.errors import NoMatch, PollerError, StoreError

CONTENT_TYPE: Final = "application/problem+json"
ABOUT: Final = "https://github.com/sutro-poller/sutro-poller/blob/main/docs/http-api.md#problem-"
RETRY_AFTER: Final = 5

log = structlog.get_logger()


class ProblemType(NamedTuple):
    """One kind of problem."""

    status: int
    title: str


PROBLEM_TYPES: Final = {
    "invalid": ProblemType(400, "The request is not what this API takes"),
    "token": ProblemType(401, "A token is needed"),
    "closed": ProblemType(403, "This address serves only probes, metrics and the version"),
    "foreign-origin": ProblemType(403, "Pages of other sites may not ask"),
    "not-found": ProblemType(404, "There is no such thing"),
    "method": ProblemType(405, "This cannot be done here"),
    "too-slow": ProblemType(408, "The body did not come in time"),
    "configured": ProblemType(409, "It is watched for another reason than this API"),
    "obstacle": ProblemType(409, "It cannot be done as things stand"),
    "too-large": ProblemType(413, "The body is too large"),
    "not-json": ProblemType(415, "The body must be JSON"),
    "foreign-host": ProblemType(421, "The name in the request is not one of this daemon"),
    "bug": ProblemType(500, "This is a bug; the log of the daemon says more"),
    "in-memory": ProblemType(501, "The store is in memory, where nothing can be looked up"),
    "not-ready": ProblemType(503, "The daemon is not ready"),
    "store": ProblemType(503, "The store does not do what it is asked at the moment"),
    "full": ProblemType(503, "Too many listen already"),
}

OF_STATUS: Final = {404: "not-found", 405: "method", 413: "too-large"}
"""The kind of what the library raises, by its status; anything else is invalid."""


class Problem(PollerError):
    """Why a request gets another answer than it wants."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.errors = errors
        self.headers = headers or {}

    def response(self) -> web.Response:
        """Write the problem as an answer."""
        status, title = PROBLEM_TYPES[self.kind]
        body: dict[str, Any] = {
            "type": ABOUT + self.kind,
            "title": title,
            "status": status,
            "detail": str(self),
        }
        if self.errors:
            body["errors"] = self.errors
        headers = dict(self.headers)
        if status == 503:
            headers["Retry-After"] = str(RETRY_AFTER)
        return web.Response(
            text=json.dumps(body), status=status, headers=headers, content_type=CONTENT_TYPE
        )


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a problem document whatever is raised."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as refusal:
        return _of_library(refusal).response()
    except StoreError as error:
        kind = "not-found" if isinstance(error, NoMatch) else "store"
        return Problem(kind, str(error)).response()
    except Exception:  # a bug in the door must not end the daemon
        log.exception("api.request_failed", method=request.method, route=_route(request))
        return Problem("bug", "nothing is known of what was done of the request").response()


def _of_library(refusal: web.HTTPException) -> Problem:
    kind = OF_STATUS.get(refusal.status, "invalid")
    allow = refusal.headers.get("Allow")
    headers = {"Allow": allow} if allow else {}
    return Problem(kind, refusal.reason, headers=headers)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""
