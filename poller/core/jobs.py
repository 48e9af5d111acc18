"""What the API said about a job, as values.

`parse_job` is lenient on purpose: a job whose optional field is odd is still a job whose end
somebody waits for. Only `job_id` and `status` are essential; any other field of a wrong type
becomes null and is named in `Job.wrong_fields`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

JOB_ID_PATTERN: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")
"""What may stand in a URL path as a job id: nothing that could lead to another path."""


class JobStatus(StrEnum):
    """The life of a job, earliest first: words of the API, each with its rank.

    A job never goes back to a lower rank, and the highest is that of its ends.
    """

    rank: int

    UNKNOWN = "UNKNOWN", 0
    SUBMITTED = "SUBMITTED", 1
    PENDING = "PENDING", 1
    QUEUED = "QUEUED", 2
    STARTING = "STARTING", 3
    RUNNING = "RUNNING", 4
    CANCELLING = "CANCELLING", 5
    SUCCEEDED = "SUCCEEDED", 6
    FAILED = "FAILED", 6
    CANCELLED = "CANCELLED", 6

    def __new__(cls, word: str, rank: int = 0) -> Self:
        """Make a word that knows its rank."""
        status = str.__new__(cls, word)
        status._value_, status.rank = word, rank
        return status

    @property
    def is_terminal(self) -> bool:
        """Whether a job that has this status has ended. CANCELLING is not an end."""
        return self.rank == TERMINAL_RANK


TERMINAL_RANK: Final = JobStatus.SUCCEEDED.rank
TERMINAL_STATUSES: Final = frozenset(status for status in JobStatus if status.is_terminal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job object, cleaned. Times are aware UTC, costs are US dollars, null is None."""

    job_id: str
    status: JobStatus
    raw_status: str | None = None
    name: str | None = None
    description: str | None = None
    model: str | None = None
    job_priority: int | None = None
    dataset_id: str | None = None
    num_rows: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    job_cost: float | None = None
    cost_estimate: float | None = None
    failure_reason: Mapping[str, Any] | None = None
    datetime_created: datetime | None = None
    datetime_started: datetime | None = None
    datetime_completed: datetime | None = None
    invalid_fields: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether the API has written all that it will write about the end of this job."""
        return self.job_cost is not None and self.datetime_completed is not None

    @property
    def queue_seconds(self) -> float | None:
        """How long the job waited to run, where the API gives both times."""
        return _seconds(self.datetime_created, self.datetime_started)

    @property
    def run_seconds(self) -> float | None:
        """How long the job ran, where the API gives both times."""
        return _seconds(self.datetime_started, self.datetime_completed)

    def as_dict(self) -> dict[str, Any]:
        """Give the job under the API's own names, ready for JSON; `parse_job` reads it back."""
        status = self.raw_status or self.status.value
        return {"job_id": self.job_id} | {
            name: status if name == "status" else _to_json(getattr(self, name))
            for name in EVENT_FIELDS
        }


EVENT_FIELDS: Final = (
    "name",
    "description",
    "model",
    "status",
    "job_priority",
    "dataset_id",
    "num_rows",
    "input_tokens",
    "output_tokens",
    "job_cost",
    "cost_estimate",
    "failure_reason",
    "datetime_created",
    "datetime_started",
    "datetime_completed",
)
"""The fields of a job that events carry after `job_id`, in order. Prompts and schemas stay out."""


def format_rfc3339(moment: datetime) -> str:
    """Write an aware UTC moment as RFC 3339, with as many digits of a second as it has."""
    spec = (
        "auto" if moment.microsecond % 1000 else "milliseconds" if moment.microsecond else "seconds"
    )
    return moment.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def is_job_id(text: str) -> bool:
    """Tell whether a text can be a job id: `[A-Za-z0-9._-]{1,128}`, and neither `.` nor `..`."""
    return JOB_ID_PATTERN.fullmatch(text) is not None


def is_unchanged(raw: Mapping[str, Any], job: Job) -> bool:
    """Tell whether an object of the API shows a job as it is known, and not at its end.

    Whatever else has changed of it, nobody asks for before it moves on.
    """
    return (
        raw.get("status") == job.status
        and not job.status.is_terminal
        and (job.datetime_completed or raw.get("datetime_completed")) is None
        and (job.datetime_started is None) is (raw.get("datetime_started") is None)
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end and end >= start else None


def _to_json(value: object) -> object:
    return format_rfc3339(value) if isinstance(value, datetime) else value
