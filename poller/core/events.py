"""What is announced: an event's type, its stable id and its frozen body.

The id is a digest of what happened to which job and of nothing else, so that it is the same after
a crash, with a lost database, in a second daemon and on another host. The body is frozen when the
event is made: every retry and every replay sends the same bytes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final

from poller.core.detection import Detection
from poller.core.jobs import format_rfc3339
from poller.core.state import EventDraft, JobEventType

DEFAULT_NAMESPACE: Final = "sutro"
ID_VERSION: Final = "1"

TERMINAL_EVENTS: Final = frozenset(
    {JobEventType.SUCCEEDED, JobEventType.FAILED, JobEventType.CANCELLED}
)


class DaemonEventType(StrEnum):
    """What the daemon announces about itself."""

    AUTH_FAILED = "poller.auth_failed"
    AUTH_RECOVERED = "poller.auth_recovered"
    SINK_DISABLED = "poller.sink_disabled"
    TEST = "poller.test"


EVENT_TYPES: Final = frozenset(str(kind) for kind in (*JobEventType, *DaemonEventType))
DEFAULT_SINK_EVENTS: Final = frozenset(
    str(it) for it in TERMINAL_EVENTS | {JobEventType.MISSING, JobEventType.UNRECOGNISED}
)
"""What a sink takes unless it is told otherwise."""
TIMESTAMPED_BY_API: Final = TERMINAL_EVENTS | {JobEventType.STARTED}
"""Events that the API itself dates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event as it is stored and sent.

    `body` is JSON in UTF-8, `subject` the job's id or `poller`. `follows` names the event whose
    sinks get this one too; without it each sink's own choice of types decides.
    """

    id: str
    type: str
    subject: str
    occurred_at: datetime
    body: bytes
    same_sinks_as: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The `data` of the body, read back."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOrigin:
    """Where events come from: the API's host, and what ids are derived from beside the job."""

    deployment: str
    namespace: str = DEFAULT_NAMESPACE


def event_id(namespace: str, subject: str, kind: str, occurrence: int = 0) -> str:
    """Derive an event's id; each part is length-prefixed, so that no two events share one."""
    parts = [ID_VERSION, namespace, subject, kind] + ([str(occurrence)] if occurrence else [])
    digest = hashlib.sha256()
    for part in (part.encode() for part in parts):
        digest.update(len(part).to_bytes(4, "big") + part)
    return "evt_" + base64.b32encode(digest.digest()).decode().rstrip("=").lower()


def job_event(
    transition: EventDraft, origin: EventOrigin, observed_at: datetime, detection: Detection
) -> Event:
    """Freeze a transition of a job into an event."""
    kind, job = transition.type, transition.job
    happened_at = _occurred_at(transition)
    occurred_at = happened_at or observed_at
    data = {
        "job": job.as_dict() if job else {"job_id": transition.job_id},
        "previous_status": transition.previous_status,
        "sequence": transition.sequence,
        "cost_final": _is_cost_final(transition),
        "queue_seconds": job.queue_seconds if job else None,
        "run_seconds": job.run_seconds if job else None,
        "observed_at": format_rfc3339(observed_at),
        "detection": detection.as_dict(happened_at) if kind in TIMESTAMPED_BY_API else None,
        "deployment": origin.deployment,
    }
    follows = job and kind is JobEventType.COST_SETTLED and f"job.{job.status.value.lower()}"
    return Event(
        id=event_id(origin.namespace, transition.job_id, kind, transition.occurrence),
        type=kind,
        subject=transition.job_id,
        occurred_at=occurred_at,
        body=_encode(kind, occurred_at, data),
        same_sinks_as=event_id(origin.namespace, transition.job_id, follows) if follows else None,
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
    """Freeze something that happened to the daemon into an event.

    `instance` is the store's own random name: two daemons that report to one receiver must not
    share the id of their first refused key.
    """
    data = {**detail, "observed_at": format_rfc3339(observed_at), "deployment": origin.deployment}
    return Event(
        id=event_id(origin.namespace, instance, kind, occurrence),
        type=kind,
        subject="poller",
        occurred_at=observed_at,
        body=_encode(kind, observed_at, data),
    )


def checksum(body: bytes) -> bytes:
    """Digest a body, to tell at every sending that its bytes are the frozen ones."""
    return hashlib.sha256(body).digest()


def json_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of every body."""
    text = files("poller").joinpath("event.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _occurred_at(transition: EventDraft) -> datetime | None:
    """Say when it happened by the API's own word, where it gives one."""
    job = transition.job
    if job and transition.type is JobEventType.STARTED:
        return job.datetime_started
    return job.datetime_completed if job and transition.type in TERMINAL_EVENTS else None


def _is_cost_final(transition: EventDraft) -> bool | None:
    """Tell of an end whether the API may still add to it; None for what is no end."""
    if transition.type is JobEventType.COST_SETTLED:
        return True
    job = transition.job
    return job.is_complete if job and transition.type in TERMINAL_EVENTS else None


def _encode(kind: str, occurred_at: datetime, data: Mapping[str, Any]) -> bytes:
    """Write the body of Standard Webhooks 1.0: type, timestamp, data."""
    body = {"type": kind, "timestamp": format_rfc3339(occurred_at), "data": data}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
