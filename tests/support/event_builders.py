"""Event drafts and their events."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from poller.core.detection_lag import Detection
from poller.core.events import Event, EventOrigin, job_event
from poller.core.state import EventDraft, JobEventType
from tests.support.builders import a_job

ORIGIN = EventOrigin(deployment="api.sutro.sh")
OBSERVED = datetime(2024, 1, 15, 10, 32, 17, 120_000, tzinfo=UTC)
SIGHTING = Detection(
    detected_at=OBSERVED.timestamp(),
    clock_skew=0.38,
    last_seen_at=OBSERVED.timestamp() - 10.0,
    previous_poll_at=OBSERVED - timedelta(seconds=10.0),
)


def a_transition(kind: str, **changes) -> EventDraft:
    """Return the draft of a job that ended without a cost, with some fields changed."""
    job = a_job("SUCCEEDED", datetime_started="2024-01-15T10:30:15Z")
    whole = EventDraft(
        type=JobEventType(kind), job_id="job-1", job=job, previous_status=None, sequence=1
    )
    return replace(whole, **changes)


def an_event(kind: str, **changes) -> Event:
    """Return the event of such a draft."""
    return job_event(a_transition(kind, **changes), ORIGIN, OBSERVED, SIGHTING)
