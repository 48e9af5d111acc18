"""Write poller/api/openapi.json from the table of operations and the models of their handlers."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from poller.api.endpoint import Endpoint
from poller.api.health import Liveness, Readiness
from poller.api.models import ResponseModel
from poller.api.problems import PROBLEM_TYPES, ProblemDocument
from poller.api.routes import ENDPOINTS

Node = dict[str, Any]

SCHEMAS: Final = "#/components/schemas/"
RESPONSES: Final = "#/components/responses/"
PATH_PART: Final = re.compile(r"{(\w+)}")
HEAD: Final[Node] = {
    "openapi": "3.1.0",
    "info": {
        "title": "sutro-poller",
        "version": "1",
        "summary": "HTTP API of a running daemon",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        "description": "Probes, metrics and the version are served to anyone who can connect. The"
        " rest requires `POLLER_LISTEN_TOKEN` if that is set, and is not served without it on"
        " addresses other than loopback and unix sockets. Errors are problem documents (RFC 9457)."
        " Unknown parameters and fields are rejected.",
    },
    "servers": [{"url": "/"}],
    "security": [{"token": []}],
    "tags": [{"name": name} for name in ("probes", "daemon", "jobs", "events", "sinks")],
}
COMMON_PROBLEMS: Final = (
    *("invalid", "unauthorized", "forbidden", "cross-origin", "unknown-host"),
    *("not-ready", "store-unavailable", "overloaded"),
)
BODY_PROBLEMS: Final = ("request-timeout", "too-large", "unsupported-media-type")

TEXTS: Final = {
    "metrics": ("text/plain", "application/openmetrics-text"),
    "streamEvents": ("text/event-stream",),
}
"""The content types of the operations that return text."""

LAST_EVENT_ID: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "As `after`, which it overrides; browsers send it when they reconnect",
    "schema": {"type": "string"},
}
HEADER_PARAMETERS: Final = {"streamEvents": [LAST_EVENT_ID]}

LINKS: Final = {
    "listJobs": ("job_id", "/jobs/0/job_id", ("showJob", "removeJob", "explainJob")),
    "listEvents": ("event_id", "/events/0/id", ("showEvent", "replayEvent")),
    "listSinks": ("name", "/sinks/0/sink", ("enableSink", "testSink")),
}
"""The operations that take an id of a response, with the name and the place of the id."""

PROBLEM_HEADERS: Final = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    503: {
        "Retry-After": {
            "required": True,
            "description": "Seconds",
            "schema": {"type": "integer"},
        }
    },
}


class _Schema(GenerateJsonSchema):
    """A JSON schema without the titles that pydantic makes of names."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def generate(self, *args: Any, **options: Any) -> JsonSchemaValue:
        schema = super().generate(*args, **options)
        for part in (schema, *schema.get("$defs", {}).values()):
            part.pop("title", None)
        return schema


