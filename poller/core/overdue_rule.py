"""When a job is overdue, and its announcement, once for each stage.

A job is overdue only if a response shows it in a stage that was requested after its time was over:
while the API is silent or rejects the key, nothing is known. After an end was seen, it never is.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from poller.core.duration_history import DurationHistory
from poller.core.durations import Stage, began_at, stage_of
from poller.core.jobs import is_plausible
from poller.core.overdue import Overdue, OverduePolicy
from poller.core.state import Decision, JobEventType, JobState, Phase, emit


@dataclass(frozen=True, slots=True)
class OverdueRule:
    """The check of one job by the history of others."""

    policy: OverduePolicy
    history: DurationHistory

    def check(
        self, state: JobState, *, now: float, seen_at: float | None, clock_skew: float
    ) -> Overdue | None:
        """Return how a job is overdue; None if it is not, as far as anyone knows.

        `seen_at` is when the last poll was begun that showed it, not at its end, and `clock_skew`
        is the API's clock minus ours: its times are the API's.
        """
        stage, job = overdue_stage(state), state.job
        if job is None or stage is None or stage in state.overdue_stages or seen_at is None:
            return None
        began, api_now = began_at(job, stage), now + clock_skew
        if not is_plausible(began, datetime.fromtimestamp(api_now, UTC)):
            return None
        elapsed = api_now - began.timestamp()
        usual = self.history.usual(job, stage)
        threshold = self.policy.threshold(stage, usual)
        if threshold is None or elapsed - max(now - seen_at, 0.0) < threshold:
            return None
        return Overdue(stage=stage, elapsed=elapsed, threshold=threshold, usual=usual)

    @property
    def is_off(self) -> bool:
        """Return whether no job can be overdue."""
        return self.policy.queued == self.policy.running == math.inf


def overdue_stage(state: JobState) -> Stage | None:
    """Return the stage in which a job may be overdue; None if it may have ended, or is missing."""
    if state.phase is not Phase.ACTIVE or state.job is None or state.is_unrecognised:
        return None
    if state.misses or (state.completing_since or state.unknown_since) is not None:
        return None
    return stage_of(state.job)


def is_overdue(state: JobState) -> bool:
    """Return whether a job is in a stage in which it was announced as overdue."""
    return bool(state.overdue_stages) and overdue_stage(state) in state.overdue_stages


def announce_overdue(state: JobState, overdue: Overdue) -> Decision:
    """Announce that a job is overdue, unless that was done, or it has gone on since."""
    if overdue_stage(state) is not overdue.stage or overdue.stage in state.overdue_stages:
        return Decision(state)
    after = replace(state, overdue_stages=(*state.overdue_stages, overdue.stage))
    decision = emit(after, JobEventType.OVERDUE, state.job, state)
    number = [*Stage].index(overdue.stage) + 1
    drafts = [replace(draft, overdue=overdue, occurrence=number) for draft in decision.drafts]
    return replace(decision, drafts=tuple(drafts))
