"""The state machine of one job: what one observation of it means.

Theory of operation. The tracker passes `decide` the result of a poll (a `Job`, or
`Signal.NOT_FOUND` for the API's 404), or when time has passed `Signal.TIMER` or an `Overdue`. It
returns the
state to keep and the events to announce. A failed poll never gets here: an error of the API is not
a job's state.

                                 ┌───────── goes on running ──────────┐
                                 v                                    │
    NEW ── shown ─────────> ACTIVE ── an end, not final ────────> SETTLING
     │                       │  ^  └─ a final end ───────┐            │ final, or settle_timeout
     └─ 404 for long ──> MISSING                         v            v
                             └─ shown again: as before  DONE <────────┘

An end can appear before its cost, its tokens and other fields are written. So a job that has ended
settles: it is polled often until its end is final, and is announced at the latest after
`settle_timeout`. A job that was announced before it was final is polled on, slowly.

`ON_JOB` and `ON_SIGNAL` have one rule for each cell. Nothing here does I/O, reads a clock or logs:
`now` is seconds of a clock that never jumps, the same for all calls of one process.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Final

from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.overdue import Overdue
from poller.core.overdue_rule import announce_overdue
from poller.core.settling import (
    announce_late,
    announce_late_on_timeout,
    end_on_timeout,
    finish,
    settle,
)
from poller.core.state import (
    Anomaly,
    Decision,
    JobEventType,
    JobState,
    LifecyclePolicy,
    Phase,
    Signal,
    emit,
)


class StatusKind(Enum):
    """The kinds of job objects: the columns of the table."""

    PROGRESS = "a known status that is not terminal"
    TERMINAL = "a terminal status"
    UNKNOWN = "an unknown status, or UNKNOWN itself"


class Effect(Enum):
    """The effect of an observation on the state of its job."""

    STALE = "none: it is older than the state"
    NONE = "none: the job is as it was"
    CHANGE = "`decide` has to be called"


UNSETTLE_SECONDS: Final = 5.0
"""Seconds between two observations that show a settling job as running, to believe them."""
MISSES_BEFORE_MISSING_NEW: Final = 5
MISSES_BEFORE_MISSING: Final = 3
UNRECOGNISED_SECONDS: Final = 600.0
"""Seconds with an unknown status and a completion time or a failure reason, before the job is
announced."""
STUCK_SECONDS: Final = 86_400.0
"""Seconds with an unknown status alone, or with a completion time and a status that is not
terminal, before the job is announced."""


def decide(
    state: JobState, seen: Job | Signal | Overdue, now: float, rules: LifecyclePolicy
) -> Decision:
    """Return what one observation means for a job."""
    if isinstance(seen, Overdue):
        return announce_overdue(state, seen)
    if isinstance(seen, Job):
        return ON_JOB[state.phase, _status_kind(seen)](state, seen, now, rules)
    rule = ON_SIGNAL.get((state.phase, seen))
    return rule(state, now, rules) if rule else Decision(state)


def effect_of(
    state: JobState, result: object, *, from_list: bool = False, is_outdated: bool = False
) -> Effect:
    """Return the effect of a poll's result, without a decision for the most common ones.

    `is_outdated`: it was requested before the response that was applied last. `from_list`: a page
    of the list shows it, which may lag behind.
    """
    if is_from_clock(result):
        return Effect.CHANGE  # no request: a response that is under way still counts
    if is_outdated:
        return Effect.STALE
    if not isinstance(result, Job):
        return Effect.CHANGE
    if from_list and _lags(state, result):
        return Effect.STALE
    return Effect.NONE if _is_unchanged(state, result) else Effect.CHANGE


def is_from_clock(result: object) -> bool:
    """Return whether a result is that time has passed, which no response shows."""
    return result is Signal.TIMER or isinstance(result, Overdue)


def _status_kind(seen: Job) -> StatusKind:
    if seen.status.is_terminal:
        return StatusKind.TERMINAL
    return StatusKind.UNKNOWN if seen.status is JobStatus.UNKNOWN else StatusKind.PROGRESS


def _lags(state: JobState, job: Job) -> bool:
    """Return whether a list shows a job as it was before: that proves no way back.

    An unknown status is no way back.
    """
    if job.status.is_terminal or job.status is JobStatus.UNKNOWN:
        return False
    if state.phase in {Phase.SETTLING, Phase.DONE}:
        return True
    return job.status is not state.status and job.status.rank < state.status.rank


def is_as_known(state: JobState) -> bool:
    """Return whether a job was observed, and a response that shows it unchanged changes nothing."""
    return state.job is not None and _is_unchanged(state, state.job)


def _is_unchanged(state: JobState, job: Job) -> bool:
    """Return whether `decide` would keep the state, for the most common observation of all."""
    return (
        state.phase is Phase.ACTIVE
        and state.status is _progress(job) is not JobStatus.UNKNOWN
        and not state.misses
        and (state.completing_since or state.unknown_since or job.datetime_completed) is None
        and not job.invalid_fields
    )


def _progress(job: Job) -> JobStatus:
    """Return the status; a start time on one that comes before RUNNING means RUNNING."""
    early = JobStatus.UNKNOWN.rank < job.status.rank < JobStatus.RUNNING.rank
    return JobStatus.RUNNING if early and job.datetime_started else job.status


# The rules, one for each kind of cell.


def _keep(state: JobState, _seen: Job, _now: float, _rules: LifecyclePolicy) -> Decision:
    return Decision(state)


def _record(state: JobState, seen: Job, now: float, _rules: LifecyclePolicy) -> Decision:
    """Record the first observation of a job that has not ended."""
    status = _progress(seen)
    after = replace(state, phase=Phase.ACTIVE, since=now, status=status, job=seen, misses=0)
    after = _mark_present(after, seen, now)
    if status is JobStatus.RUNNING:
        return emit(after, JobEventType.STARTED, seen, state)
    is_unknown = status is JobStatus.UNKNOWN
    return Decision(after, anomalies=(Anomaly.UNKNOWN_STATUS,) if is_unknown else ())


def _advance(state: JobState, seen: Job, now: float, _rules: LifecyclePolicy) -> Decision:
    after, status = _mark_present(state, seen, now), _progress(seen)
    if status.rank < state.status.rank:
        decision = Decision(after, anomalies=(Anomaly.REGRESSED,))
    elif status is state.status:
        decision = Decision(after)
    else:
        after = replace(after, status=status, job=seen)
        is_start = status is JobStatus.RUNNING
        decision = emit(after, JobEventType.STARTED, seen, state) if is_start else Decision(after)
    return _announce_unrecognised(decision, state, seen, now)


def _unknown_status(state: JobState, seen: Job, now: float, _rules: LifecyclePolicy) -> Decision:
    """Keep the state on an unknown status; never treat it as terminal."""
    decision = Decision(_mark_present(state, seen, now), anomalies=(Anomaly.UNKNOWN_STATUS,))
    return _announce_unrecognised(decision, state, seen, now)


def _announce_unrecognised(decision: Decision, before: JobState, seen: Job, now: float) -> Decision:
    """Announce, once, a job that has looked for long as if it had ended."""
    state = decision.state
    if state.is_unrecognised or not _is_stuck(state, seen, now):
        return decision
    after = replace(state, is_unrecognised=True, since=now)
    announced = emit(after, JobEventType.UNRECOGNISED, seen, before)
    drafts = decision.drafts + announced.drafts
    return replace(announced, drafts=drafts, anomalies=decision.anomalies)


def _is_stuck(state: JobState, seen: Job, now: float) -> bool:
    is_unknown = seen.status is JobStatus.UNKNOWN
    limits = (
        (state.completing_since, UNRECOGNISED_SECONDS if is_unknown else STUCK_SECONDS),
        (state.unknown_since, STUCK_SECONDS),
    )
    return any(since is not None and now - since >= seconds for since, seconds in limits)


def _unsettle(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Return to ACTIVE when two observations, 5 s apart, show a settling job as not ended."""
    if state.regressed_at is None:
        return Decision(replace(state, regressed_at=now))
    if now - state.regressed_at < UNSETTLE_SECONDS:
        return Decision(state)
    active = replace(state, phase=Phase.ACTIVE, since=now, job=seen, regressed_at=None)
    return replace(_advance(active, seen, now, rules), anomalies=(Anomaly.REGRESSED,))


