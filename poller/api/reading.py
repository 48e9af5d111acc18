"""What a request says, read strictly: what is not understood is not passed over."""

import base64
import json
from typing import Annotated, Any, Final, TypeVar

import anyio
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from poller.api.problems import Problem
from poller.jobs import is_job_id
from poller.store.pages import Place

BODY_SECONDS: Final = 10.0
MOST: Final = 100

Model = TypeVar("Model", bound=BaseModel)


def _job_id(text: object) -> object:
    if isinstance(text, str) and not is_job_id(text):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ -, and neither . nor ..")
    return text


def _place(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        place, key = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
        return float(place), key if isinstance(key, str) else int(key)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("must be the next_cursor of a page") from None


JobId = Annotated[str, BeforeValidator(_job_id)]
Cursor = Annotated[tuple[float, str | int], BeforeValidator(_place)]


class Strict(BaseModel):
    """What a request may say; anything else in it is a problem."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Paged(Strict):
    """Which page is wanted, and from when on."""

    limit: int = Field(50, ge=1, le=MOST)
    cursor: Cursor | None = None
    since: AwareDatetime | None = None

    @property
    def start(self) -> float:
        """The first second that counts, since 1970."""
        return self.since.timestamp() if self.since else 0.0


def write_cursor(place: Place | None) -> str | None:
    """Write where a page ends, for `cursor` of the next; None at the end of all."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Read the query. Raises Problem."""
    query = request.query
    if len(query) > len(set(query)):
        raise Problem("invalid", "each parameter may be given once")
    return _read(model, "query", dict(query))


def read_path(request: web.Request, model: type[Model]) -> Model:
    """Read the variable parts of the path. Raises Problem."""
    return _read(model, "path", dict(request.match_info))


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """Read a body in JSON, which has to come soon. Raises Problem."""
    try:
        with anyio.fail_after(BODY_SECONDS):
            text = await request.read()
    except TimeoutError:
        raise Problem("too-slow", f"it may take {BODY_SECONDS:g} s") from None
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
        {"where": "/".join([where, *map(str, it["loc"])]), "detail": _rule(it["msg"])}
        for it in details
    ]
    return Problem("invalid", f"{errors[0]['where']}: {errors[0]['detail']}", errors=errors)


def _rule(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
