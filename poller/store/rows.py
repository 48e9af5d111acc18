"""The rows of the SQLite store: how values are laid out in its tables, and read back."""

import json
import sqlite3
from datetime import UTC, datetime
from typing import Any

import structlog

from poller.core.errors import MalformedResponse
from poller.core.events import Event, checksum
from poller.core.jobs import JobStatus, format_rfc3339
from poller.core.outbox import Delivery, SinkBacklog
from poller.core.parsing import parse_job
from poller.core.state import JobState, Phase

log = structlog.get_logger()


def state_row(state: JobState) -> dict[str, Any]:
    """Lay a state out for the jobs table. The job is kept under the API's own names."""
    return {
        "job_id": state.job_id,
        "phase": state.phase,
        "since": state.since,
        "status": state.status,
        "job": json.dumps(state.job.as_dict(), ensure_ascii=False) if state.job else None,
        "sequence": state.sequence,
        "occurrence": state.occurrence,
        "is_unrecognised": state.is_unrecognised,
        "awaits_cost": state.awaits_cost,
    }


def read_state(row: sqlite3.Row) -> JobState | None:
    """Read a state; None where the row is damaged: the API will tell it anew."""
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
        )
    except (ValueError, MalformedResponse) as error:
        log.error("store.damaged_job", job_id=row["job_id"], error=str(error))
        return None


def event_row(event: Event) -> dict[str, Any]:
    """Lay an event out for the events table, with the digest of its body."""
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
    """Read a delivery with its event, and check the body against its digest."""
    occurred_at, is_dated = _moment(row["occurred_at"])
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
        is_replay=bool(row["is_replay"]),
        is_intact=is_dated and checksum(event.body) == row["digest"],
    )


def _moment(text: str) -> tuple[datetime, bool]:
    """Read a moment, and say whether it was one."""
    try:
        return datetime.fromisoformat(text), True
    except ValueError:
        return datetime.fromtimestamp(0, UTC), False


def read_sink(row: sqlite3.Row) -> SinkBacklog:
    """Read the backlog of one sink."""
    return SinkBacklog(
        name=row["name"],
        pending=row["pending"],
        dead=row["dead"],
        last_due=row["last_due"],
        oldest_pending_at=row["oldest"],
        is_disabled=bool(row["is_disabled"]),
        is_configured=bool(row["is_configured"]),
    )
