"""The types of events, written by `make generate` from poller/event.schema.json.

A field is None if the API gives no value. Times are datetimes in UTC, durations are seconds, costs
are US dollars.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

PreviousStatus = Literal[
    "SUBMITTED",
    "PENDING",
    "QUEUED",
    "STARTING",
    "RUNNING",
    "CANCELLING",
    "SUCCEEDED",
    "FAILED",
    "CANCELLED",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job, with the API's field names.

    A field is None if the API has no value, or one of a wrong type. Prompts and output schemas are
    never included.
    """

    job_id: str
    """The job's ID in the API."""
    name: str | None
    """The job's name."""
    description: str | None
    """The job's description."""
    model: str | None
    """The model."""
    status: str
    """The status in capitals, or the API's own text if the status is unknown."""
    job_priority: int | None
    """The priority, 0 or 1."""
    dataset_id: str | None
    """The ID of the input dataset."""
    num_rows: int | None
    """The number of input rows."""
    input_tokens: int | None
    """The number of input tokens."""
    output_tokens: int | None
    """The number of output tokens."""
    job_cost: float | None
    """The cost in US dollars; None until the API has calculated it."""
    cost_estimate: float | None
    """The estimated cost in US dollars."""
    failure_reason: dict[str, Any] | None
    """The reason of a failure, usually with a text in message.

    A reason that is too large is shortened to {message, truncated: true}.
    """
    datetime_created: datetime | None
    """The time of creation."""
    datetime_started: datetime | None
    """The time of the start."""
    datetime_completed: datetime | None
    """The time of the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnobservedJob:
    """A job that was never observed."""

    job_id: str
    """The job's ID in the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How late the change was detected, by the API's clock.

    Its responses show that clock to about half a second.
    """

    previous_poll_at: datetime | None
    """The start of the last poll before the change was detected; None if there was none since
    the poller started.
    """
    lag_seconds: float | None
    """Seconds from when the API could show the change to its detection.

    The wait for the last fields of an end comes later and is not included. None if the API has no
    time of the change.
    """
    lag_max_seconds: float | None
    """Seconds from the previous poll to the detection: the upper bound of the lag."""
    visibility_delay_seconds: float | None
    """Seconds for which the API did not show the change, as far as the previous poll shows.

    None without that poll or the API's time of the change.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestLine:
    """An event in a digest."""

    id: str
    """The ID of the event."""
    type: str
    """The type of the event."""
    job_id: str
    """The job's ID in the API."""
    name: str | None
    """The job's name, shortened if it is long."""
    job_cost: float | None
    """The cost in US dollars; None until the API has calculated it."""
    run_seconds: float | None
    """Seconds from datetime_started to datetime_completed; None if either is missing or they run
    backwards.
    """
    reason: str | None
    """Why the job failed, shortened if it is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """The jobs of one model."""

    model: str | None
    """The model, shortened if it is long."""
    jobs: int
    """The number of jobs that ended."""
    cost_usd: str | None
    """Their exact cost in US dollars, as a decimal number; None if none is known."""
    cost_unknown: int
    """The number of jobs whose cost is not known; cost_usd lacks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedJob:
    """A job in a report."""

    job_id: str
    """The job's ID in the API."""
    name: str | None
    """The job's name, shortened if it is long."""
    model: str | None
    """The model, shortened if it is long."""
    status: str
    """The status in capitals."""
    seconds: float
    """Seconds for which the job ran, or in unchanged, since its last change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSink:
    """A sink that needs attention."""

    sink: str
    """The name of the sink."""
    pending: int
    """The number of events that wait for delivery."""
    dead: int
    """The number of dead letters."""
    is_disabled: bool
    """True if the sink is disabled and gets no events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """How long an overdue job has been in its phase, and how long jobs like it are."""

    phase: str
    """The phase: queued or running."""
    elapsed_seconds: float
    """Seconds that the job has been in the phase."""
    threshold_seconds: float
    """Seconds from which it is overdue."""
    expected_seconds: float | None
    """Seconds in which 95 % of the jobs like it get through the phase; None with fewer than 20
    of them.
    """
    basis: dict[str, Any] | None
    """The ended jobs that expected_seconds is from: their class and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; of a type that this version does not know, if it is of no subclass.

    `data` has all fields as sent, also those that this version does not know. `is_test`:
    it comes from `sutro-poller sinks test`, and its job does not exist. `is_replay`: an operator
    has sent it again; this is not signed.
    """

    id: str
    type: str
    timestamp: datetime
    observed_at: datetime
    deployment: str
    data: dict[str, Any] = field(repr=False)
    is_test: bool = False
    is_replay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent(Event):
    """An event about a job."""

    job: Job | UnobservedJob
    previous_status: PreviousStatus | None
    """The most advanced status observed before; None if there was none.

    A status that the job passed between two polls is left out.
    """
    sequence: int
    """The number of this event among the events of the job, from 1."""
    final: bool | None
    """For an ended job: whether the API had added datetime_completed, job_cost, the tokens and,
    if it failed, failure_reason. After an end with false, job.settled follows if the API adds what
    is missing within seven days. None for other events.
    """
    queue_seconds: float | None
    """Seconds from datetime_created to datetime_started; None if either is missing or they run
    backwards.
    """
    run_seconds: float | None
    """Seconds from datetime_started to datetime_completed; None if either is missing or they run
    backwards.
    """
    detection: Detection | None
    """How late a start or an end was detected; None for other events."""
    overdue: Overdue | None = None
    """How long the job has been in its phase; left out of other events than job.overdue."""
    was_overdue: bool | None = None
    """True in the event of an end that job.overdue came before; otherwise left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerEvent(Event):
    """An event about the daemon itself."""

    reason: str | None = None
    """What was rejected, in one line."""
    sink: str | None = None
    """The name of the sink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestEvent(Event):
    """Several events in one."""

    sink: str
    """The name of the sink."""
    since: datetime
    """The time of the first event."""
    counts: dict[str, Any]
    """The number of events of each type."""
    cost_usd: str | None
    """The exact cost of the ended jobs in US dollars, as a decimal number; None if none is
    known.
    """
    cost_unknown: int
    """The number of ended jobs whose cost is not known; cost_usd lacks them."""
    events: list[DigestLine]
    """The first of the events, in the order of recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEvent(Event):
    """A report about many jobs."""

    date: str
    """The day on which the report was due, in the time zone of the poller."""
    since: datetime
    """The start of the period: the time of the report of the day before."""
    until: datetime
    """The end of the period: the time at which the report was due."""
    succeeded: int
    """The number of jobs whose end with SUCCEEDED was recorded in the period."""
    failed: int
    """The number of jobs whose end with FAILED was recorded in the period."""
    cancelled: int
    """The number of jobs whose end with CANCELLED was recorded in the period."""
    cost_usd: str | None
    """The exact cost of these jobs in US dollars, as a decimal number; None if none is known."""
    cost_unknown: int
    """The number of these jobs whose cost is not known; cost_usd lacks them."""
    models: list[ModelCosts]
    """The models of these jobs, the most expensive first."""
    models_omitted: int
    """The number of further models."""
    slowest: list[ReportedJob]
    """Those of these jobs that ran longest."""
    unchanged: list[ReportedJob]
    """The watched jobs that have not ended, and have not changed for longest, an hour at least."""
    missing: int
    """The number of watched jobs that the API does not know."""
    missing_ids: list[str]
    """The first of their IDs."""
    sinks: list[ReportedSink]
    """The sinks that have dead letters or are disabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEvent(Event):
    """An event about a budget."""

    budget: str
    """Which budget it is: daily or monthly."""
    period: str
    """The day or the month, in the time zone of the poller."""
    period_start: datetime
    """The start of the period."""
    period_end: datetime
    """The end of the period."""
    model_patterns: list[str]
    """The patterns of the models whose jobs count; empty for all models."""
    limit_usd: str
    """The budget in US dollars, as a decimal number."""
    threshold_percent: float
    """The threshold that is reached, in percent of the budget."""
    spent_usd: str
    """The exact sum of the known costs of the jobs that ended in the period, as a decimal
    number.
    """
    jobs: int
    """The number of jobs that ended in the period."""
    cost_unknown: int
    """The number of these jobs whose cost is not known; spent_usd lacks them."""
    committed_usd: str
    """The sum of the estimates of the watched jobs that have not ended, as a decimal number; 0
    if the period is over.
    """
    estimate_unknown: int
    """The number of these jobs without an estimate; committed_usd lacks them."""
    projected_usd: str
    """The sum of spent_usd and committed_usd, as a decimal number."""


