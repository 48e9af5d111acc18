"""Sample events: realistic ones of every type, for tests of sinks and of receivers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from poller.core.budgets import BudgetKind, Period
from poller.core.daily_report import ReportPeriod, daily_report_event
from poller.core.detection_lag import Detection
from poller.core.durations import JobClass, Stage, UsualDuration
from poller.core.events import (
    DIGEST,
    DaemonEventType,
    Event,
    EventOrigin,
    daemon_event,
    digest_event,
    event_id,
    job_event,
)
from poller.core.job_status import JobStatus
from poller.core.jobs import format_rfc3339
from poller.core.overdue import Overdue
from poller.core.parsing import parse_job
from poller.core.state import EventDraft, JobEventType

SAMPLE_JOB: Final = {
    "job_id": "job-12345",
    "status": "SUCCEEDED",
    "model": "llama-3.3-70b",
    "name": "Product review sentiment",
    "input_tokens": 15_420,
    "output_tokens": 8_230,
    "num_rows": 50,
    "job_cost": 0.0234,
}
UNENDED: Final = {
    "status": "RUNNING",
    "datetime_completed": None,
    "output_tokens": None,
    "job_cost": None,
}
SAMPLE_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    JobEventType.STARTED: UNENDED,
    JobEventType.MISSING: UNENDED,
    JobEventType.FOUND: UNENDED,
    JobEventType.OVERDUE: UNENDED,
    JobEventType.UNRECOGNISED: UNENDED | {"status": "ARCHIVED"},
    JobEventType.FAILED: {
        "status": "FAILED",
        "failure_reason": {"message": "The model returned no output for 3 rows."},
    },
    JobEventType.CANCELLED: {"status": "CANCELLED"},
    JobEventType.COST_OVER_ESTIMATE: {"cost_estimate": 0.0125, "job_cost": 0.0234},
}
"""Fields of the sample job that differ from those of a succeeded job, by event type."""
SAMPLE_TIMES: Final = {
    "datetime_created": 137.0,
    "datetime_started": 122.0,
    "datetime_completed": 2.0,
}
"""Seconds before the detection of the event."""
SAMPLE_OVERDUE: Final = Overdue(
    stage=Stage.RUNNING,
    elapsed=4_500.0,
    threshold=3_600.0,
    usual=UsualDuration(p50=700.0, p95=1_200.0, basis=JobClass("llama-3.3-70b", 6, 0), samples=120),
)
SAMPLE_DETAILS: Final[Mapping[str, dict[str, Any]]] = {
    DaemonEventType.AUTH_FAILED: {"reason": "API key rejected"},
    DaemonEventType.AUTH_RECOVERED: {"reason": "API key accepted"},
    DaemonEventType.SINK_DISABLED: {"reason": "the receiver returned 410"},
    DaemonEventType.BUDGET_CROSSED: {
        "budget": "daily",
        "model_patterns": [],
        "limit_usd": "100",
        "threshold_percent": 80.0,
        "spent_usd": "81.4071",
        "jobs": 212,
        "cost_unknown": 1,
        "committed_usd": "12.5",
        "estimate_unknown": 0,
        "projected_usd": "93.9071",
    },
}

SAMPLE_REPORT: Final = {
    "succeeded": 121,
    "failed": 3,
    "cancelled": 0,
    "cost_usd": "45.2034",
    "cost_unknown": 2,
    "models": [
        {"model": "llama-3.3-70b", "jobs": 100, "cost_usd": "40.1", "cost_unknown": 0},
        {"model": "qwen-3-32b", "jobs": 24, "cost_usd": "5.1034", "cost_unknown": 2},
    ],
    "models_omitted": 0,
    "slowest": [
        {
            "job_id": "job-12345",
            "name": "Product review sentiment",
            "model": "llama-3.3-70b",
            "status": "SUCCEEDED",
            "seconds": 11_520.0,
        }
    ],
    "unchanged": [
        {
            "job_id": "job-12346",
            "name": "Support ticket triage",
            "model": "qwen-3-32b",
            "status": "RUNNING",
            "seconds": 18_720.0,
        }
    ],
    "missing": 1,
    "missing_ids": ["job-12347"],
    "sinks": [{"sink": "webhook", "pending": 0, "dead": 12, "is_disabled": False}],
}


def sample_event(event_type: str, origin: EventOrigin, now: datetime, **job_fields: Any) -> Event:
    """Return an event of a sample job, detected now. `job_fields` are those of a job object."""
    kind = JobEventType(event_type)
    times = {
        name: format_rfc3339(now - timedelta(seconds=seconds))
        for name, seconds in SAMPLE_TIMES.items()
    }
    job = parse_job({**SAMPLE_JOB, **times, **SAMPLE_CHANGES.get(kind, {}), **job_fields})
    draft = EventDraft(
        type=kind,
        job_id=job.job_id,
        job=job,
        previous_status=JobStatus.RUNNING,
        sequence=2,
        overdue=SAMPLE_OVERDUE if kind is JobEventType.OVERDUE else None,
    )
    return job_event(draft, origin, now, Detection(detected_at=now.timestamp()))


def test_event(
    event_type: str, origin: EventOrigin, now: datetime, *, sink: str, instance: str
) -> Event:
    """Return an event of any type with `data.test`, and an id that no real event has.

    `instance` makes the id new, or a receiver would drop the second test as a repetition.
    """
    if event_type in {*JobEventType}:
        event = sample_event(event_type, origin, now)
    elif event_type == DIGEST:
        ends = (JobEventType.SUCCEEDED, JobEventType.CANCELLED)
        events = [
            sample_event(kind, origin, now, job_id=f"job-1234{n}") for n, kind in enumerate(ends, 5)
        ]
        event = digest_event(events, origin, now, sink=sink)
    elif event_type == DaemonEventType.DAILY_REPORT:
        period = ReportPeriod.of_today(now, now.time(), UTC)
        event = daily_report_event(SAMPLE_REPORT, period, origin, now)
    else:
        kind = DaemonEventType(event_type)
        is_budget = kind is DaemonEventType.BUDGET_CROSSED
        of_kind = Period.of(BudgetKind.DAILY, now).as_dict() if is_budget else {"sink": sink}
        detail = SAMPLE_DETAILS.get(kind, {}) | of_kind
        event = daemon_event(kind, origin, now, instance=instance, occurrence=1, detail=detail)
    body = json.loads(event.body)
    body["data"]["test"] = True
    return replace(
        event,
        id=event_id(origin.namespace, f"test {instance}", event_type),
        body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
    )
