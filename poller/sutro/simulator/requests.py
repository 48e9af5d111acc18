"""Validated requests to the simulator."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeVar

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from poller.sutro.simulator.script import JobScript

Form = TypeVar("Form")


def write_cursor(number: int) -> str:
    """Return the number of a page's last job as an opaque cursor."""
    return base64.urlsafe_b64encode(str(number).encode()).decode()


def _read_cursor(text: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(text))
    except ValueError:
        raise ValueError("this is no cursor of the API") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The query of a list request: at most `limit` jobs, with numbers below the `cursor`'s."""

    limit: Annotated[int, Field(ge=1, le=100)] | None = None
    cursor: Annotated[int, BeforeValidator(_read_cursor)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class KeyChange:
    """The only API key that is accepted from now on."""

    key: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The fields of a submission that the job object shows, as the official SDK sends them."""

    model: str
    inputs: Annotated[list[Any], Field(min_length=1)] | str
    name: str | None = None
    description: str | None = None
    job_priority: Annotated[int, Field(ge=0, le=1)] = 0
    system_prompt: str | None = None
    json_schema: dict[str, Any] | None = None
    sampling_params: dict[str, Any] | None = None

    @property
    def script_fields(self) -> dict[str, Any]:
        """The fields of the job's script; the rows of a file behind a URL are not counted."""
        rows = {"rows": len(self.inputs)} if isinstance(self.inputs, list) else {}
        return rows | {
            "model": self.model,
            "name": self.name,
            "description": self.description,
            "priority": self.job_priority,
            "system_prompt": self.system_prompt,
            "json_schema": self.json_schema,
            "sampling_params": self.sampling_params or {},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsQuery:
    """The job whose results are requested."""

    job_id: str


SCRIPT_HEADER: Final = "Simulator-Script"
OBJECT: Final = TypeAdapter(dict[str, Any])


def read_query(request: web.Request, form: Callable[..., Form]) -> Form:
    """Return a query string as a form. Raises the 422 that says what is wrong."""
    with _validation():
        return form(**dict(request.query))


async def read_body(request: web.Request, form: Callable[..., Form], **defaults: object) -> Form:
    """Return a JSON body as a form; empty means `{}`. Raises the 422 that says what is wrong."""
    body = await request.read() or b"{}"
    with _validation():
        return form(**defaults | OBJECT.validate_json(body))


def read_script_fields(text: str | bytes) -> dict[str, Any]:
    """Return fields of a script in JSON. Raises the 422 that says what is wrong."""
    with _validation():
        return script_fields(**OBJECT.validate_json(text))


def script_fields(**fields: Any) -> dict[str, Any]:
    """Return the fields. Raises ValidationError if no script can have them."""
    JobScript(**{"job_id": "any"} | fields)
    return fields


@contextmanager
def _validation() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        text = json.dumps({"message": describe(error)})
        raise web.HTTPUnprocessableEntity(text=text, content_type="application/json") from None


def describe(error: ValidationError) -> str:
    """Return the bad fields, each with its rule."""
    problems = (
        ".".join(map(str, problem["loc"])) + ": " + problem["msg"] for problem in error.errors()
    )
    return "; ".join(problems).removeprefix(": ")