class Document:
    """The OpenAPI document. Schemas are added as operations refer to them."""

    def __init__(self) -> None:
        self._schemas: Node = {}
        self._problems: dict[int, set[str]] = {}

    def text(self) -> str:
        """Return the whole document."""
        paths: Node = {}
        for endpoint in ENDPOINTS:
            path = paths.setdefault(endpoint.path, {})
            path[endpoint.method.lower()] = self._operation(endpoint)
        problem = {"application/problem+json": {"schema": self._reference(ProblemDocument)}}
        components = {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                _response_name(status): _problem_response(status, kinds, problem)
                for status, kinds in sorted(self._problems.items())
            },
            "schemas": dict(sorted(self._schemas.items())),
        }
        return json.dumps(HEAD | {"paths": paths, "components": components}, indent=1) + "\n"

    def _operation(self, endpoint: Endpoint) -> Node:
        operation: Node = {
            "operationId": _operation_id(endpoint),
            "tags": [_tag(endpoint)],
            "summary": _summary(endpoint),
        }
        if description := _documentation(endpoint)[2]:
            operation["description"] = description.replace("\n", " ")
        if endpoint.is_public:
            operation["security"] = []
        if parameters := [*self._parameters(endpoint)]:
            operation["parameters"] = parameters
        if body := endpoint.models.get("body"):
            operation["requestBody"] = {"required": True, "content": self._content(body)}
        return operation | {"responses": self._responses(endpoint)}

    def _parameters(self, endpoint: Endpoint) -> Iterator[Node]:
        names = PATH_PART.findall(endpoint.path)
        path = create_model("Path", **{name: (endpoint.models[name], ...) for name in names})
        for place, model in (("path", path), ("query", endpoint.models.get("query"))):
            if model:
                schema = self._schema(model)
                for name, found in schema.get("properties", {}).items():
                    yield _parameter(
                        name, place, found, is_required=name in schema.get("required", ())
                    )
        yield from HEADER_PARAMETERS.get(_operation_id(endpoint), ())

    def _responses(self, endpoint: Endpoint) -> Node:
        responses = {}
        model = endpoint.models["return"]
        if model is None:
            responses["204"] = {"description": "Done"}
        else:
            responses["200"] = self._success(endpoint, model)
        if model in {Liveness, Readiness}:
            responses["503"] = {"description": "The probe fails", "content": self._content(model)}
        kinds = () if endpoint.is_public else (*COMMON_PROBLEMS, *endpoint.problems)
        if "body" in endpoint.models:
            kinds = (*kinds, *BODY_PROBLEMS)
        for status in sorted({PROBLEM_TYPES[kind].status for kind in kinds}):
            responses[str(status)] = {"$ref": RESPONSES + _response_name(status)}
        for kind in kinds:
            self._problems.setdefault(PROBLEM_TYPES[kind].status, set()).add(kind)
        return responses

    def _success(self, endpoint: Endpoint, model: type[Any]) -> Node:
        name = _operation_id(endpoint)
        response: Node = {"description": _summary(endpoint), "content": {}}
        if issubclass(model, ResponseModel):
            response = {"description": model.__doc__, "content": self._content(model)}
        elif texts := TEXTS.get(name):
            response["content"] = {kind: {"schema": {"type": "string"}} for kind in texts}
        else:
            response["content"] = {"application/json": {"schema": {"type": "object"}}}
        if name in LINKS:
            parameter, place, operations = LINKS[name]
            link = {"parameters": {parameter: f"$response.body#{place}"}}
            response["links"] = {target: {"operationId": target} | link for target in operations}
        return response

    def _content(self, model: type[BaseModel]) -> Node:
        return {"application/json": {"schema": self._reference(model)}}

    def _reference(self, model: type[BaseModel]) -> Node:
        self._schemas[model.__name__] = self._schema(model)
        return {"$ref": SCHEMAS + model.__name__}

    def _schema(self, model: type[BaseModel]) -> Node:
        """Return the schema of a model, and keep those that it refers to."""
        schema = model.model_json_schema(ref_template=SCHEMAS + "{model}", schema_generator=_Schema)
        self._schemas |= schema.pop("$defs", {})
        return schema


def _operation_id(endpoint: Endpoint) -> str:
    """Return the name of the handler in camel case."""
    first, *others = endpoint.handler.__name__.split("_")
    return first + "".join(word.capitalize() for word in others)


def _summary(endpoint: Endpoint) -> str:
    return _documentation(endpoint)[0].removesuffix(".")


def _documentation(endpoint: Endpoint) -> tuple[str, str, str]:
    """Return the first line of the handler's docstring, a separator, and the rest."""
    return (inspect.getdoc(endpoint.handler) or "").partition("\n\n")


def _tag(endpoint: Endpoint) -> str:
    if endpoint.is_public:
        return "probes"
    *_, tag = endpoint.path.split("/")[:3]
    return tag if tag in {"jobs", "events", "sinks"} else "daemon"


def _parameter(name: str, place: str, schema: Node, *, is_required: bool) -> Node:
    parameter = {"name": name, "in": place}
    if is_required:
        parameter["required"] = True
    if description := schema.pop("description", None):
        parameter["description"] = description
    if "anyOf" in schema:  # a parameter can be left out, but not be null
        schema = schema["anyOf"][0]
    return parameter | {"schema": schema}


def _response_name(status: int) -> str:
    return f"Problem{status}"


def _problem_response(status: int, kinds: set[str], content: Node) -> Node:
    titles = [kind.title for name, kind in PROBLEM_TYPES.items() if name in kinds]
    response = {"description": "; ".join(titles), "content": content}
    if status in PROBLEM_HEADERS:
        response["headers"] = PROBLEM_HEADERS[status]
    return response
