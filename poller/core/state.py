"""What is known of one watched job, and what a decision about it says, as values."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from poller.core.jobs import Job, JobStatus


class Phase(StrEnum):
    """Where a job stands for us; its own status is `JobState.status`."""

    NEW = "new"
    ACTIVE = "active"
    SETTLING = "settling"
    MISSING = "missing"
    DONE = "done"


class JobEventType(StrEnum):
    """What can be announced about a job."""

    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    COST_SETTLED = "job.cost_settled"
    MISSING = "job.missing"
    FOUND = "job.found"
    UNRECOGNISED = "job.unrecognised"


class Anomaly(StrEnum):
    """What is odd enough for a log line, and announced to nobody."""

    REGRESSED = "job.regressed"
    UNKNOWN_STATUS = "job.unknown_status"
    CONTRADICTED = "job.contradicted"


class Signal(Enum):
    """What `decide` is shown when there is no job object."""

    NOT_FOUND = "the API's 404"
    TIMER = "nothing was seen, time has passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What is known of one watched job.

    `since` is when the phase began; `status` the furthest that was recorded; `job` the object seen
    at the last recorded change; `sequence` counts the job's events and `occurrence` the times it
    went missing. The last four only steer the pace; a restart may forget them.
    """

    job_id: str
    phase: Phase = Phase.NEW
    since: float
    status: JobStatus = JobStatus.UNKNOWN
    job: Job | None = None
    sequence: int = 0
    occurrence: int = 0
    is_unrecognised: bool = False
    settle_polls: int = 0
    misses: int = 0
    first_miss_at: float = 0.0
    completing_since: float | None = None

    @property
    def awaits_cost(self) -> bool:
        """Whether the end was announced without a cost."""
        return self.phase is Phase.DONE and self.job is not None and self.job.job_cost is None

    @property
    def display_status(self) -> str:
        """How the job stands in a word: the status, or MISSING."""
        return "MISSING" if self.phase is Phase.MISSING else self.status.value

    def matches_recorded(self, other: "JobState") -> bool:
        """Tell whether a store that has `other` has all that must survive of this state."""
        return (
            self.phase is other.phase
            and self.status is other.status
            and self.sequence == other.sequence
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """One thing to announce. `job` is None when the job was never seen."""

    type: JobEventType
    job_id: str
    job: Job | None
    previous_status: JobStatus | None
    sequence: int
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to keep, what to announce, what to log."""

    state: JobState
    drafts: tuple[EventDraft, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
