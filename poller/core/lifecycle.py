"""The state machine of one job: what a look at it means.

Theory of operation. The watcher shows `decide` what one look told (a `Job`, or `ABSENT` for the
API's 404) or that time has passed (`ELAPSED`), and gets back the state to keep and what is to be
announced. A failed look is never shown here: a remote error is not a job's state.

                                 ┌────────── comes back ──────────┐
                                 v                                │
    NEW ── seen ──────────> ACTIVE ── SUCCEEDED, not final ──> SETTLING
     │                       │  ^  └─ any other end ─────┐         │ final, or settle_timeout
     └─ 404 for long ──> MISSING                         v         v
                             └─ seen again: as before   DONE <─────┘

SUCCEEDED can show before the cost and the completion time are written. So a job that succeeded
settles: it is looked at often until it is final, and is announced at the latest after
`settle_timeout`. What was announced without a cost stays on a slow watch for it.

`ON_JOB` and `ON_SIGNAL` have one rule for each cell. Nothing here does I/O, reads a clock or logs:
`now` is seconds of a clock that never jumps, the same for all calls of one process.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from poller.core.jobs import Job, JobStatus
from poller.core.pacing import PollPolicy
from poller.core.state import Anomaly, Decision, EventDraft, JobEventType, JobState, Phase, Signal


class StatusKind(Enum):
    """What kind of job object was seen: the columns of the table."""

    PROGRESS = "a known status that is not terminal"
    TERMINAL = "an end"
    UNKNOWN = "a word that nobody knows, or UNKNOWN itself"


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """The dials of the machine, in seconds."""

    settle_timeout: float = 30.0
    not_found_grace: float = 600.0


SETTLE_INTERVALS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits between the looks of a settling job, for a settle_timeout of 30 s; scaled for others."""
UNSETTLE_SECONDS: Final = 5.0
MISSES_BEFORE_MISSING_NEW: Final = 5
MISSES_BEFORE_MISSING: Final = 3
COMPLETING_INTERVAL: Final = 2.0
COMPLETING_SECONDS: Final = 60.0
UNRECOGNISED_AFTER: Final = 600.0
COST_WATCH_DELAYS: Final = 3_600.0
MISSING_INTERVAL: Final = 3_600.0
MISSING_SECONDS: Final = 7 * 86_400.0


def decide(state: JobState, seen: Job | Signal, now: float, rules: LifecyclePolicy) -> Decision:
    """Say what one look means for a job."""
    if isinstance(seen, Job):
        return ON_JOB[state.phase, _status_kind(seen)](state, seen, now, rules)
    rule = ON_SIGNAL.get((state.phase, seen))
    return rule(state, now, rules) if rule else Decision(state)


def is_no_op(state: JobState, seen: Job) -> bool:
    """Tell whether `decide` would keep the state as it is, for the commonest look of all."""
    return (
        state.phase is Phase.ACTIVE
        and state.status is _progress(seen) is not JobStatus.UNKNOWN
        and not state.misses
        and (state.completing_since or seen.datetime_completed) is None
    )


def settle_deadline(state: JobState, rules: LifecyclePolicy) -> float | None:
    """Say when `decide` must be shown ELAPSED at the latest, or None."""
    return state.since + rules.settle_timeout if state.phase is Phase.SETTLING else None


def next_poll_delay(
    state: JobState,
    now: float,
    policy: PollPolicy,
    rules: LifecyclePolicy,
    *,
    clock_skew: float = 0.0,
) -> float | None:
    """Say in how many seconds to look again, or None for never. Jitter is the caller's.

    `skew` is the API's clock minus ours, in seconds: a job's times are the API's.
    """
    age = now - state.since
    match state.phase:
        case Phase.SETTLING:
            step = SETTLE_INTERVALS[min(state.settle_polls, len(SETTLE_INTERVALS) - 1)]
            return step * rules.settle_timeout / 30.0
        case Phase.MISSING:
            return MISSING_INTERVAL if age < MISSING_SECONDS else None
        case Phase.DONE:
            is_waiting = state.awaits_cost and age < COST_WATCH_DELAYS
            return min(max(30.0, age), 300.0) if is_waiting else None
    if state.completing_since is not None and now - state.completing_since < COMPLETING_SECONDS:
        return COMPLETING_INTERVAL
    return policy.interval(_phase_age(state, now, clock_skew))


