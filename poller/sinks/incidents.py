"""What the sinks for incidents share: which events open one, which resolve it, and its key."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from poller.core.events import DaemonEventType, Event
from poller.core.state import JobEventType


class Action(StrEnum):
    """What an event does to the incident of its key."""

    TRIGGER = "trigger"
    RESOLVE = "resolve"


TRIGGERS: Final = frozenset(
    {
        JobEventType.FAILED,
        JobEventType.MISSING,
        JobEventType.UNRECOGNISED,
        JobEventType.OVERDUE,
        DaemonEventType.AUTH_FAILED,
        DaemonEventType.SINK_DISABLED,
        DaemonEventType.TEST,
    }
)
ON_REQUEST: Final = frozenset({JobEventType.COST_OVER_ESTIMATE, DaemonEventType.BUDGET_CROSSED})
"""Events that open an incident of their own, at a sink whose settings name them."""
ENDS_WITHOUT_PROBLEM: Final = frozenset({JobEventType.SUCCEEDED, JobEventType.CANCELLED})
RESOLVES: Final = ENDS_WITHOUT_PROBLEM | {JobEventType.FOUND, DaemonEventType.AUTH_RECOVERED}
DAEMON_SUBJECTS: Final = {
    DaemonEventType.AUTH_FAILED: "api-key",
    DaemonEventType.AUTH_RECOVERED: "api-key",
    DaemonEventType.SINK_DISABLED: "sink/{sink}",
    DaemonEventType.BUDGET_CROSSED: "budget/{period}",
}
"""What has a problem, if it is not a job, by event type."""
MAX_KEY: Final = 255
LOW_SEVERITY: Final = "warning"
WHOLE_BUDGET: Final = 100
"""Percent."""


def action_of(event: Event) -> Action | None:
    """Return what an event does to its incident; None if nothing, as for a start.

    Late fields (job.settled) do nothing: to trigger again would open a second incident after
    somebody has resolved the first.
    """
    if event.type in TRIGGERS | ON_REQUEST:
        return Action.TRIGGER
    return Action.RESOLVE if event.type in RESOLVES else None


def incident_key(data: Mapping[str, Any], event_type: str) -> str:
    """Return the key of the incident that an event with this data is about: one for each job.

    A cost has an incident of its own, which the end of the job does not resolve. All test events
    share one, so that they never touch the incident of a job.
    """
    if data.get("test"):
        subject = "test"
    elif job := data.get("job"):
        about = "cost" if event_type == JobEventType.COST_OVER_ESTIMATE else "job"
        subject = f"{about}/{job['job_id']}"
    else:
        subject = DAEMON_SUBJECTS.get(DaemonEventType(event_type), event_type).format_map(data)
    key = f"sutro/{data['deployment']}/{subject}"
    if len(key) > MAX_KEY:
        return f"sutro/{hashlib.sha256(key.encode()).hexdigest()}"
    return key


def severity_of(event: Event, severity: str) -> str:
    """Return the severity of an incident: for a cost or a part of a budget that of a warning."""
    if event.type not in ON_REQUEST or event.data.get("threshold_percent", 0) >= WHOLE_BUDGET:
        return severity
    return LOW_SEVERITY


def default_events(*left_out: str) -> str:
    """Return the event types that open or resolve an incident, as the text of a setting."""
    types = TRIGGERS | RESOLVES
    return ",".join(sorted(str(kind) for kind in types if kind not in left_out))
