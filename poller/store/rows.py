"""Conversion between values and rows of the SQLite store."""

import json
import sqlite3
from datetime import UTC, datetime
from typing import Any

import structlog

from poller.core.durations import Stage
from poller.core.errors import MalformedResponse
from poller.core.events import Event, checksum
from poller.core.job_status import JobStatus
from poller.core.jobs import format_rfc3339
from poller.core.outbox import Delivery, SinkBacklog
from poller.core.parsing import parse_job
from poller.core.state import JobState, Phase

log = structlog.get_logger()


def state_row(state: JobState) -> dict[str, Any]:
    """Return the columns of a state; the job is JSON with the field names of the API."""
    return {
        "job_id": state.job_id,
        "phase": state.phase,
        "since": state.since,
        "status": state.status,
        "job": json.dumps(state.job.as_dict(), ensure_ascii=False) if state.job else None,
        "sequence": state.sequence,
        "occurrence": state.occurrence,
        "is_unrecognised": state.is_unrecognised,
        "awaited_fields": json.dumps(state.awaited_fields),
        "overdue_stages": json.dumps(state.overdue_stages),
    }


def read_state(row: sqlite3.Row) -> JobState | None:
    """Return the state in a row; None if the row is damaged, so that the job is polled anew."""
    try:
        return JobState(
            job_id=row["job_id"],
            phase=Phase(row["phase"]),
            since=row["since"],
            status=JobStatus(row["status"]),
            job=parse_job(json.loads(row["job"])) if row["job"] else None,
            sequence=row["sequence"],
            occurrence=row["occurrence"],
            is_unrecognised=bool(row["is_unrecognised"]),
            awaited_fields=tuple(json.loads(row["awaited_fields"])),
            overdue_stages=tuple(map(Stage, json.loads(row["overdue_stages"]))),
        )
    except (ValueError, MalformedResponse) as error:
        log.error("store.damaged_job", job_id=row["job_id"], error=str(error))
        return None


def event_row(event: Event) -> dict[str, Any]:
    """Return the columns of an event, with the digest of its body."""
    return {
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "occurred_at": format_rfc3339(event.occurred_at),
        "body": event.body,
        "digest": checksum(event.body),
        "follows": event.same_sinks_as,
    }


def read_delivery(row: sqlite3.Row) -> Delivery:
    """Return the delivery in a row with its event; check the body against its digest."""
    occurred_at, is_valid = _parse_time(row["occurred_at"])
    event = Event(
        id=row["event_id"],
        type=row["type"],
        subject=row["subject"],
        occurred_at=occurred_at,
        body=row["body"],
        same_sinks_as=row["follows"],
    )
    return Delivery(
        id=row["id"],
        sink=row["sink"],
        event=event,
        created_at=row["created_at"],
        attempts=row["attempts"],
        rejections=row["rejections"],
        failing_seconds=row["failing_seconds"],
        is_replay=bool(row["is_replay"]),
        is_intact=is_valid and checksum(event.body) == row["digest"],
    )


def _parse_time(text: str) -> tuple[datetime, bool]:
    """Return a time and whether the text was valid."""
    try:
        return datetime.fromisoformat(text), True
    except ValueError:
        return datetime.fromtimestamp(0, UTC), False


def read_backlog(row: sqlite3.Row) -> SinkBacklog:
    """Return the backlog in a row."""
    return SinkBacklog(
        name=row["name"],
        pending=row["pending"],
        dead=row["dead"],
        last_due=row["last_due"],
        oldest_pending_at=row["oldest_pending_at"],
        failing_since=row["failing_since"],
        reason=row["reason"],
        is_disabled=bool(row["is_disabled"]),
        is_configured=bool(row["is_configured"]),
    )
