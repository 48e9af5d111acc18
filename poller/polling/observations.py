"""The inputs and the effects of decisions about jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from poller.core.detection_lag import Detection
from poller.core.events import Event
from poller.core.jobs import Job
from poller.core.overdue import Overdue
from poller.core.state import Decision, JobState, Signal


class PendingObservation(NamedTuple):
    """An input of `decide`.

    `last_seen_at` is when the last poll was begun that showed the job, not at its end.
    """

    job_id: str
    result: Job | Signal | Overdue
    last_seen_at: float | None = None


@dataclass(frozen=True, slots=True)
class AppliedObservation:
    """The effect of one observation. `decision` is None when deciding failed, by a bug of ours."""

    job_id: str
    before: JobState
    result: Job | Signal | Overdue
    decision: Decision | None
    detection: Detection
    events: Sequence[Event] = ()


class UnknownOutcome(NamedTuple):
    """A state that may have been written, and the changes that have led to it."""

    state: JobState
    changes: Sequence[AppliedObservation]