def _phase_age(state: JobState, now: float, clock_skew: float) -> float:
    job = state.job
    began = job and (job.datetime_started or job.datetime_created)
    return now + clock_skew - began.timestamp() if began else now - state.since


def _status_kind(seen: Job) -> StatusKind:
    if seen.status.is_terminal:
        return StatusKind.TERMINAL
    return StatusKind.UNKNOWN if seen.status is JobStatus.UNKNOWN else StatusKind.PROGRESS


def _progress(job: Job) -> JobStatus:
    """A start time on a status that comes before RUNNING means that the job runs."""
    early = JobStatus.UNKNOWN.rank < job.status.rank < JobStatus.RUNNING.rank
    return JobStatus.RUNNING if early and job.datetime_started else job.status


def _emit(state: JobState, kind: JobEventType, job: Job | None, before: JobState) -> Decision:
    """Count one event into a state that was `before` until now."""
    state = replace(state, sequence=state.sequence + 1)
    transition = EventDraft(
        type=kind,
        job_id=state.job_id,
        job=job,
        previous_status=None if before.status is JobStatus.UNKNOWN else before.status,
        sequence=state.sequence,
        occurrence=state.occurrence if kind in REPEATABLE_TYPES else 0,
    )
    return Decision(state, (transition,))


REPEATABLE_TYPES: Final = frozenset({JobEventType.MISSING, JobEventType.FOUND})
"""Events that one job can have more than once."""

# The rules, one for each kind of cell.


def _keep(state: JobState, _seen: Job, _now: float, _rules: LifecyclePolicy) -> Decision:
    return Decision(state)


def _record(state: JobState, seen: Job, now: float, _rules: LifecyclePolicy) -> Decision:
    """First sight of a job that has not ended."""
    status = _progress(seen)
    after = replace(
        state, phase=Phase.ACTIVE, since=now, status=status, job=seen, misses=0, settle_polls=0
    )
    after = _mark_present(after, seen, now)
    if status is JobStatus.RUNNING:
        return _emit(after, JobEventType.STARTED, seen, state)
    return Decision(after)


def _advance(state: JobState, seen: Job, now: float, _rules: LifecyclePolicy) -> Decision:
    after = _mark_present(state, seen, now)
    status = _progress(seen)
    if status.rank < state.status.rank:
        return Decision(after, anomalies=(Anomaly.REGRESSED,))
    if status is state.status:
        return Decision(after)
    after = replace(after, status=status, job=seen)
    if status is JobStatus.RUNNING:
        return _emit(after, JobEventType.STARTED, seen, state)
    return Decision(after)


def _unknown_status(state: JobState, seen: Job, now: float, _rules: LifecyclePolicy) -> Decision:
    """An active job with a status that nobody knows: the state stays, it is never an end."""
    after = _mark_present(state, seen, now)
    since = after.completing_since
    if since is None or now - since < UNRECOGNISED_AFTER or state.is_unrecognised:
        return Decision(after, anomalies=(Anomaly.UNKNOWN_STATUS,))
    told = _emit(replace(after, is_unrecognised=True), JobEventType.UNRECOGNISED, seen, state)
    return replace(told, anomalies=(Anomaly.UNKNOWN_STATUS,))


