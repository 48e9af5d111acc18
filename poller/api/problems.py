"""Problem documents (RFC 9457): the types of errors that the API reports."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from pydantic import Field

from poller.api.models import ResponseModel
from poller.core.errors import NoMatch, PollerError, StoreError

DOCS_URL: Final = "https://github.com/sutro-poller/sutro-poller/blob/main/docs/http-api.md#problem-"
RETRY_AFTER_SECONDS: Final = 5


class ProblemType(NamedTuple):
    """The HTTP status and the title of a type of problems."""

    status: int
    title: str


PROBLEM_TYPES: Final = {
    "invalid": ProblemType(400, "Invalid request"),
    "unauthorized": ProblemType(401, "Unauthorized"),
    "forbidden": ProblemType(403, "Forbidden"),
    "cross-origin": ProblemType(403, "Cross-origin request rejected"),
    "not-found": ProblemType(404, "Not found"),
    "method-not-allowed": ProblemType(405, "Method not allowed"),
    "request-timeout": ProblemType(408, "Request timeout"),
    "managed-by-config": ProblemType(409, "Job is managed by the configuration"),
    "conflict": ProblemType(409, "Conflict"),
    "too-large": ProblemType(413, "Request body too large"),
    "unsupported-media-type": ProblemType(415, "Unsupported media type"),
    "unknown-host": ProblemType(421, "Unknown host name"),
    "internal-error": ProblemType(500, "Internal error"),
    "not-ready": ProblemType(503, "Daemon not ready"),
    "store-unavailable": ProblemType(503, "Store unavailable"),
    "overloaded": ProblemType(503, "Too many requests at once"),
    "too-many-streams": ProblemType(503, "Too many streams"),
}


class InvalidInput(ResponseModel):
    """One invalid place of a request."""

    where: str
    detail: str


class ProblemDocument(ResponseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(json_schema_extra={"format": "uri"})
    title: str
    status: int
    detail: str
    errors: Sequence[InvalidInput] = ()

    @property
    def http_status(self) -> int:
        """The status of the problem."""
        return self.status


class Problem(PollerError):
    """A reason to reject a request. `kind` is a key of PROBLEM_TYPES."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[InvalidInput] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        status, title = PROBLEM_TYPES[kind]
        self.document = ProblemDocument(
            type=DOCS_URL + kind, title=title, status=status, detail=detail, errors=errors
        )
        is_temporary = status == HTTPStatus.SERVICE_UNAVAILABLE
        retry_after = {"Retry-After": str(RETRY_AFTER_SECONDS)} if is_temporary else {}
        self.headers = {**(headers or {}), **retry_after}


def from_store(error: StoreError) -> Problem:
    """Return the problem of an error of the store."""
    return Problem("not-found" if isinstance(error, NoMatch) else "store-unavailable", str(error))
