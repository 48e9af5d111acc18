"""An operation of the API: its route, its handler, and the models that it is documented by."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from poller.api.context import ApiContext
from poller.api.models import ResponseModel, StrictModel
from poller.api.parameters import read_body, read_path, read_query, reject_body

CONTEXT: Final = web.AppKey("CONTEXT", ApiContext)
PUBLIC_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/version"})
"""Served without a token and for any host name. Their queries are ignored."""

Result = ResponseModel | web.StreamResponse | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation.

    `handler` takes the context and, by the names of its parameters, the request, or the models of
    its `path`, `query` and `body`. `problems` are the types that only some operations raise.
    """

    route: str
    name: str
    handler: Callable[..., Awaitable[Result]]
    summary: str
    description: str = ""
    problems: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path, with the names of its variable parts."""
        return self.route.partition(" ")[2]

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
        arguments = await self._arguments(request)
        result = await self.handler(request.app[CONTEXT], **arguments)
        if isinstance(result, web.StreamResponse):
            return result
        if result is None:
            return web.Response(status=204)
        return web.json_response(result.model_dump(), status=result.http_status)

    async def _arguments(self, request: web.Request) -> dict[str, Any]:
        models = self.models
        arguments: dict[str, Any] = {}
        if "request" in models:
            arguments["request"] = request
        if self.is_public:
            return arguments
        query = read_query(request, models.get("query", StrictModel))
        if "query" in models:
            arguments["query"] = query
        if "path" in models:
            arguments["path"] = read_path(request, models["path"])
        if "body" in models:
            arguments["body"] = await read_body(request, models["body"])
        else:
            reject_body(request)
        return arguments
