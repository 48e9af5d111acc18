"""Events: their types, stable ids and bodies.

The id is a digest of the job and of the change alone, so that it is the same after a crash, with a
lost database, in a second daemon and on another host. The body is encoded once: every retry and
every replay sends the same bytes.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final

from poller.core.detection_lag import Detection
from poller.core.formatting import failure_message
from poller.core.jobs import format_rfc3339
from poller.core.state import EventDraft, JobEventType

DEFAULT_NAMESPACE: Final = "sutro"
ID_VERSION: Final = "1"

DIGEST_LINES: Final = 20
"""How many events a digest shows; the others are counted."""

DIGEST_TEXT: Final = 120
"""Characters of a name or a reason in a digest."""

TERMINAL_EVENTS: Final = frozenset(
    {JobEventType.SUCCEEDED, JobEventType.FAILED, JobEventType.CANCELLED}
)


class DaemonEventType(StrEnum):
    """The types of events that are not about one job."""

    AUTH_FAILED = "poller.auth_failed"
    AUTH_RECOVERED = "poller.auth_recovered"
    SINK_DISABLED = "poller.sink_disabled"
    DAILY_REPORT = "report.daily"
    BUDGET_CROSSED = "budget.crossed"
    TEST = "poller.test"


DIGEST: Final = "report.digest"
"""The type of a digest, which stands for several events at one sink. No sink chooses it."""

EVENT_TYPES: Final = frozenset(str(kind) for kind in (*JobEventType, *DaemonEventType))
"""The types that a sink chooses from."""
RECORDED_TYPES: Final = EVENT_TYPES | {DIGEST}
DEFAULT_SINK_EVENTS: Final = frozenset(
    str(kind) for kind in TERMINAL_EVENTS | {JobEventType.MISSING, JobEventType.UNRECOGNISED}
)
"""The event types of a sink without a setting for them."""
EVENTS_FOR_PEOPLE: Final = frozenset(
    str(kind) for kind in (*DaemonEventType, JobEventType.OVERDUE, JobEventType.COST_OVER_ESTIMATE)
)
"""The event types that the log and the sinks for people get as well."""
TYPES_WITH_COST: Final = TERMINAL_EVENTS | {
    JobEventType.SETTLED,
    JobEventType.COST_OVER_ESTIMATE,
}
JOB_TIMES: Final = ("datetime_created", "datetime_completed")
"""Times that the API does not change: a job id with another one is another job."""
TIMESTAMPED_BY_API: Final = TERMINAL_EVENTS | {JobEventType.STARTED}
"""Events whose time comes from the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event as it is stored and sent.

    `body` is JSON in UTF-8, `subject` the job's id or `poller`. With `same_sinks_as`, the id of
    another event, it goes to the sinks of that event; else to the sinks whose types include it.
    """

    id: str
    type: str
    subject: str
    occurred_at: datetime
    body: bytes
    same_sinks_as: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The `data` object of the body."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data

    @property
    def line(self) -> bytes:
        """The body with the event's id in front, as one line: for receivers without headers."""
        return b'{"id":"%s",%s\n' % (self.id.encode(), self.body[1:])

    def repeats(self, recorded: bytes) -> bool:
        """Return whether the recorded body under this event's id is about the same job.

        Another deployment may use the same job ids. A job is the same if its times are, as after a
        move of the API to another host; where no times are known, if its deployment is.
        """
        try:
            before, after = json.loads(recorded)["data"], self.data
            pairs = [(before["job"].get(name), after["job"].get(name)) for name in JOB_TIMES]
            are_equal = [old == new for old, new in pairs if old and new]
            return all(are_equal) if are_equal else before["deployment"] == after["deployment"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return True  # it is damaged, which is noticed when it is sent


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOrigin:
    """The origin of events: the API's host, and the namespace of event ids."""

    deployment: str
    namespace: str = DEFAULT_NAMESPACE


def event_id(namespace: str, subject: str, kind: str, occurrence: int = 0) -> str:
    """Return an event's id; each part is length-prefixed, so that no two events share one."""
    parts = [ID_VERSION, namespace, subject, kind] + ([str(occurrence)] if occurrence else [])
    digest = hashlib.sha256()
    for part in (part.encode() for part in parts):
        digest.update(len(part).to_bytes(4, "big") + part)
    return "evt_" + base64.b32encode(digest.digest()).decode().rstrip("=").lower()


def job_event(
    draft: EventDraft, origin: EventOrigin, observed_at: datetime, detection: Detection
) -> Event:
    """Return the event of a draft, with its body encoded."""
    kind, job = draft.type, draft.job
    happened_at = _occurred_at(draft)
    occurred_at = happened_at or observed_at
    data = {
        "job": job.as_dict() if job else {"job_id": draft.job_id},
        "previous_status": draft.previous_status,
        "sequence": draft.sequence,
        "final": _is_final(draft),
        "queue_seconds": job.queue_seconds if job else None,
        "run_seconds": job.run_seconds if job else None,
        "observed_at": format_rfc3339(observed_at),
        "detection": detection.as_dict(happened_at) if kind in TIMESTAMPED_BY_API else None,
        "deployment": origin.deployment,
    }
    if draft.overdue:
        data["overdue"] = draft.overdue.as_dict()
    if draft.was_overdue and kind in TERMINAL_EVENTS:
        data["was_overdue"] = True
    end = job and kind is JobEventType.SETTLED and f"job.{job.status.value.lower()}"
    return Event(
        id=event_id(origin.namespace, draft.job_id, kind, draft.occurrence),
        type=kind,
        subject=draft.job_id,
        occurred_at=occurred_at,
        body=_encode(kind, occurred_at, data),
        same_sinks_as=event_id(origin.namespace, draft.job_id, end) if end else None,
    )


def daemon_event(
    kind: DaemonEventType,
    origin: EventOrigin,
    observed_at: datetime,
    *,
    instance: str,
    occurrence: int,
    detail: Mapping[str, Any],
) -> Event:
    """Return an event that is not about one job, with its body encoded.

    Of an event about the daemon `instance` is the random id of the database: two daemons with the
    same receiver must not use the same id for their first rejected API key.
    """
    data = {**detail, "observed_at": format_rfc3339(observed_at), "deployment": origin.deployment}
    return Event(
        id=event_id(origin.namespace, instance, kind, occurrence),
        type=kind,
        subject="poller",
        occurred_at=observed_at,
        body=_encode(kind, observed_at, data),
    )


def digest_event(
    events: Sequence[Event], origin: EventOrigin, observed_at: datetime, *, sink: str
) -> Event:
    """Return the digest of some events about jobs for one sink, the oldest first.

    Its id is made of theirs, so that the same events have the same digest after a crash.
    """
    costs = {
        event.subject: event.data["job"]["job_cost"]
        for event in events
        if event.type in TYPES_WITH_COST
    }
    known = [Decimal(str(cost)) for cost in costs.values() if cost is not None]
    data = {
        "sink": sink,
        "since": format_rfc3339(min(event.occurred_at for event in events)),
        "counts": dict(sorted(Counter(event.type for event in events).items())),
        "cost_usd": f"{sum(known):f}" if known else None,
        "cost_unknown": len(costs) - len(known),
        "events": [_digest_line(event) for event in events[:DIGEST_LINES]],
        "observed_at": format_rfc3339(observed_at),
        "deployment": origin.deployment,
    }
    members = hashlib.sha256("\n".join(event.id for event in events).encode()).hexdigest()
    return Event(
        id=event_id(origin.namespace, f"{sink} {members}", DIGEST),
        type=DIGEST,
        subject="poller",
        occurred_at=observed_at,
        body=_encode(DIGEST, observed_at, data),
    )


def _digest_line(event: Event) -> dict[str, Any]:
    data = event.data
    job: dict[str, Any] = data["job"]
    return {
        "id": event.id,
        "type": event.type,
        "job_id": job["job_id"],
        "name": _shortened(job.get("name")),
        "job_cost": job.get("job_cost"),
        "run_seconds": data.get("run_seconds"),
        "reason": _shortened(failure_message(job.get("failure_reason")) or None),
    }


def _shortened(text: str | None) -> str | None:
    return text[:DIGEST_TEXT] if text else text


def checksum(body: bytes) -> bytes:
    """Return the digest of a body, checked before each attempt."""
    return hashlib.sha256(body).digest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all event bodies."""
    text = files("poller").joinpath("event.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _occurred_at(draft: EventDraft) -> datetime | None:
    """Return the API's own time of the change; None where it has none."""
    job = draft.job
    if job and draft.type is JobEventType.STARTED:
        return job.datetime_started
    return job.datetime_completed if job and draft.type in TERMINAL_EVENTS else None


def _is_final(draft: EventDraft) -> bool | None:
    """Return whether nothing is missing of an ended job; None for other events."""
    job, is_end = draft.job, draft.type in TERMINAL_EVENTS | {JobEventType.SETTLED}
    return job.is_final if job and is_end else None


def _encode(kind: str, occurred_at: datetime, data: Mapping[str, Any]) -> bytes:
    """Return a body in the shape of Standard Webhooks 1.0: type, timestamp, data."""
    body = {"type": kind, "timestamp": format_rfc3339(occurred_at), "data": data}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
