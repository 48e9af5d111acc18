"""The page of one job: its fields, and a timeline of what happened, with the deliveries."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from poller.api.page import text
from poller.api.page.rows import DeliveryRow, JobRow, job_of, tokens_of
from poller.api.page.text import ShownTime
from poller.api.problems import Problem
from poller.core.duration_history import DurationHistory
from poller.core.events import TIMESTAMPED_BY_API, checksum
from poller.core.jobs import Job
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter, Row
from poller.store.overview import events_of_job
from poller.store.pagination import deliveries_page, jobs_page

MAX_EVENTS: Final = 100
MAX_DELIVERIES: Final = 200
API_TIMES: Final = (
    ("Created", "datetime_created"),
    ("Started", "datetime_started"),
    ("Ended", "datetime_completed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a timeline: a time of the API, or an event with its deliveries."""

    title: str
    at: ShownTime
    tone: str = "plain"
    note: str = ""
    event_id: str = ""
    deliveries: Sequence[DeliveryRow] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job with all that is known about it."""

    row: JobRow
    full_name: str
    description: str
    failure: str
    facts: Sequence[tuple[str, str]]
    steps: Sequence[Step]


def read_job(
    admin: StoreAdmin,
    job_id: str,
    unseen: Collection[str],
    now: datetime,
    history: DurationHistory,
) -> JobView:
    """Read a job, its events and its deliveries. Raises Problem."""
    found = jobs_page(admin, EventFilter(job=job_id, limit=1), unseen=unseen).rows
    if not found:
        raise Problem("not-found", "no job with this ID is or was watched")
    row, job = found[0], job_of(found[0])
    return JobView(
        row=JobRow.of(row, now, history),
        full_name=job.name or "",
        description=job.description or "",
        failure=_failure(job),
        facts=[(name, value) for name, value in _facts(row, job).items() if value],
        steps=sorted(_times(job, now) + _events(admin, job_id, now), key=_order),
    )


def _facts(row: Row, job: Job) -> dict[str, str]:
    missing = job.missing_fields if job.status.is_terminal else ()
    return {
        "Job ID": row["job_id"],
        "Deployment": row["deployment"] or "",
        "Model": job.model or "",
        "Status of the API": job.raw_status or "",
        "Priority": text.count(job.job_priority),
        "Dataset": job.dataset_id or "",
        "Rows": text.count(job.num_rows),
        "Tokens": ", ".join(tokens_of(job)),
        "Cost": text.cost(job.job_cost),
        "Cost estimate": text.cost(job.cost_estimate),
        "Waited": text.duration(job.queue_seconds),
        "Ran": text.duration(job.run_seconds),
        "Not in the response yet": ", ".join(missing),
        "Invalid in the response": ", ".join(job.invalid_fields),
    }


def _failure(job: Job) -> str:
    """Return the whole failure reason."""
    if not job.failure_reason:
        return ""
    message = job.failure_reason.get("message")
    if isinstance(message, str) and len(job.failure_reason) == 1:
        return message
    return json.dumps(job.failure_reason, ensure_ascii=False, indent=2)


def _times(job: Job, now: datetime) -> list[Step]:
    """Return the times of the API."""
    times = ((title, text.moment(getattr(job, name), now)) for title, name in API_TIMES)
    return [Step(title=title, at=at, note="by the clock of the API") for title, at in times if at]


def _order(step: Step) -> datetime:
    return datetime.fromisoformat(step.at.iso)


def _events(admin: StoreAdmin, job_id: str, now: datetime) -> list[Step]:
    """Return the events of a job with their deliveries."""
    wanted = EventFilter(job=job_id, limit=MAX_DELIVERIES)
    deliveries = [DeliveryRow.of(row, now) for row in deliveries_page(admin, wanted).rows]
    steps = []
    for row in events_of_job(admin, job_id, MAX_EVENTS):
        at = text.moment(row["recorded"], now)
        assert at is not None
        steps.append(
            Step(
                title=row["type"],
                at=at,
                tone=text.tone(row["type"]),
                note=_lag(row),
                event_id=row["id"],
                deliveries=[delivery for delivery in deliveries if delivery.event_id == row["id"]],
            )
        )
    return steps


def _lag(row: Row) -> str:
    """Return how late an event was detected, if that is known."""
    if row["type"] not in TIMESTAMPED_BY_API or checksum(row["body"]) != row["digest"]:
        return ""
    detection: dict[str, Any] = json.loads(row["body"])["data"].get("detection") or {}
    lag, most = detection.get("lag_seconds"), detection.get("lag_max_seconds")
    if lag is None:
        return ""
    bound = "" if most is None else f", at most {text.duration(most)}"
    return f"detected {text.duration(lag)} after the change{bound}"
