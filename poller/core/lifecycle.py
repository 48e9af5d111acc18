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

`SEEN` and `UNSEEN` have one rule for each cell. Nothing here does I/O, reads a clock or logs: `now`
is seconds of a clock that never jumps, the same for all calls of one process.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from poller.core.jobs import Job, JobStatus
from poller.core.pacing import PollPolicy
from poller.core.state import Decision, JobEvent, JobState, NoJob, Phase, Remark, Transition


class Sight(Enum):
    """What kind of job object was seen: the columns of the table."""

    PROGRESS = "a known status that is not terminal"
    TERMINAL = "an end"
    UNKNOWN = "a word that nobody knows, or UNKNOWN itself"


@dataclass(frozen=True, slots=True)
class Rules:
    """The dials of the machine, in seconds."""

    settle_timeout: float = 30.0
    not_found_grace: float = 600.0


SETTLE_STEPS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits between the looks of a settling job, for a settle_timeout of 30 s; scaled for others."""
REVIVAL_GAP: Final = 5.0
NEW_MISSES: Final = 5
SEEN_MISSES: Final = 3
COMPLETING_INTERVAL: Final = 2.0
COMPLETING_FOR: Final = 60.0
UNRECOGNISED_AFTER: Final = 600.0
COST_WATCH: Final = 3_600.0
MISSING_INTERVAL: Final = 3_600.0
MISSING_FOR: Final = 7 * 86_400.0


def decide(state: JobState, seen: Job | NoJob, now: float, rules: Rules) -> Decision:
    """Say what one look means for a job."""
    if isinstance(seen, Job):
        return SEEN[state.phase, _sight(seen)](state, seen, now, rules)
    rule = UNSEEN.get((state.phase, seen))
    return rule(state, now, rules) if rule else Decision(state)


def is_idle(state: JobState, seen: Job) -> bool:
    """Tell whether `decide` would keep the state as it is, for the commonest look of all."""
    return (
        state.phase is Phase.ACTIVE
        and state.status is _progress(seen) is not JobStatus.UNKNOWN
        and not state.doubts
        and (state.completing_since or seen.datetime_completed) is None
    )


def deadline(state: JobState, rules: Rules) -> float | None:
    """Say when `decide` must be shown ELAPSED at the latest, or None."""
    return state.since + rules.settle_timeout if state.phase is Phase.SETTLING else None


def next_look(
    state: JobState, now: float, policy: PollPolicy, rules: Rules, *, skew: float = 0.0
) -> float | None:
    """Say in how many seconds to look again, or None for never. Jitter is the caller's.

    `skew` is the API's clock minus ours, in seconds: a job's times are the API's.
    """
    age = now - state.since
    match state.phase:
        case Phase.SETTLING:
            step = SETTLE_STEPS[min(state.looks, len(SETTLE_STEPS) - 1)]
            return step * rules.settle_timeout / 30.0
        case Phase.MISSING:
            return MISSING_INTERVAL if age < MISSING_FOR else None
        case Phase.DONE:
            is_waiting = state.awaits_cost and age < COST_WATCH
            return min(max(30.0, age), 300.0) if is_waiting else None
    if state.completing_since is not None and now - state.completing_since < COMPLETING_FOR:
        return COMPLETING_INTERVAL
    return policy.interval(_phase_age(state, now, skew))


def _phase_age(state: JobState, now: float, skew: float) -> float:
    job = state.job
    began = job and (job.datetime_started or job.datetime_created)
    return now + skew - began.timestamp() if began else now - state.since


def _sight(seen: Job) -> Sight:
    if seen.status.is_terminal:
        return Sight.TERMINAL
    return Sight.UNKNOWN if seen.status is JobStatus.UNKNOWN else Sight.PROGRESS


def _progress(job: Job) -> JobStatus:
    """A start time on a status that comes before RUNNING means that the job runs."""
    early = JobStatus.UNKNOWN.rank < job.status.rank < JobStatus.RUNNING.rank
    return JobStatus.RUNNING if early and job.datetime_started else job.status


def _announce(state: JobState, kind: JobEvent, job: Job | None, before: JobState) -> Decision:
    """Count one event into a state that was `before` until now."""
    state = replace(state, sequence=state.sequence + 1)
    transition = Transition(
        type=kind,
        job_id=state.job_id,
        job=job,
        previous_status=None if before.status is JobStatus.UNKNOWN else before.status,
        sequence=state.sequence,
        occurrence=state.occurrence if kind in REPEATABLE else 0,
    )
    return Decision(state, (transition,))


REPEATABLE: Final = frozenset({JobEvent.MISSING, JobEvent.FOUND})
"""Events that one job can have more than once."""

# The rules, one for each kind of cell.


def _keep(state: JobState, _seen: Job, _now: float, _rules: Rules) -> Decision:
    return Decision(state)


def _record(state: JobState, seen: Job, now: float, _rules: Rules) -> Decision:
    """First sight of a job that has not ended."""
    status = _progress(seen)
    after = replace(
        state, phase=Phase.ACTIVE, since=now, status=status, job=seen, doubts=0, looks=0
    )
    after = _confirmed(after, seen, now)
    if status is JobStatus.RUNNING:
        return _announce(after, JobEvent.STARTED, seen, state)
    return Decision(after)


def _advance(state: JobState, seen: Job, now: float, _rules: Rules) -> Decision:
    after = _confirmed(state, seen, now)
    status = _progress(seen)
    if status.rank < state.status.rank:
        return Decision(after, remarks=(Remark.REGRESSED,))
    if status is state.status:
        return Decision(after)
    after = replace(after, status=status, job=seen)
    if status is JobStatus.RUNNING:
        return _announce(after, JobEvent.STARTED, seen, state)
    return Decision(after)


def _puzzle(state: JobState, seen: Job, now: float, _rules: Rules) -> Decision:
    """An active job with a status that nobody knows: the state stays, it is never an end."""
    after = _confirmed(state, seen, now)
    since = after.completing_since
    if since is None or now - since < UNRECOGNISED_AFTER or state.is_unrecognised:
        return Decision(after, remarks=(Remark.UNKNOWN_STATUS,))
    told = _announce(replace(after, is_unrecognised=True), JobEvent.UNRECOGNISED, seen, state)
    return replace(told, remarks=(Remark.UNKNOWN_STATUS,))


def _finish(state: JobState, seen: Job, now: float, rules: Rules) -> Decision:
    """First sight of an end. `status` stays what it was before it until the end is announced."""
    if seen.status is JobStatus.SUCCEEDED and not seen.is_final and rules.settle_timeout > 0:
        return Decision(
            replace(state, phase=Phase.SETTLING, since=now, job=seen, looks=0, doubts=0)
        )
    return _end(state, seen, now)


def _settle(state: JobState, seen: Job, now: float, rules: Rules) -> Decision:
    is_over = now >= state.since + rules.settle_timeout
    if seen.status is JobStatus.SUCCEEDED and not seen.is_final and not is_over:
        return Decision(replace(state, job=seen, looks=state.looks + 1, doubts=0))
    return _end(state, seen, now)


def _settle_unseen(state: JobState, now: float, rules: Rules) -> Decision:
    """Time passes for a settling job, whether or not the API can be asked."""
    if state.job is None or now < state.since + rules.settle_timeout:
        return Decision(state)
    return _end(state, state.job, now)


def _end(state: JobState, job: Job, now: float) -> Decision:
    after = replace(state, phase=Phase.DONE, since=now, status=job.status, job=job, doubts=0)
    return _announce(after, JobEvent(f"job.{job.status.value.lower()}"), job, state)


def _revive(state: JobState, seen: Job, now: float, rules: Rules) -> Decision:
    """A settling job that shows as not ended: believed at the second time, 5 s apart."""
    looks = state.looks + 1
    if not state.doubts:
        return Decision(replace(state, doubts=1, doubted_at=now, looks=looks))
    if now - state.doubted_at < REVIVAL_GAP:
        return Decision(replace(state, looks=looks))
    revived = replace(state, phase=Phase.ACTIVE, since=now, job=seen)
    return replace(_advance(revived, seen, now, rules), remarks=(Remark.REGRESSED,))


def _settle_cost(state: JobState, seen: Job, _now: float, _rules: Rules) -> Decision:
    """A job that is done: a later look can only bring its cost."""
    if seen.status is not state.status:
        return Decision(state, remarks=(Remark.CONTRADICTED,))
    if not state.awaits_cost or seen.job_cost is None:
        return Decision(state)
    return _announce(replace(state, job=seen), JobEvent.COST_SETTLED, seen, state)


def _contradict(state: JobState, _seen: Job, _now: float, _rules: Rules) -> Decision:
    return Decision(state, remarks=(Remark.CONTRADICTED,))


def _miss(state: JobState, now: float, rules: Rules) -> Decision:
    """Count a 404. A job that was seen gets half the grace of one that never was."""
    first = state.doubted_at if state.doubts else now
    after = replace(state, doubts=state.doubts + 1, doubted_at=first)
    needed = SEEN_MISSES if state.job else NEW_MISSES
    grace = rules.not_found_grace / 2 if state.job else rules.not_found_grace
    if after.doubts < needed or now - first < grace:
        return Decision(after)
    lost = replace(after, phase=Phase.MISSING, since=now, doubts=0, occurrence=state.occurrence + 1)
    return _announce(lost, JobEvent.MISSING, state.job, state)


def _find(state: JobState, seen: Job, now: float, rules: Rules) -> Decision:
    """A missing job is there again: say so, then go on as if it had never been away."""
    phase = Phase.ACTIVE if state.job else Phase.NEW
    found = _announce(replace(state, phase=phase, since=now), JobEvent.FOUND, seen, state)
    then = decide(found.state, seen, now, rules)
    return replace(then, transitions=found.transitions + then.transitions)


def _confirmed(state: JobState, seen: Job, now: float) -> JobState:
    """Note that an active job is there, and since when it shows a completion time.

    With that its end is near, not proven.
    """
    if state.doubts:
        state = replace(state, doubts=0)
    if (seen.datetime_completed is None) is (state.completing_since is None):
        return state
    return replace(state, completing_since=now if seen.datetime_completed else None)


Rule = Callable[[JobState, Job, float, Rules], Decision]

SEEN: Final[dict[tuple[Phase, Sight], Rule]] = {
    (phase, sight): rule
    for phase, row in {
        #                 PROGRESS     TERMINAL      UNKNOWN
        Phase.NEW:       (_record,     _finish,      _record),
        Phase.ACTIVE:    (_advance,    _finish,      _puzzle),
        Phase.SETTLING:  (_revive,     _settle,      _keep),
        Phase.MISSING:   (_find,       _find,        _find),
        Phase.DONE:      (_contradict, _settle_cost, _keep),
    }.items()
    for sight, rule in zip(Sight, row, strict=True)
}  # fmt: skip

UNSEEN: Final[dict[tuple[Phase, NoJob], Callable[[JobState, float, Rules], Decision]]] = {
    (Phase.NEW, NoJob.ABSENT): _miss,
    (Phase.ACTIVE, NoJob.ABSENT): _miss,
    (Phase.SETTLING, NoJob.ELAPSED): _settle_unseen,
}
"""Every other cell keeps the state."""
