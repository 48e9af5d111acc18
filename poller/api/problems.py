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
    "invalid": ProblemType(400, "Invalid request"),
    "unauthorized": ProblemType(401, "Unauthorized"),
    "forbidden": ProblemType(403, "Forbidden"),
    "cross-origin": ProblemType(403, "Cross-origin request rejected"),
    "not-found": ProblemType(404, "Not found"),
    "method-not-allowed": ProblemType(405, "Method not allowed"),
    "request-timeout": ProblemType(408, "Request timeout"),
    "managed-by-config": ProblemType(409, "Job is managed by the configuration"),
    "conflict": ProblemType(409, "Conflict"),
    "too-large": ProblemType(413, "Request body too large"),
    "unsupported-media-type": ProblemType(415, "Unsupported media type"),
    "unknown-host": ProblemType(421, "Unknown host name"),
    "internal-error": ProblemType(500, "Internal error"),
    "not-ready": ProblemType(503, "Daemon not ready"),
    "store-unavailable": ProblemType(503, "Store unavailable"),
    "too-many-streams": ProblemType(503, "Too many streams"),
}

OF_STATUS: Final = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
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
        kind = "not-found" if isinstance(error, NoMatch) else "store-unavailable"
        return Problem(kind, str(error)).response()
    except Exception:  # a bug in one request must not end the daemon
        log.exception("api.request_failed", method=request.method, route=_route(request))
        return Problem(
            "internal-error", "nothing is known of what was done of the request"
        ).response()


def _of_library(refusal: web.HTTPException) -> Problem:
    kind = OF_STATUS.get(refusal.status, "invalid")
    allow = refusal.headers.get("Allow")
    headers = {"Allow": allow} if allow else {}
    return Problem(kind, refusal.reason, headers=headers)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""
