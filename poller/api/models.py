"""The values that requests and responses share, and the base of each."""

from http import HTTPStatus
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypeAliasType

from poller.core.jobs import is_job_id

EVENT_ID: Final = r"^evt_[a-z2-7]{52}$"
SINK_NAME: Final = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)?$"
JOB_ID_SCHEMA: Final = {"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$"}


class StrictModel(BaseModel):
    """A part of a request; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ResponseModel(BaseModel):
    """The body of a response."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def http_status(self) -> int:
        """The status of a response with this body."""
        return HTTPStatus.OK


def _check_job_id(text: object) -> object:
    if isinstance(text, str) and not is_job_id(text):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ -, and neither . nor ..")
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
        "job.cost_settled",
        "job.missing",
        "job.found",
        "job.unrecognised",
        "poller.auth_failed",
        "poller.auth_recovered",
        "poller.sink_disabled",
        "poller.test",
    ],
)
DeliveryStatus = TypeAliasType("DeliveryStatus", Literal["pending", "delivered", "dead"])
NextCursor = Annotated[
    str | None, Field(description="`cursor` of the next page; null on the last page")
]