def _contradict(state: JobState, _seen: Job, _now: float, _rules: LifecyclePolicy) -> Decision:
    return Decision(state, anomalies=(Anomaly.CONTRADICTED,))


def _not_found(state: JobState, now: float, rules: LifecyclePolicy) -> Decision:
    """Count a 404. A job that was shown before gets half the grace of one that never was."""
    first = state.first_miss_at if state.misses else now
    after = replace(state, misses=state.misses + 1, first_miss_at=first)
    needed = MISSES_BEFORE_MISSING if state.job else MISSES_BEFORE_MISSING_NEW
    grace = rules.not_found_grace / 2 if state.job else rules.not_found_grace
    if after.misses < needed or now - first < grace:
        return Decision(after)
    lost = replace(after, phase=Phase.MISSING, since=now, misses=0, occurrence=state.occurrence + 1)
    return emit(lost, JobEventType.MISSING, state.job, state)


def _reappear(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Announce that a missing job is found, then go on as if it had never been away."""
    phase = Phase.ACTIVE if state.job else Phase.NEW
    found = emit(replace(state, phase=phase, since=now), JobEventType.FOUND, seen, state)
    then = decide(found.state, seen, now, rules)
    return replace(then, drafts=found.drafts + then.drafts)


def _mark_present(state: JobState, seen: Job, now: float) -> JobState:
    """Record that an active job is there, and since when it looks as if it had ended.

    A completion time, or a reason of an unknown status, shows that and does not prove it.
    """
    is_unknown = seen.status is JobStatus.UNKNOWN
    is_completing = seen.datetime_completed is not None or (
        is_unknown and seen.failure_reason is not None
    )
    completing_since = _since(state.completing_since, now, is_so=is_completing)
    unknown_since = _since(state.unknown_since, now, is_so=is_unknown)
    return replace(
        state,
        misses=0,
        completing_since=completing_since,
        unknown_since=unknown_since,
        is_back=state.is_unrecognised and not (is_completing or is_unknown),
    )


def _since(before: float | None, now: float, *, is_so: bool) -> float | None:
    if not is_so:
        return None
    return now if before is None else before


Rule = Callable[[JobState, Job, float, LifecyclePolicy], Decision]

ON_JOB: Final[dict[tuple[Phase, StatusKind], Rule]] = {
    (phase, kind): rule
    for phase, row in {
        #                 PROGRESS     TERMINAL       UNKNOWN
        Phase.NEW:       (_record,     finish,        _record),
        Phase.ACTIVE:    (_advance,    finish,        _unknown_status),
        Phase.SETTLING:  (_unsettle,   settle,        _keep),
        Phase.MISSING:   (_reappear,   _reappear,     _reappear),
        Phase.DONE:      (_contradict, announce_late, _keep),
    }.items()
    for kind, rule in zip(StatusKind, row, strict=True)
}  # fmt: skip

ON_SIGNAL: Final[
    dict[tuple[Phase, Signal], Callable[[JobState, float, LifecyclePolicy], Decision]]
] = {
    (Phase.NEW, Signal.NOT_FOUND): _not_found,
    (Phase.ACTIVE, Signal.NOT_FOUND): _not_found,
    (Phase.SETTLING, Signal.TIMER): end_on_timeout,
    (Phase.DONE, Signal.TIMER): announce_late_on_timeout,
}
"""Every other cell keeps the state."""
