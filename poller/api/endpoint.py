"""An operation of the API: its route, its handler, and how its requests are read.

Unknown input is rejected, never ignored.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import anyio
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from poller.api.context import ApiContext
from poller.api.models import ResponseModel, StrictModel
from poller.api.problems import InvalidInput, Problem

CONTEXT: Final = web.AppKey("CONTEXT", ApiContext)
PUBLIC_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/version"})
"""Served without a token and for any host name. Their queries are ignored."""
BODY_TIMEOUT: Final = 10.0
"""Seconds within which a body must arrive."""
MAX_FORM_FIELDS: Final = 20
MESSAGES: Final = {
    "extra_forbidden": "is unknown",
    "missing": "is required",
    "string_pattern_mismatch": "has the wrong format",
    "too_short": "must not be empty",
    "too_long": "has too many items",
}
"""Messages in place of pydantic's, by the type of the error."""

Result = ResponseModel | web.StreamResponse | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation, which the docstring of its handler documents.

    `handler` takes the context and, by the names of its parameters, the request, the models of its
    `query` and of its `body` or `form`, and variable parts of the path. `problems` are the types
    that only some operations raise.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Result]]
    problems: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """Return whether anyone who can connect is served."""
        return self.path in PUBLIC_PATHS

    @property
    def models(self) -> dict[str, type[Any]]:
        """The types of the handler's parameters and, as `return`, of its result."""
        return self.handler.__annotations__

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Read the request, call the handler and return its result as a response."""
        arguments, context = await self._arguments(request), request.app[CONTEXT]
        # Not before: a client that sends no body must not keep others out.
        with nullcontext() if self.is_public else context.busy(request.protocol):
            result = await self.handler(context, **arguments)
        if isinstance(result, web.StreamResponse):
            return result
        if result is None:
            return web.Response(status=204)
        return web.json_response(result.model_dump(), status=result.http_status)

    async def _arguments(self, request: web.Request) -> dict[str, Any]:
        models = self.models
        arguments: dict[str, Any] = {"request": request}
        if not self.is_public:
            if len(request.query) > len(set(request.query)):
                raise Problem("invalid", "query: a parameter is repeated")
            with _reporting("query"):
                query = models.get("query", StrictModel)
                arguments["query"] = query.model_validate(dict(request.query))
            for name, text in request.match_info.items():
                with _reporting(f"path/{name}"):
                    arguments[name] = TypeAdapter(models[name]).validate_python(text)
            if "body" in models:
                body = await _read_body(request)
                with _reporting("body"):
                    arguments["body"] = models["body"].model_validate_json(body, strict=True)
            elif "form" in models:
                fields = _parse_form(await _read_body(request))
                with _reporting("form"):
                    arguments["form"] = models["form"].model_validate(fields)
            elif request.body_exists:  # it may have been meant to limit the request
                raise Problem("invalid", "body: must be empty; use query parameters")
        return {name: value for name, value in arguments.items() if name in models}


def _parse_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form that are not empty."""
    try:
        return dict(parse_qsl(body.decode(errors="replace"), max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise Problem("invalid", f"form: has more than {MAX_FORM_FIELDS} fields") from None


async def _read_body(request: web.Request) -> bytes:
    try:
        with anyio.fail_after(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise Problem("request-timeout", f"no complete body within {BODY_TIMEOUT:g} s") from None
    except (ConnectionError, web.RequestPayloadError):  # the client has gone, or cannot encode
        raise Problem("invalid", "body: is incomplete, or not encoded as its headers say") from None


@contextmanager
def _reporting(where: str) -> Iterator[None]:
    """Raise Problem for what is invalid in this part of a request."""
    try:
        yield
    except ValidationError as error:
        errors = [
            InvalidInput(where="/".join([where, *map(str, found["loc"])]), detail=_message(found))
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        detail = f"{errors[0].where}: {errors[0].detail}"
        raise Problem("invalid", detail, errors=errors) from None


def _message(error: Mapping[str, Any]) -> str:
    text: str = MESSAGES.get(error["type"], error["msg"])
    return text.removeprefix("Value error, ").replace("Input should", "must")
