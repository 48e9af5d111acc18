"""Validated requests to the simulator."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, TypeVar

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

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


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", coerce_numbers_to_str=True),
)
class Fault:
    """The response to the next `count` API requests, of one kind (`path`) or of any.

    `retry_after` is sent as it is: seconds, an HTTP-date, or junk.
    """

    status: Annotated[int, Field(ge=400, le=599)]
    count: Annotated[int, Field(ge=1)] = 1
    retry_after: Annotated[str, Field(pattern="^[ -~]+$")] | None = None
    path: Kind | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class KeyChange:
    """The only API key that is accepted from now on."""

    key: Annotated[str, Field(min_length=1)]


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


@contextmanager
def _validation() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        problems = [
            ".".join(map(str, problem["loc"])) + ": " + problem["msg"] for problem in error.errors()
        ]
        text = json.dumps({"message": "; ".join(problems).removeprefix(": ")})
        raise web.HTTPUnprocessableEntity(text=text, content_type="application/json") from None
