"""How a job settles: waiting for its final cost between its end and the event that announces it.

A job that succeeded can appear before its cost and its completion time are written. It is polled
often until it is complete, and is announced at the latest after `settle_timeout`.
"""

from dataclasses import replace
from typing import Final

from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.state import (
    Anomaly,
    Decision,
    JobEventType,
    JobState,
    LifecyclePolicy,
    Phase,
    emit,
)

SETTLE_INTERVALS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between the polls of a settling job, for a settle_timeout of 30 s; scaled for others."""


def finish(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Settle, or end at once. `status` keeps its last value until the end is announced."""
    if seen.status is JobStatus.SUCCEEDED and not seen.is_final and rules.settle_timeout > 0:
        after = replace(state, phase=Phase.SETTLING, since=now, job=seen)
        return Decision(replace(after, settle_polls=0, misses=0, regressed_at=None))
    return end(state, seen, now)


def settle(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Go on settling until the job is complete or its time is over."""
    is_over = now >= state.since + rules.settle_timeout
    if seen.status is JobStatus.SUCCEEDED and not seen.is_final and not is_over:
        polls = state.settle_polls + 1
        return Decision(replace(state, job=seen, settle_polls=polls, regressed_at=None))
    return end(state, seen, now)


def end_on_timeout(state: JobState, now: float, rules: LifecyclePolicy) -> Decision:
    """End a settling job in time, whether or not the API responds."""
    if state.job is None or now < state.since + rules.settle_timeout:
        return Decision(state)
    return end(state, state.job, now)


def end(state: JobState, job: Job, now: float) -> Decision:
    """Announce the end."""
    after = replace(state, phase=Phase.DONE, since=now, status=job.status, job=job, misses=0)
    return emit(after, JobEventType(f"job.{job.status.value.lower()}"), job, state)


def announce_cost(state: JobState, seen: Job, _now: float, _rules: LifecyclePolicy) -> Decision:
    """Announce a cost that came late: nothing else changes once a job is done."""
    if seen.status is not state.status:
        return Decision(state, anomalies=(Anomaly.CONTRADICTED,))
    if not state.awaits_cost or seen.job_cost is None:
        return Decision(state)
    return emit(replace(state, job=seen), JobEventType.SETTLED, seen, state)


def settle_deadline(state: JobState, rules: LifecyclePolicy) -> float | None:
    """Return when `decide` must get Signal.TIMER at the latest, or None."""
    return state.since + rules.settle_timeout if state.phase is Phase.SETTLING else None
