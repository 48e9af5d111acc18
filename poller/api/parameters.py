"""Strict parsing of queries, paths and bodies: unknown input is rejected, never ignored."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import anyio
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError
from typing_extensions import TypeAliasType

from poller.api.models import StrictModel
from poller.api.problems import InvalidInput, Problem
from poller.store.pagination import Cursor

BODY_TIMEOUT: Final = 10.0
"""Seconds within which a body must arrive."""
MAX_PAGE_ROWS: Final = 100
RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)
EPOCH_SECONDS: Final = r"[0-9]{1,12}(\.[0-9]{1,9})?"

MESSAGES: Final = {
    "extra_forbidden": "is unknown",
    "missing": "is required",
    "string_pattern_mismatch": "has the wrong format",
    "too_short": "must not be empty",
    "too_long": "has too many items",
}
"""Messages in place of pydantic's, by the type of the error."""

Model = TypeVar("Model", bound=BaseModel)


def _check_rfc3339(text: object) -> object:
    if not isinstance(text, str) or not RFC3339.fullmatch(text):
        raise ValueError("must be a time such as 2024-01-15T10:30:00Z")
    return text


Timestamp = Annotated[AwareDatetime, BeforeValidator(_check_rfc3339)]
CURSOR_TEXT: Final = "`next_cursor` of the previous page"
JobsCursor = TypeAliasType(
    "JobsCursor",
    Annotated[str, Field(pattern=rf"^{EPOCH_SECONDS}_[A-Za-z0-9._-]{{1,128}}$")],
)
EventsCursor = TypeAliasType(
    "EventsCursor", Annotated[str, Field(pattern=rf"^{EPOCH_SECONDS}_[0-9]{{1,15}}$")]
)


class PageQuery(StrictModel):
    """The parameters of every list."""

    limit: int = Field(50, ge=1, le=MAX_PAGE_ROWS, description="Maximum number of rows")
    since: Timestamp | None = Field(
        None, description="Only rows that changed or were recorded at or after this time"
    )

    @property
    def start(self) -> float:
        """`since` as seconds since 1970."""
        return self.since.timestamp() if self.since else 0.0


def format_cursor(cursor: Cursor | None) -> str | None:
    """Return the end of a page as `cursor` of the next one; None at the last page."""
    return f"{cursor[0]}_{cursor[1]}" if cursor else None


def parse_cursor(text: str | None, key: Callable[[str], str | int]) -> Cursor | None:
    """Return the place after which a page begins."""
    if text is None:
        return None
    seconds, _, row_key = text.partition("_")
    return float(seconds), key(row_key)


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Return the query. Raises Problem."""
    query = request.query
    if len(query) > len(set(query)):
        raise Problem("invalid", "query: a parameter is repeated")
    return _validate(model, "query", dict(query))


def read_path(request: web.Request, model: type[Model]) -> Model:
    """Return the variable parts of the path. Raises Problem."""
    return _validate(model, "path", dict(request.match_info))


def reject_body(request: web.Request) -> None:
    """Raise Problem if there is a body: it may have been meant to limit the request."""
    if request.body_exists:
        raise Problem("invalid", "body: must be empty; use query parameters")


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """Return the JSON body. Raises Problem."""
    try:
        with anyio.fail_after(BODY_TIMEOUT):
            text = await request.read()
    except TimeoutError:
        raise Problem("request-timeout", f"no complete body within {BODY_TIMEOUT:g} s") from None
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _problem(error, "body") from None


def _validate(model: type[Model], where: str, values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(error, where) from None


def _problem(error: ValidationError, where: str) -> Problem:
    errors = [
        InvalidInput(where="/".join([where, *map(str, found["loc"])]), detail=_message(found))
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return Problem("invalid", f"{errors[0].where}: {errors[0].detail}", errors=errors)


def _message(error: Mapping[str, Any]) -> str:
    text: str = MESSAGES.get(error["type"], error["msg"])
    return text.removeprefix("Value error, ").replace("Input should", "must")
