"""Jobs and their statuses, as values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard

from poller.core.job_status import JobStatus

JOB_ID_CHARS: Final = r"[!#-&(-+\--~]{1,256}"
JOB_ID_PATTERN: Final = re.compile(rf"(?!\.{{1,2}}\Z){JOB_ID_CHARS}")
"""Valid job ids: the API says only that they are texts.

A space, a comma or a quote in what a user names is a mistake; `.` and `..` change a URL's path.
"""
JOB_ID_RULE: Final = (
    "a job ID has 1 to 256 printable ASCII characters, but no space, comma or quote"
)

EARLIEST_CREATION: Final = datetime(2020, 1, 1, tzinfo=UTC)
CLOCK_TOLERANCE: Final = timedelta(days=1)
"""How far ahead of the API's clock one of its times may be."""

PROMISED_FIELDS: Final = ("datetime_completed", "job_cost", "input_tokens", "output_tokens")
"""The fields that the API adds to every job that has ended, some of them later than the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job object of the API, validated by `parse_job`.

    Times are aware UTC, costs are US dollars. `raw_status` is the API's own text of a status that
    is not known, `invalid_fields` the fields that had a wrong type and are None.
    """

    job_id: str
    name: str | None = None
    description: str | None = None
    model: str | None = None
    status: JobStatus
    raw_status: str | None = None
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
    def missing_fields(self) -> tuple[str, ...]:
        """The fields that the API adds to a job that has ended, and has not added yet."""
        reason = ("failure_reason",) if self.status is JobStatus.FAILED else ()
        return tuple(name for name in PROMISED_FIELDS + reason if getattr(self, name) is None)

    @property
    def is_final(self) -> bool:
        """Return whether the API has added all that belongs to the end of this job."""
        return not self.missing_fields

    def with_fields_of(self, known: "Job | None") -> "Job":
        """Return the job with missing fields as an earlier object had them: a list may lag."""
        if known is None or known.status is not self.status:
            return self
        values = {name: getattr(known, name) for name in self.missing_fields}
        found = {name: value for name, value in values.items() if value is not None}
        return replace(self, **found) if found else self

    @property
    def queue_seconds(self) -> float | None:
        """The seconds that the job waited to start; None without both times."""
        return _seconds(self.datetime_created, self.datetime_started)

    @property
    def run_seconds(self) -> float | None:
        """The seconds that the job ran; None without both times."""
        return _seconds(self.datetime_started, self.datetime_completed)

    def as_dict(self) -> dict[str, Any]:
        """Return the job as JSON values with the API's field names; `parse_job` accepts it."""
        status = self.raw_status or self.status.value
        return {"job_id": self.job_id} | {
            name: status if name == "status" else _to_json(getattr(self, name))
            for name in EVENT_FIELDS
        }


EVENT_FIELDS: Final = tuple(
    column.name
    for column in fields(Job)
    if column.name not in {"job_id", "raw_status", "invalid_fields"}
)
"""The fields of a job in an event after `job_id`, in order: no prompts, no output schemas."""


def aware(moment: datetime) -> datetime:
    """Return a moment with its zone, which is UTC if it names none."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def is_plausible(created: datetime | None, now: datetime) -> TypeGuard[datetime]:
    """Return whether a time of the API can be believed; a wrong clock writes others than these."""
    return created is not None and EARLIEST_CREATION <= created <= now + CLOCK_TOLERANCE


def format_rfc3339(moment: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, with no more digits of a second than needed."""
    spec = "milliseconds" if moment.microsecond else "seconds"
    if moment.microsecond % 1000:
        spec = "microseconds"
    return moment.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def is_job_id(text: str) -> bool:
    """Return whether a text is a valid job id, by JOB_ID_PATTERN."""
    return JOB_ID_PATTERN.fullmatch(text) is not None


def is_unchanged(raw: Mapping[str, Any], job: Job) -> bool:
    """Return whether an API object has no change over an unfinished `job`.

    Other fields matter only when the status or one of these times changes.
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