class JobStarted(JobEvent):
    """The job started: it was first observed running."""

    __slots__ = ()

    type: Literal["job.started"]
    job: Job
    final: None


class JobSucceeded(JobEvent):
    """The job succeeded."""

    __slots__ = ()

    type: Literal["job.succeeded"]
    job: Job
    final: bool


class JobFailed(JobEvent):
    """The job failed; job.failure_reason has the reason if the API has one."""

    __slots__ = ()

    type: Literal["job.failed"]
    job: Job
    final: bool


class JobCancelled(JobEvent):
    """The job was cancelled."""

    __slots__ = ()

    type: Literal["job.cancelled"]
    job: Job
    final: bool


class JobSettled(JobEvent):
    """The API has added fields that were missing when the end of the job was reported.

    At most once for each job.
    """

    __slots__ = ()

    type: Literal["job.settled"]
    job: Job
    final: bool


class JobMissing(JobEvent):
    """The API has not known the job for some time.

    job is the job as last observed, or only its ID if it was never observed.
    """

    __slots__ = ()

    type: Literal["job.missing"]
    job: Job | UnobservedJob
    final: None


class JobFound(JobEvent):
    """The API knows a missing job again."""

    __slots__ = ()

    type: Literal["job.found"]
    job: Job
    final: None


