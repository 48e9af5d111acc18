"""The state of one watched job, and the decision about an observation, as values."""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final

from poller.core.durations import Stage
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.overdue import Overdue, OverduePolicy


class Phase(StrEnum):
    """The phases of watching a job; the status of the job itself is `JobState.status`."""

    NEW = "new"
    ACTIVE = "active"
    SETTLING = "settling"
    MISSING = "missing"
    DONE = "done"


class JobEventType(StrEnum):
    """The types of the events about a job."""

    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    SETTLED = "job.settled"
    MISSING = "job.missing"
    FOUND = "job.found"
    UNRECOGNISED = "job.unrecognised"
    OVERDUE = "job.overdue"
    COST_OVER_ESTIMATE = "job.cost_over_estimate"


class Anomaly(StrEnum):
    """Oddities that are logged, and not announced."""

    REGRESSED = "job.regressed"
    UNKNOWN_STATUS = "job.unknown_status"
    CONTRADICTED = "job.contradicted"


class Signal(Enum):
    """Inputs of `decide` that are no job object."""

    NOT_FOUND = "the API's 404"
    TIMER = "time has passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """The state of one watched job.

    `since` is when the phase began; `status` the most advanced that was recorded; `job` the object
    at the last recorded change; `sequence` counts the job's events and `occurrence` the times it
    went missing. `overdue_stages` are those in which it was announced as overdue, `awaited_fields`
    those that the end was announced without, until job.settled.
    `misses` counts 404s in a row since `first_miss_at`; `regressed_at` is when a settling job first
    looked unfinished again, `completing_since` when an active one first looked as if it had ended,
    `unknown_since` when it first had an unknown status. `is_back`: the job was announced as
    unrecognised, and no longer is. A restart may forget these five.
    """

    job_id: str
    phase: Phase = Phase.NEW
    since: float
    status: JobStatus = JobStatus.UNKNOWN
    job: Job | None = None
    sequence: int = 0
    occurrence: int = 0
    is_unrecognised: bool = False
    awaited_fields: tuple[str, ...] = ()
    overdue_stages: tuple[Stage, ...] = ()
    misses: int = 0
    first_miss_at: float = 0.0
    regressed_at: float | None = None
    completing_since: float | None = None
    unknown_since: float | None = None
    is_back: bool = False

    @property
    def late_fields(self) -> tuple[str, ...]:
        """The awaited fields that have come since the end was announced."""
        missing = self.job.missing_fields if self.job else self.awaited_fields
        return tuple(name for name in self.awaited_fields if name not in missing)

    @property
    def is_unfinished(self) -> bool:
        """Return whether the end, or what comes after it, still has to be announced."""
        return self.phase is Phase.SETTLING or bool(self.awaited_fields)

    @property
    def is_given_up(self) -> bool:
        """Return whether the job was announced as missing or unrecognised, and still is."""
        is_unrecognised = self.is_unrecognised and not self.is_back
        return self.phase is Phase.MISSING or (self.phase is Phase.ACTIVE and is_unrecognised)

    @property
    def display_status(self) -> str:
        """The status, or MISSING."""
        return "MISSING" if self.phase is Phase.MISSING else self.status.value

    def matches_recorded(self, other: "JobState") -> bool:
        """Return whether a store that has `other` has everything of this state that must last."""
        return (
            self.phase is other.phase
            and self.status is other.status
            and self.sequence == other.sequence
            and self.late_fields == other.late_fields
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """An event to announce.

    `job` is None when the API never showed the job; `late_fields` are those that job.settled adds.
    `overdue` is what job.overdue is about; `was_overdue`: there was one of the job before.
    """

    type: JobEventType
    job_id: str
    job: Job | None
    previous_status: JobStatus | None
    sequence: int
    occurrence: int = 0
    late_fields: tuple[str, ...] = ()
    overdue: Overdue | None = None
    was_overdue: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to keep, the events to announce, the anomalies to log."""

    state: JobState
    drafts: tuple[EventDraft, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()


DEFAULT_OVERDUE: Final = OverduePolicy()


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """The settings of the machine: times in seconds.

    A cost is announced that is more than `cost_over_estimate` times its estimate; None for never.
    `overdue` says when a job is overdue.
    """

    settle_timeout: float = 30.0
    not_found_grace: float = 600.0
    cost_over_estimate: float | None = None
    overdue: OverduePolicy = DEFAULT_OVERDUE


REPEATABLE_TYPES: Final = frozenset({JobEventType.MISSING, JobEventType.FOUND})
"""Events that one job can have more than once."""


def emit(state: JobState, kind: JobEventType, job: Job | None, before: JobState) -> Decision:
    """Return the state with one more event; `before` is the state until now."""
    state = replace(state, sequence=state.sequence + 1)
    draft = EventDraft(
        type=kind,
        job_id=state.job_id,
        job=job,
        previous_status=None if before.status is JobStatus.UNKNOWN else before.status,
        sequence=state.sequence,
        occurrence=state.occurrence if kind in REPEATABLE_TYPES else 0,
        late_fields=before.late_fields,
        was_overdue=bool(before.overdue_stages),
    )
    return Decision(state, (draft,))
