"""How an end settles: waiting for the fields that the API adds after the status.

An end is final when the job has no `missing_fields`. Until then the job is polled often, and its
end is announced at the latest after `settle_timeout`. A job whose end was announced before it was
final stays watched, and one job.settled reports the fields that have come.
"""

from dataclasses import replace
from typing import Final

from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.over_estimate import announce_cost
from poller.core.state import (
    Anomaly,
    Decision,
    JobEventType,
    JobState,
    LifecyclePolicy,
    Phase,
    emit,
)

HELD_FOR_WHEN_CANCELLED: Final = frozenset({"datetime_completed"})
"""The end of a cancelled job does not wait for tokens and cost, which it often lacks."""

PARTIAL_SECONDS: Final = 86_400.0
"""Seconds after an end from which job.settled does not wait for further fields."""


def finish(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Settle, or end at once. `status` keeps its last value until the end is announced."""
    if _is_held(seen) and rules.settle_timeout > 0:
        after = replace(state, phase=Phase.SETTLING, since=now, job=seen)
        return Decision(replace(after, misses=0, regressed_at=None))
    return end(state, seen, now, rules)


def settle(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Go on settling until the end is final or its time is over."""
    job = seen.with_fields_of(state.job)
    if _is_held(job) and now < state.since + rules.settle_timeout:
        return Decision(replace(state, job=job, regressed_at=None))
    return end(state, job, now, rules)


def end_on_timeout(state: JobState, now: float, rules: LifecyclePolicy) -> Decision:
    """End a settling job in time, whether or not the API responds."""
    if state.job is None or now < state.since + rules.settle_timeout:
        return Decision(state)
    return end(state, state.job, now, rules)


def end(state: JobState, job: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Announce the end, and remember what it lacks."""
    after = replace(state, phase=Phase.DONE, since=now, status=job.status, job=job, misses=0)
    kind = JobEventType(f"job.{job.status.value.lower()}")
    ended = emit(replace(after, awaited_fields=job.missing_fields), kind, job, state)
    return announce_cost(ended, rules)


def announce_late(state: JobState, seen: Job, now: float, rules: LifecyclePolicy) -> Decision:
    """Keep what has come since the end was announced: nothing else changes once a job is done."""
    if seen.status is not state.status:
        return Decision(state, anomalies=(Anomaly.CONTRADICTED,))
    if not state.awaited_fields:
        return Decision(state)
    after = replace(state, job=seen.with_fields_of(state.job))
    decision = announce_late_on_timeout(after, now, rules)
    is_cost_new = "job_cost" in after.late_fields and "job_cost" not in state.late_fields
    return announce_cost(decision, rules) if is_cost_new else decision


def announce_late_on_timeout(state: JobState, now: float, _rules: LifecyclePolicy) -> Decision:
    """Announce late fields once: as soon as none is missing, or when a part had its time."""
    is_partial = bool(state.job and state.job.missing_fields)
    if not state.late_fields or (is_partial and now < state.since + PARTIAL_SECONDS):
        return Decision(state)
    return emit(replace(state, awaited_fields=()), JobEventType.SETTLED, state.job, state)


def settle_deadline(state: JobState, rules: LifecyclePolicy) -> float | None:
    """Return when `decide` must get Signal.TIMER at the latest, or None."""
    if state.phase is Phase.SETTLING:
        return state.since + rules.settle_timeout
    return state.since + PARTIAL_SECONDS if state.late_fields else None


def _is_held(job: Job) -> bool:
    """Return whether an end is not announced yet, for the fields that it lacks."""
    missing = frozenset(job.missing_fields)
    if job.status is JobStatus.CANCELLED:
        missing &= HELD_FOR_WHEN_CANCELLED
    return bool(missing)
