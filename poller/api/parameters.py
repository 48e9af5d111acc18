"""What a request says, read strictly: what is not understood is not passed over."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import anyio
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from poller.api.problems import Problem
from poller.core.jobs import is_job_id
from poller.store.pagination import Cursor

BODY_SECONDS: Final = 10.0
RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)
MOMENT: Final = r"[0-9]{1,12}(\.[0-9]{1,9})?"
"""Seconds since 1970."""
MAX_PAGE_ROWS: Final = 100

RULES: Final = {
    "extra_forbidden": "is not known here",
    "missing": "is required",
    "string_pattern_mismatch": "is not of the right form",
    "too_short": "must not be empty",
    "too_long": "has too many",
}
"""What is said where the library's own words are for programmers, by the type of the error."""

Model = TypeVar("Model", bound=BaseModel)


def _job_id(text: object) -> object:
    if isinstance(text, str) and not is_job_id(text):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ -, and neither . nor ..")
    return text


def _rfc3339(text: object) -> object:
    if not isinstance(text, str) or not RFC3339.fullmatch(text):
        raise ValueError("must be a time such as 2024-01-15T10:30:00Z")
    return text


JobId = Annotated[str, BeforeValidator(_job_id)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_rfc3339)]
JobsCursor = Annotated[str, Field(pattern=rf"^{MOMENT}_[A-Za-z0-9._-]{{1,128}}$")]
EventsCursor = Annotated[str, Field(pattern=rf"^{MOMENT}_[0-9]{{1,15}}$")]


class StrictModel(BaseModel):
    """What a request may say; anything else in it is a problem."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PageQuery(StrictModel):
    """Which page is wanted, and from when on."""

    limit: int = Field(50, ge=1, le=MAX_PAGE_ROWS)
    since: Timestamp | None = None

    @property
    def start(self) -> float:
        """The first second that counts, since 1970."""
        return self.since.timestamp() if self.since else 0.0


def write_cursor(place: Cursor | None) -> str | None:
    """Write where a page ends, for `cursor` of the next; None at the end of all."""
    return f"{place[0]}_{place[1]}" if place else None


def read_cursor(cursor: str | None, key: Callable[[str], str | int]) -> Cursor | None:
    """Read where a page is to begin."""
    if cursor is None:
        return None
    moment, _, text = cursor.partition("_")
    return float(moment), key(text)


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Read the query. Raises Problem."""
    query = request.query
    if len(query) > len(set(query)):
        raise Problem("invalid", "each parameter may be given once")
    return _read(model, "query", dict(query))


def read_path(request: web.Request, model: type[Model]) -> Model:
    """Read the variable parts of the path. Raises Problem."""
    return _read(model, "path", dict(request.match_info))


def reject_body(request: web.Request) -> None:
    """Pass over no body where none is read. Raises Problem."""
    if request.body_exists:
        raise Problem("invalid", "no body is read here: what is wanted stands in the query")


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """Read a body in JSON, which has to come soon. Raises Problem."""
    try:
        with anyio.fail_after(BODY_SECONDS):
            text = await request.read()
    except TimeoutError:
        raise Problem("request-timeout", f"it may take {BODY_SECONDS:g} s") from None
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _problem(error, "body") from None


def _read(model: type[Model], where: str, values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(error, where) from None


def _problem(error: ValidationError, where: str) -> Problem:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        {"where": "/".join([where, *map(str, it["loc"])]), "detail": _rule(it)} for it in details
    ]
    return Problem("invalid", f"{errors[0]['where']}: {errors[0]['detail']}", errors=errors)


def _rule(error: Mapping[str, Any]) -> str:
    words: str = RULES.get(error["type"], error["msg"])
    return words.removeprefix("Value error, ").replace("Input should", "must")
