"""Validated requests to the simulator: each form is a dataclass with a type adapter."""

import base64
import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from poller.sutro.simulator.script import JobScript

Kind = Literal["jobs", "list-jobs", "job-status"]
"""The kind of an API request."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The response to the next `count` API requests, of one kind (`path`) or of any.

    `retry_after` is sent as it is: seconds, an HTTP-date, or junk.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", coerce_numbers_to_str=True
    )

    status: Annotated[int, Field(ge=400, le=599)]
    count: Annotated[int, Field(ge=1)] = 1
    retry_after: Annotated[str, Field(pattern="^[ -~]+$")] | None = None
    path: Kind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """The only API key that is accepted from now on."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1)]


OBJECT: Final = TypeAdapter(dict[str, Any])
SCRIPT: Final = TypeAdapter(JobScript)
PAGE: Final = TypeAdapter(Page)
FAULT: Final = TypeAdapter(Fault)
KEY_CHANGE: Final = TypeAdapter(KeyChange)


def read_query(request: web.Request, form: TypeAdapter[Form]) -> Form:
    """Return a query string as a form. Raises the 422 that says what is wrong."""
    return _check(form, dict(request.query))


async def read_body(request: web.Request, form: TypeAdapter[Form], **defaults: object) -> Form:
    """Return a JSON body as a form; empty means `{}`. Raises the 422 that says what is wrong."""
    body = await request.read() or b"{}"
    return _check(form, defaults | _check(OBJECT, body))


def _check(form: TypeAdapter[Form], given: dict[str, Any] | bytes) -> Form:
    try:
        return (
            form.validate_json(given) if isinstance(given, bytes) else form.validate_python(given)
        )
    except ValidationError as error:
        problems = [".".join(map(str, it["loc"])) + ": " + it["msg"] for it in error.errors()]
        text = json.dumps({"message": "; ".join(problems).removeprefix(": ")})
        raise web.HTTPUnprocessableEntity(text=text, content_type="application/json") from None