class JobUnrecognised(JobEvent):
    """The job seems to have ended, but with an unknown status."""

    __slots__ = ()

    type: Literal["job.unrecognised"]
    job: Job
    final: None


class JobOverdue(JobEvent):
    """The job has been queued, or has run, for too long.

    At most once for each job and phase, and never after its end was observed.
    """

    __slots__ = ()

    type: Literal["job.overdue"]
    job: Job
    final: None
    overdue: Overdue


class JobCostOverEstimate(JobEvent):
    """The job has ended and cost more than it was estimated to.

    The cost is more than POLLER_COST_OVER_ESTIMATE times the estimate, and a cent more at least. At
    most once for each job.
    """

    __slots__ = ()

    type: Literal["job.cost_over_estimate"]
    job: Job
    final: None


class PollerAuthFailed(PollerEvent):
    """The API rejected the API key: no job can be polled until the key is corrected."""

    __slots__ = ()

    type: Literal["poller.auth_failed"]
    reason: str


class PollerAuthRecovered(PollerEvent):
    """The API accepts the API key again."""

    __slots__ = ()

    type: Literal["poller.auth_recovered"]


class PollerSinkDisabled(PollerEvent):
    """A sink was disabled; its events are kept until it is enabled."""

    __slots__ = ()

    type: Literal["poller.sink_disabled"]
    sink: str
    reason: str


class ReportDaily(ReportEvent):
    """The report of a day: what ended and what it cost, and what needs attention."""

    __slots__ = ()

    type: Literal["report.daily"]


class BudgetCrossed(BudgetEvent):
    """A threshold of a budget is reached. Once for each period, budget and threshold."""

    __slots__ = ()

    type: Literal["budget.crossed"]


class PollerTest(PollerEvent):
    """A test of a sink by an operator."""

    __slots__ = ()

    type: Literal["poller.test"]
    sink: str


class ReportDigest(DigestEvent):
    """A digest: the message that a sink gets in place of several events.

    Only a sink with digests gets it.
    """

    __slots__ = ()

    type: Literal["report.digest"]


EVENT_TYPES: Final[dict[str, type[Event]]] = {
    "job.started": JobStarted,
    "job.succeeded": JobSucceeded,
    "job.failed": JobFailed,
    "job.cancelled": JobCancelled,
    "job.settled": JobSettled,
    "job.missing": JobMissing,
    "job.found": JobFound,
    "job.unrecognised": JobUnrecognised,
    "job.overdue": JobOverdue,
    "job.cost_over_estimate": JobCostOverEstimate,
    "poller.auth_failed": PollerAuthFailed,
    "poller.auth_recovered": PollerAuthRecovered,
    "poller.sink_disabled": PollerSinkDisabled,
    "report.daily": ReportDaily,
    "budget.crossed": BudgetCrossed,
    "poller.test": PollerTest,
    "report.digest": ReportDigest,
}
"""The class of each event type."""

TIME_FIELDS: Final = frozenset(
    {
        "datetime_completed",
        "datetime_created",
        "datetime_started",
        "observed_at",
        "period_end",
        "period_start",
        "previous_poll_at",
        "since",
        "timestamp",
        "until",
    }
)

ITEM_TYPES: Final[dict[str, type]] = {
    "events": DigestLine,
    "models": ModelCosts,
    "slowest": ReportedJob,
    "unchanged": ReportedJob,
    "sinks": ReportedSink,
}
"""The class of the items of a field that is a list of objects."""