def _finish(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """First sight of an end. `status` stays what it was before it until the end is announced."""
    if seen.status is JobStatus.SUCCEEDED and not seen.is_complete and rules.settle_timeout > 0:
        return Decision(
            replace(state, phase=Phase.SETTLING, since=now, job=seen, settle_polls=0, misses=0)
        )
    return _end(state, seen, now)


def _settle(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    is_over = now >= state.since + rules.settle_timeout
    if seen.status is JobStatus.SUCCEEDED and not seen.is_complete and not is_over:
        return Decision(replace(state, job=seen, settle_polls=state.settle_polls + 1, misses=0))
    return _end(state, seen, now)


def _settle_unseen(state: JobState, now: float, rules: LifecyclePolicy) -> Decision:
    """Time passes for a settling job, whether or not the API can be asked."""
    if state.job is None or now < state.since + rules.settle_timeout:
        return Decision(state)
    return _end(state, state.job, now)


def _end(state: JobState, job: Job, now: float) -> Decision:
    after = replace(state, phase=Phase.DONE, since=now, status=job.status, job=job, misses=0)
    return _emit(after, JobEventType(f"job.{job.status.value.lower()}"), job, state)


def _unsettle(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """A settling job that shows as not ended: believed at the second time, 5 s apart."""
    looks = state.settle_polls + 1
    if not state.misses:
        return Decision(replace(state, misses=1, first_miss_at=now, settle_polls=looks))
    if now - state.first_miss_at < UNSETTLE_SECONDS:
        return Decision(replace(state, settle_polls=looks))
    revived = replace(state, phase=Phase.ACTIVE, since=now, job=seen)
    return replace(_advance(revived, seen, now, rules), anomalies=(Anomaly.REGRESSED,))


def _settle_cost(state: JobState, seen: Job, _now: float, _rules: LifecyclePolicy) -> Decision:
    """A job that is done: a later look can only bring its cost."""
    if seen.status is not state.status:
        return Decision(state, anomalies=(Anomaly.CONTRADICTED,))
    if not state.awaits_cost or seen.job_cost is None:
        return Decision(state)
    return _emit(replace(state, job=seen), JobEventType.COST_SETTLED, seen, state)


def _contradict(state: JobState, _seen: Job, _now: float, _rules: LifecyclePolicy) -> Decision:
    return Decision(state, anomalies=(Anomaly.CONTRADICTED,))


def _not_found(state: JobState, now: float, rules: LifecyclePolicy) -> Decision:
    """Count a 404. A job that was seen gets half the grace of one that never was."""
    first = state.first_miss_at if state.misses else now
    after = replace(state, misses=state.misses + 1, first_miss_at=first)
    needed = MISSES_BEFORE_MISSING if state.job else MISSES_BEFORE_MISSING_NEW
    grace = rules.not_found_grace / 2 if state.job else rules.not_found_grace
    if after.misses < needed or now - first < grace:
        return Decision(after)
    lost = replace(after, phase=Phase.MISSING, since=now, misses=0, occurrence=state.occurrence + 1)
    return _emit(lost, JobEventType.MISSING, state.job, state)


def _reappear(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """A missing job is there again: say so, then go on as if it had never been away."""
    phase = Phase.ACTIVE if state.job else Phase.NEW
    found = _emit(replace(state, phase=phase, since=now), JobEventType.FOUND, seen, state)
    then = decide(found.state, seen, now, rules)
    return replace(then, drafts=found.drafts + then.drafts)


def _mark_present(state: JobState, seen: Job, now: float) -> JobState:
    """Note that an active job is there, and since when it shows a completion time.

    With that its end is near, not proven.
    """
    if state.misses:
        state = replace(state, misses=0)
    if (seen.datetime_completed is None) is (state.completing_since is None):
        return state
    return replace(state, completing_since=now if seen.datetime_completed else None)


Rule = Callable[[JobState, Job, float, LifecyclePolicy], Decision]

ON_JOB: Final[dict[tuple[Phase, StatusKind], Rule]] = {
    (phase, sight): rule
    for phase, row in {
        #                 PROGRESS     TERMINAL      UNKNOWN
        Phase.NEW:       (_record,     _finish,      _record),
        Phase.ACTIVE:    (_advance,    _finish,      _unknown_status),
        Phase.SETTLING:  (_unsettle,     _settle,      _keep),
        Phase.MISSING:   (_reappear,       _reappear,        _reappear),
        Phase.DONE:      (_contradict, _settle_cost, _keep),
    }.items()
    for sight, rule in zip(StatusKind, row, strict=True)
}  # fmt: skip

ON_SIGNAL: Final[
    dict[tuple[Phase, Signal], Callable[[JobState, float, LifecyclePolicy], Decision]]
] = {
    (Phase.NEW, Signal.NOT_FOUND): _not_found,
    (Phase.ACTIVE, Signal.NOT_FOUND): _not_found,
    (Phase.SETTLING, Signal.TIMER): _settle_unseen,
}
"""Every other cell keeps the state."""
