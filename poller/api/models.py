"""The values that requests and responses share, and the base of each."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypeAliasType

from poller.core.jobs import JOB_ID_CHARS, JOB_ID_RULE, is_job_id
from poller.store.filters import Row
from poller.store.pagination import Cursor

MAX_PAGE_ROWS: Final = 100
RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)
EPOCH_SECONDS: Final = r"[0-9]{1,12}(\.[0-9]{1,24})?(e-[0-9]{1,3})?"
"""Any time as Python writes a float: one soon after 1970 has more decimals than one of today."""
EVENT_ID: Final = r"^evt_[a-z2-7]{52}$"
SINK_NAME: Final = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)?$"
JOB_ID_SCHEMA: Final = {"pattern": rf"^(?!\.{{1,2}}$){JOB_ID_CHARS}$"}


class StrictModel(BaseModel):
    """A part of a request; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class ResponseModel(BaseModel):
    """The body of a response."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def of_row(cls, row: Row, **others: object) -> Self:
        """Return a body with the columns of a row that it has, and with other values."""
        columns = {name: row[name] for name in cls.model_fields.keys() & row.keys()}
        return cls.model_validate(columns | others)

    @property
    def http_status(self) -> int:
        """The status of a response with this body."""
        return HTTPStatus.OK


def _check_job_id(text: object) -> object:
    if isinstance(text, str) and not is_job_id(text):
        raise ValueError(f"{JOB_ID_RULE}, and is neither . nor ..")
    return text


# Named, so that the OpenAPI document refers to them instead of repeating them.
JobId = TypeAliasType(
    "JobId",
    Annotated[
        str,
        BeforeValidator(_check_job_id),
        Field(examples=["job-12345"], json_schema_extra=JOB_ID_SCHEMA),
    ],
)
EventId = TypeAliasType("EventId", Annotated[str, Field(pattern=EVENT_ID)])
SinkName = TypeAliasType(
    "SinkName", Annotated[str, Field(pattern=SINK_NAME, examples=["webhook", "webhook.audit"])]
)
UtcTime = TypeAliasType("UtcTime", Annotated[str, Field(json_schema_extra={"format": "date-time"})])
Count = Annotated[int, Field(ge=0)]

JobState = TypeAliasType(
    "JobState",
    Literal[
        "UNKNOWN",
        "SUBMITTED",
        "PENDING",
        "QUEUED",
        "STARTING",
        "RUNNING",
        "CANCELLING",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "MISSING",
    ],
)
EventType = TypeAliasType(
    "EventType",
    Literal[
        "job.started",
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "job.settled",
        "job.missing",
        "job.found",
        "job.unrecognised",
        "job.overdue",
        "job.cost_over_estimate",
        "poller.auth_failed",
        "poller.auth_recovered",
        "poller.sink_disabled",
        "report.daily",
        "budget.crossed",
        "poller.test",
        "report.digest",
    ],
)
DeliveryStatus = TypeAliasType("DeliveryStatus", Literal["pending", "delivered", "dead"])
NextCursor = Annotated[
    str | None, Field(description="`cursor` of the next page; null on the last page")
]


def _check_rfc3339(text: object) -> object:
    if not isinstance(text, str) or not RFC3339.fullmatch(text):
        raise ValueError("must be a time such as 2024-01-15T10:30:00Z")
    return text


Timestamp = Annotated[AwareDatetime, BeforeValidator(_check_rfc3339)]
CURSOR_TEXT: Final = "`next_cursor` of the previous page"
JobsCursor = TypeAliasType(
    "JobsCursor",
    Annotated[str, Field(pattern=rf"^{EPOCH_SECONDS}_{JOB_ID_CHARS}$")],
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
