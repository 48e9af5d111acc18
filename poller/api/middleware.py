"""Steps around every handler: problem documents and common headers."""

import json
from secrets import token_hex
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from poller import __version__
from poller.api.endpoint import CONTEXT
from poller.api.page import is_page, problem_page
from poller.api.problems import Problem, from_store
from poller.core.errors import StoreError
from poller.runtime.instance_key import CHALLENGE, PROOF, proof

PROBLEM_JSON: Final = "application/problem+json"
KIND_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
"""The problem types of aiohttp's own errors; any other status is invalid."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Server": f"sutro-poller/{__version__}",
    "X-Content-Type-Options": "nosniff",
}

log = structlog.get_logger()


@web.middleware
async def report_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return whatever is raised as a problem document; as a page where that was requested."""
    try:
        return await handler(request)
    except Problem as raised:
        problem = raised
    except web.HTTPException as error:
        problem = _from_aiohttp(error)
    except StoreError as error:
        problem = from_store(error)
    except Exception:  # a bug in one request must not end the daemon
        request_id, resource = token_hex(4), request.match_info.route.resource
        route = resource.canonical if resource else ""
        log.exception(
            "api.request_failed", method=request.method, route=route, request_id=request_id
        )
        detail = f"the log of the daemon has the cause, with request_id {request_id}"
        problem = Problem("internal-error", detail)
    return await problem_page(request, problem) if is_page(request) else _response(problem)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every response has."""
    caching = response.headers.get("Cache-Control", HEADERS["Cache-Control"])
    response.headers.update(HEADERS | {"Cache-Control": caching})


async def add_proof(request: web.Request, response: web.StreamResponse) -> None:
    """Add the proof that a client has requested."""
    key, challenge = request.app[CONTEXT].status.instance_key, request.headers.get(CHALLENGE)
    if key and challenge:
        response.headers[PROOF] = proof(key, challenge)


def _response(problem: Problem) -> web.Response:
    document = problem.document
    return web.Response(
        text=json.dumps(document.model_dump(exclude_defaults=True)),
        status=document.status,
        headers=problem.headers,
        content_type=PROBLEM_JSON,
    )


def _from_aiohttp(error: web.HTTPException) -> Problem:
    allow = error.headers.get("Allow")
    headers = {"Allow": allow} if allow else {}
    return Problem(KIND_BY_STATUS.get(error.status, "invalid"), error.reason, headers=headers)
