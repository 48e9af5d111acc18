"""States of a job, and sequences of observations, for the tests of the lifecycle."""

from dataclasses import replace

from poller.core.jobs import Job
from poller.core.lifecycle import decide
from poller.core.pacing import PollPolicy, next_poll
from poller.core.state import Decision, JobState, LifecyclePolicy, Phase, Signal
from tests.support.builders import FINAL, REASON, a_job

RULES = LifecyclePolicy()
POLICY = PollPolicy()
MOMENT = "2024-01-15T10:30:15Z"
STARTED = {"datetime_started": MOMENT}
FAILED = FINAL | REASON
COMPLETED = {"datetime_completed": MOMENT}
Seen = tuple[float, Job | Signal]


def watch(
    *observations: Seen, state: JobState | None = None, rules: LifecyclePolicy = RULES
) -> list[Decision]:
    """Decide observations one after the other, each with its time; the job is unseen at 0."""
    state = state or JobState(job_id="job-1", since=0.0)
    decisions = []
    for now, seen in observations:
        decisions.append(decide(state, seen, now, rules))
        state = decisions[-1].state
    return decisions


def after(*observations: Seen) -> JobState:
    """Return the state after a sequence of observations."""
    return watch(*observations)[-1].state


def poll_delay(
    state: JobState,
    now: float,
    *,
    result: object = None,
    failures: int = 0,
    rules: LifecyclePolicy = RULES,
    clock_skew: float = 0.0,
) -> float | None:
    """Return the delay until the next poll, by default after one that did not fail, unjittered."""
    poll = next_poll(
        state,
        result,
        failures,
        now=now,
        policy=POLICY,
        rules=rules,
        random=lambda: 0.5,
        clock_skew=clock_skew,
    )
    return poll and poll.delay


def event_types(decisions: list[Decision]) -> list[list[str]]:
    """Return the types of the events of each decision."""
    return [[draft.type.value for draft in decision.drafts] for decision in decisions]


NEW = JobState(job_id="job-1", since=0.0)
QUEUED = after((0.0, a_job("QUEUED")))
RUNNING = after((0.0, a_job("RUNNING")))
CANCELLING = after((0.0, a_job("CANCELLING")))
UNKNOWN = after((0.0, a_job("PAUSED")))
SETTLING = after((0.0, a_job("RUNNING")), (0.0, a_job("SUCCEEDED")))
DOUBTED = replace(SETTLING, regressed_at=0.0)
DONE = after((0.0, a_job("RUNNING")), (0.0, a_job("SUCCEEDED", **FINAL)))
COSTLESS = after((-30.0, a_job("FAILED")), (0.0, Signal.TIMER))
LOST = replace(RUNNING, phase=Phase.MISSING, occurrence=1)
NEVER_SEEN = replace(NEW, phase=Phase.MISSING, occurrence=1, sequence=1)
