"""The state machine of a job, cell by cell and bullet by bullet."""

from dataclasses import replace

import pytest

from poller.jobs import Job, JobStatus
from poller.lifecycle import (
    Decision,
    JobEvent,
    JobState,
    NoJob,
    Phase,
    Remark,
    Rules,
    deadline,
    decide,
    next_look,
)
from poller.schedule import PollPolicy
from tests.support import FINAL, a_job

RULES = Rules()
POLICY = PollPolicy()
MOMENT = "2024-01-15T10:30:15Z"
STARTED = {"datetime_started": MOMENT}
COMPLETED = {"datetime_completed": MOMENT}
Look = tuple[float, Job | NoJob]


def watch(*looks: Look, state: JobState | None = None, rules: Rules = RULES) -> list[Decision]:
    """Show looks one after the other, each with its time, to a job that begins unseen at 0."""
    state = state or JobState(job_id="job-1", since=0.0)
    decisions = []
    for now, seen in looks:
        decisions.append(decide(state, seen, now, rules))
        state = decisions[-1].state
    return decisions


def after(*looks: Look) -> JobState:
    """Give the state that a row of looks leaves behind."""
    return watch(*looks)[-1].state


def told(decisions: list[Decision]) -> list[list[str]]:
    """Give the types of what each decision announces."""
    return [[it.type.value for it in decision.transitions] for decision in decisions]


NEW = JobState(job_id="job-1", since=0.0)
QUEUED = after((0.0, a_job("QUEUED")))
RUNNING = after((0.0, a_job("RUNNING")))
CANCELLING = after((0.0, a_job("CANCELLING")))
UNKNOWN = after((0.0, a_job("PAUSED")))
SETTLING = after((0.0, a_job("RUNNING")), (0.0, a_job("SUCCEEDED")))
DOUBTED = replace(SETTLING, doubts=1, doubted_at=0.0)
DONE = after((0.0, a_job("RUNNING")), (0.0, a_job("SUCCEEDED", **FINAL)))
COSTLESS = after((0.0, a_job("FAILED")))
LOST = replace(RUNNING, phase=Phase.MISSING, occurrence=1)
NEVER_SEEN = replace(NEW, phase=Phase.MISSING, occurrence=1, sequence=1)

CELLS = [
    # never seen
    (NEW, a_job("SUBMITTED"), Phase.ACTIVE, "SUBMITTED", "", ""),
    (NEW, a_job("QUEUED"), Phase.ACTIVE, "QUEUED", "", ""),
    (NEW, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (NEW, a_job("QUEUED", **STARTED), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (NEW, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", ""),
    (NEW, a_job("CANCELLING", **STARTED), Phase.ACTIVE, "CANCELLING", "", ""),
    (NEW, a_job("UNKNOWN"), Phase.ACTIVE, "UNKNOWN", "", ""),
    (NEW, a_job("PAUSED"), Phase.ACTIVE, "UNKNOWN", "", ""),
    (NEW, a_job("SUCCEEDED"), Phase.SETTLING, "UNKNOWN", "", ""),
    (NEW, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (NEW, a_job("COMPLETE", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (NEW, a_job("FAILED"), Phase.DONE, "FAILED", "job.failed", ""),
    (NEW, a_job("ERROR"), Phase.DONE, "FAILED", "job.failed", ""),
    (NEW, a_job("CANCELLED"), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    (NEW, a_job("CANCELED"), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    # active, the same or higher
    (QUEUED, a_job("QUEUED"), Phase.ACTIVE, "QUEUED", "", ""),
    (QUEUED, a_job("STARTING"), Phase.ACTIVE, "STARTING", "", ""),
    (QUEUED, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (QUEUED, a_job("QUEUED", **STARTED), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (QUEUED, a_job("PENDING", **STARTED), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (QUEUED, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", ""),
    (UNKNOWN, a_job("SUBMITTED"), Phase.ACTIVE, "SUBMITTED", "", ""),
    (RUNNING, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "", ""),
    (RUNNING, a_job("STARTING", **STARTED), Phase.ACTIVE, "RUNNING", "", ""),
    (RUNNING, a_job("RUNNING", **FINAL), Phase.ACTIVE, "RUNNING", "", ""),
    (RUNNING, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", ""),
    # active, lower
    (QUEUED, a_job("PENDING"), Phase.ACTIVE, "QUEUED", "", "job.regressed"),
    (RUNNING, a_job("QUEUED"), Phase.ACTIVE, "RUNNING", "", "job.regressed"),
    (CANCELLING, a_job("RUNNING"), Phase.ACTIVE, "CANCELLING", "", "job.regressed"),
    # active, an end
    (QUEUED, a_job("SUCCEEDED"), Phase.SETTLING, "QUEUED", "", ""),
    (QUEUED, a_job("SUCCEEDED", job_cost=1), Phase.SETTLING, "QUEUED", "", ""),
    (QUEUED, a_job("SUCCEEDED", **COMPLETED), Phase.SETTLING, "QUEUED", "", ""),
    (QUEUED, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (QUEUED, a_job("FAILED"), Phase.DONE, "FAILED", "job.failed", ""),
    (RUNNING, a_job("FAILED"), Phase.DONE, "FAILED", "job.failed", ""),
    (CANCELLING, a_job("CANCELLED"), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    (CANCELLING, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (UNKNOWN, a_job("FAILED"), Phase.DONE, "FAILED", "job.failed", ""),
    # active, an unknown word
    (RUNNING, a_job("PAUSED"), Phase.ACTIVE, "RUNNING", "", "job.unknown_status"),
    (RUNNING, a_job("UNKNOWN"), Phase.ACTIVE, "RUNNING", "", "job.unknown_status"),
    (RUNNING, a_job("PAUSED", **FINAL), Phase.ACTIVE, "RUNNING", "", "job.unknown_status"),
    (UNKNOWN, a_job("PAUSED"), Phase.ACTIVE, "UNKNOWN", "", "job.unknown_status"),
    # settling
    (SETTLING, a_job("RUNNING"), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("QUEUED"), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("SUCCEEDED"), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (SETTLING, a_job("FAILED"), Phase.DONE, "FAILED", "job.failed", ""),
    (SETTLING, a_job("CANCELLED"), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    (SETTLING, a_job("PAUSED", **FINAL), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, NoJob.ABSENT, Phase.SETTLING, "RUNNING", "", ""),
    (DOUBTED, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "", "job.regressed"),
    (DOUBTED, a_job("QUEUED"), Phase.ACTIVE, "RUNNING", "", "job.regressed"),
    (DOUBTED, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", "job.regressed"),
    (DOUBTED, a_job("PAUSED"), Phase.SETTLING, "RUNNING", "", ""),
    # done
    (DONE, a_job("RUNNING"), Phase.DONE, "SUCCEEDED", "", "job.contradicted"),
    (DONE, a_job("QUEUED"), Phase.DONE, "SUCCEEDED", "", "job.contradicted"),
    (DONE, a_job("FAILED"), Phase.DONE, "SUCCEEDED", "", "job.contradicted"),
    (DONE, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "", ""),
    (DONE, a_job("SUCCEEDED"), Phase.DONE, "SUCCEEDED", "", ""),
    (DONE, a_job("PAUSED"), Phase.DONE, "SUCCEEDED", "", ""),
    (DONE, NoJob.ABSENT, Phase.DONE, "SUCCEEDED", "", ""),
    (COSTLESS, a_job("FAILED"), Phase.DONE, "FAILED", "", ""),
    (COSTLESS, a_job("FAILED", **FINAL), Phase.DONE, "FAILED", "job.cost_settled", ""),
    (COSTLESS, a_job("FAILED", job_cost=0), Phase.DONE, "FAILED", "job.cost_settled", ""),
    (COSTLESS, a_job("SUCCEEDED", **FINAL), Phase.DONE, "FAILED", "", "job.contradicted"),
    # missing
    (LOST, NoJob.ABSENT, Phase.MISSING, "RUNNING", "", ""),
    (LOST, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.found", ""),
    (LOST, a_job("QUEUED"), Phase.ACTIVE, "RUNNING", "job.found", "job.regressed"),
    (LOST, a_job("PAUSED"), Phase.ACTIVE, "RUNNING", "job.found", "job.unknown_status"),
    (LOST, a_job("SUCCEEDED"), Phase.SETTLING, "RUNNING", "job.found", ""),
    (LOST, a_job("FAILED"), Phase.DONE, "FAILED", "job.found job.failed", ""),
    (NEVER_SEEN, a_job("QUEUED"), Phase.ACTIVE, "QUEUED", "job.found", ""),
    (NEVER_SEEN, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.found job.started", ""),
    (NEVER_SEEN, a_job("PAUSED"), Phase.ACTIVE, "UNKNOWN", "job.found", ""),
    (NEVER_SEEN, a_job("FAILED"), Phase.DONE, "FAILED", "job.found job.failed", ""),
    # one 404 means nothing yet
    (NEW, NoJob.ABSENT, Phase.NEW, "UNKNOWN", "", ""),
    (RUNNING, NoJob.ABSENT, Phase.ACTIVE, "RUNNING", "", ""),
]


@pytest.mark.parametrize(
    ("state", "seen", "phase", "status", "events", "remarks"), CELLS, ids=range(len(CELLS))
)
def test_every_cell(state, seen, phase, status, events, remarks):
    """One look five seconds later means what the table says."""
    decision = decide(state, seen, 5.0, RULES)

    assert (decision.state.phase, decision.state.status) == (phase, status)
    assert [it.type for it in decision.transitions] == events.split()
    assert list(decision.remarks) == remarks.split()
    assert decision.state.sequence == state.sequence + len(decision.transitions)


@pytest.mark.parametrize("state", [NEW, QUEUED, RUNNING, UNKNOWN, DONE, COSTLESS, LOST])
def test_time_alone_changes_nothing(state):
    """Whatever time passes without a look, only a settling job changes."""
    assert decide(state, NoJob.ELAPSED, 1e9, RULES) == Decision(state)


# What is told of a transition.


def test_missed_states_are_not_invented():
    """From QUEUED to an end in one look is one event, which carries the start in its job."""
    job = a_job("SUCCEEDED", **STARTED, **FINAL)
    (transition,) = decide(QUEUED, job, 60.0, RULES).transitions

    assert transition.type is JobEvent.SUCCEEDED
    assert transition.previous_status is JobStatus.QUEUED
    assert transition.job is job
    assert transition.sequence == 1


def test_nothing_was_before_the_first_sight():
    """An event at the first sight has no previous status."""
    (transition,) = decide(NEW, a_job("FAILED"), 0.0, RULES).transitions

    assert transition.previous_status is None
    assert transition.sequence == 1


def test_the_previous_status_survives_settling():
    """The end of a job that settled tells the status before its first terminal sight."""
    (transition,) = decide(SETTLING, a_job("SUCCEEDED", **FINAL), 8.0, RULES).transitions

    assert transition.previous_status is JobStatus.RUNNING
    assert transition.sequence == 2


def test_started_is_told_once():
    """Running, being set back to the queue and running again is one start."""
    words = ["QUEUED", "RUNNING", "QUEUED", "RUNNING", "CANCELLING", "RUNNING"]
    decisions = watch(*[(float(at), a_job(word)) for at, word in enumerate(words)])

    assert told(decisions) == [[], ["job.started"], [], [], [], []]


# The end that is near, and words that nobody knows.


def test_a_completion_time_without_an_end_is_looked_at_often():
    """A job that shows a completion time is looked at every 2 s for a minute, then as others."""
    state = after((0.0, a_job("RUNNING")), (100.0, a_job("RUNNING", **COMPLETED)))

    assert state.phase is Phase.ACTIVE
    assert next_look(state, 100.0, POLICY, RULES) == 2.0
    assert next_look(state, 159.0, POLICY, RULES) == 2.0
    assert next_look(state, 160.0, POLICY, RULES) == POLICY.interval(160.0)


def test_a_completion_time_that_goes_away():
    """When the completion time is gone again, so is the haste; it begins anew with the next."""
    running, completing = a_job("RUNNING"), a_job("RUNNING", **COMPLETED)
    gone = after((0.0, completing), (10.0, running))
    back = after((0.0, completing), (10.0, running), (200.0, completing))

    assert next_look(gone, 10.0, POLICY, RULES) == POLICY.interval(10.0)
    assert next_look(back, 201.0, POLICY, RULES) == 2.0


def test_an_unrecognised_end_is_told_once():
    """An unknown word with a completion time for ten minutes is told, once."""
    paused = a_job("PAUSED", **COMPLETED)
    looks = [(at, paused) for at in (0.0, 300.0, 599.0, 600.0, 601.0, 5_000.0)]
    decisions = watch(*looks, state=RUNNING)

    assert told(decisions) == [[], [], [], ["job.unrecognised"], [], []]
    assert {it.state.phase for it in decisions} == {Phase.ACTIVE}


def test_a_known_end_after_an_unrecognised_one():
    """A job that was told as unrecognised still has its end."""
    paused = a_job("PAUSED", **COMPLETED)
    decisions = watch((0.0, paused), (600.0, paused), (700.0, a_job("FAILED")))

    assert told(decisions) == [[], ["job.unrecognised"], ["job.failed"]]


def test_an_unknown_word_without_a_completion_time_is_never_told():
    """An unknown word alone, for however long, is no end and no event."""
    decisions = watch((0.0, a_job("PAUSED")), (1e6, a_job("PAUSED")))

    assert told(decisions) == [[], []]


# Settling.


def test_the_settle_ladder():
    """A settling job is looked at after 1, 2, 4, 8 and 15 s, which is its timeout in all."""
    state, now, waits = after((0.0, a_job("SUCCEEDED"))), 0.0, []
    while state.phase is Phase.SETTLING:
        waits.append(next_look(state, now, POLICY, RULES))
        now += waits[-1]
        state = decide(state, a_job("SUCCEEDED"), now, RULES).state

    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0]
    assert now == RULES.settle_timeout


def test_the_settle_ladder_scales():
    """With another settle timeout the steps of the ladder scale with it."""
    state = after((0.0, a_job("SUCCEEDED")))

    assert next_look(state, 0.0, POLICY, Rules(settle_timeout=60.0)) == 2.0


def test_settling_ends_when_the_job_is_complete():
    """A job is told as soon as cost and completion time are there."""
    looks = [
        (0.0, a_job("SUCCEEDED")),
        (1.0, a_job("SUCCEEDED", **COMPLETED)),
        (3.0, a_job("SUCCEEDED", **FINAL)),
    ]
    decisions = watch(*looks)

    assert told(decisions) == [[], [], ["job.succeeded"]]
    assert decisions[-1].transitions[0].job.is_final


@pytest.mark.parametrize("seen", [NoJob.ELAPSED, a_job("SUCCEEDED")])
def test_settling_ends_after_its_timeout(seen):
    """A job is told 30 s after the first sight of its end, seen again or not, as not final."""
    decisions = watch((0.0, a_job("SUCCEEDED")), (29.9, seen), (30.0, seen))

    assert told(decisions) == [[], [], ["job.succeeded"]]
    assert not decisions[-1].transitions[0].job.is_final
    assert decisions[-1].state.awaits_cost


def test_settling_has_a_deadline():
    """Only a settling job has a time at which `decide` must be called."""
    assert deadline(replace(SETTLING, since=100.0), RULES) == 130.0
    assert [deadline(it, RULES) for it in (NEW, RUNNING, DONE, LOST)] == [None] * 4


def test_what_was_seen_last_is_told_at_the_timeout():
    """A settling job is told as it was seen last, though no look answers at the end."""
    known = a_job("SUCCEEDED", job_cost=0.5)
    decisions = watch((0.0, a_job("SUCCEEDED")), (1.0, known), (30.0, NoJob.ELAPSED))

    assert decisions[-1].transitions[0].job is known


def test_without_a_settle_timeout_nothing_settles():
    """A settle timeout of 0 tells every success at its first sight."""
    decisions = watch((0.0, a_job("SUCCEEDED")), rules=Rules(settle_timeout=0.0))

    assert told(decisions) == [["job.succeeded"]]


REVIVALS = [
    ([(1.0, "RUNNING"), (5.9, "RUNNING")], Phase.SETTLING),
    ([(1.0, "RUNNING"), (6.0, "RUNNING")], Phase.ACTIVE),
    ([(1.0, "RUNNING"), (3.0, "RUNNING"), (6.0, "QUEUED")], Phase.ACTIVE),
    ([(1.0, "RUNNING"), (3.0, "SUCCEEDED"), (6.0, "RUNNING")], Phase.SETTLING),
    ([(1.0, "RUNNING"), (3.0, "PAUSED"), (6.0, "RUNNING")], Phase.ACTIVE),
    ([(1.0, "PAUSED"), (6.0, "PAUSED"), (12.0, "PAUSED")], Phase.SETTLING),
]


@pytest.mark.parametrize(("looks", "phase"), REVIVALS)
def test_revival(looks, phase):
    """Two sights of a job that goes on, 5 s apart and with no end between, bring it back."""
    decisions = watch(*[(at, a_job(word)) for at, word in looks], state=SETTLING)

    assert decisions[-1].state.phase is phase
    assert not any(it.transitions for it in decisions)


def test_a_revived_job_goes_on():
    """A revived job can run for long, and ends once."""
    looks = [(1.0, a_job("RUNNING")), (7.0, a_job("RUNNING")), (1_000.0, NoJob.ELAPSED)]
    decisions = watch(*looks, (2_000.0, a_job("FAILED")), state=SETTLING)

    assert told(decisions) == [[], [], [], ["job.failed"]]


def test_a_revived_job_that_first_runs_has_started():
    """The start of a job that seemed to end in the queue is told when it is brought back."""
    looks = [(0.0, a_job("SUCCEEDED")), (1.0, a_job("RUNNING")), (7.0, a_job("RUNNING"))]
    decisions = watch(*looks, state=QUEUED)

    assert told(decisions) == [[], [], ["job.started"]]
    assert decisions[-1].state.job == a_job("RUNNING")


# The cost that comes late.


def test_a_late_cost_is_told_once():
    """What was told without a cost is followed by one event when the cost comes."""
    late = a_job("FAILED", job_cost=0.25)
    decisions = watch((60.0, a_job("FAILED")), (90.0, late), (95.0, late), state=COSTLESS)

    assert told(decisions) == [[], ["job.cost_settled"], []]
    assert decisions[1].transitions[0].job is late
    assert decisions[1].transitions[0].sequence == COSTLESS.sequence + 1


def test_the_watch_for_a_cost_is_slow_and_ends():
    """A missing cost is looked for every 30 s at first, later every 5 minutes, for an hour."""
    waits = [next_look(COSTLESS, now, POLICY, RULES) for now in (0.0, 100.0, 1_000.0, 3_600.0)]

    assert waits == [30.0, 100.0, 300.0, None]


def test_what_is_done_is_not_looked_at():
    """A job that was told with its cost is never looked at again."""
    assert next_look(DONE, 0.0, POLICY, RULES) is None


# 404.

ABSENCES = [
    (NEW, [0, 100, 200, 300, 600], Phase.MISSING),
    (NEW, [0, 100, 200, 300, 599], Phase.NEW),
    (NEW, [0, 300, 600, 900], Phase.NEW),
    (NEW, [0, 300, 600, 900, 901], Phase.MISSING),
    (RUNNING, [0, 150, 300], Phase.MISSING),
    (RUNNING, [0, 150, 299], Phase.ACTIVE),
    (RUNNING, [0, 300], Phase.ACTIVE),
    (RUNNING, [0, 1, 2, 3, 4, 5], Phase.ACTIVE),
]


@pytest.mark.parametrize(("state", "times", "phase"), ABSENCES)
def test_404s(state, times, phase):
    """A job is missing after 5 misses in 10 minutes, or 3 in 5 minutes once it was seen."""
    decisions = watch(*[(float(at), NoJob.ABSENT) for at in times], state=state)

    assert decisions[-1].state.phase is phase
    assert told(decisions)[-1] == ["job.missing"] * (phase is Phase.MISSING)
    assert not any(told(decisions)[:-1])


def test_a_sight_between_404s_counts_them_anew():
    """Misses count only in a row."""
    looks = [(0.0, NoJob.ABSENT), (150.0, NoJob.ABSENT), (200.0, a_job("RUNNING"))]
    decisions = watch(*looks, (300.0, NoJob.ABSENT), (450.0, NoJob.ABSENT), state=RUNNING)

    assert decisions[-1].state.phase is Phase.ACTIVE


def test_a_job_that_was_never_seen_is_missing_without_an_object():
    """The event of a never-seen job has neither object nor previous status."""
    decisions = watch(*[(at, NoJob.ABSENT) for at in (0.0, 1.0, 2.0, 3.0, 600.0)])
    (transition,) = decisions[-1].transitions

    assert (transition.job, transition.previous_status) == (None, None)
    assert (transition.sequence, transition.occurrence) == (1, 1)


def test_missing_and_found_again_and_again():
    """Each time a job goes missing and is found has a number of its own, the same for both."""
    absence = [(at, NoJob.ABSENT) for at in (0.0, 150.0, 300.0)]
    again = [(at + 1_000.0, NoJob.ABSENT) for at, _ in absence]
    looks = [*absence, (400.0, a_job("RUNNING")), *again, (2_000.0, a_job("RUNNING"))]
    transitions = [it for made in watch(*looks, state=RUNNING) for it in made.transitions]

    assert [(it.type, it.occurrence, it.sequence) for it in transitions] == [
        ("job.missing", 1, 2),
        ("job.found", 1, 3),
        ("job.missing", 2, 4),
        ("job.found", 2, 5),
    ]


def test_events_that_happen_once_have_no_number():
    """The occurrence is only in the events that can repeat, whatever happened before."""
    found, failed = decide(LOST, a_job("FAILED"), 5.0, RULES).transitions

    assert (found.occurrence, failed.occurrence) == (1, 0)


def test_a_missing_job_is_looked_for_hourly_for_a_week():
    """A missing job is looked for every hour for seven days, and then no more."""
    week = 7 * 86_400.0
    waits = [next_look(LOST, now, POLICY, RULES) for now in (0.0, week - 1.0, week)]

    assert waits == [3_600.0, 3_600.0, None]


# The pace, and what has to be kept.


def test_the_pace_follows_the_phase_of_the_job():
    """A queued job is as old as its creation, a running one as its start, by the API's clock."""
    created, started = "2024-01-15T10:00:00Z", "2024-01-15T10:50:00Z"
    now = 1_705_316_400.0  # 11:00:00
    times = {"datetime_created": created, "datetime_started": started}
    queued = after((now, a_job("QUEUED", datetime_created=created)))
    running = after((now, a_job("RUNNING", **times)))

    assert next_look(queued, now, POLICY, RULES) == POLICY.interval(3_600.0)
    assert next_look(running, now, POLICY, RULES) == POLICY.interval(600.0)
    assert next_look(running, now, POLICY, RULES, skew=60.0) == POLICY.interval(660.0)


def test_the_pace_without_times():
    """A job that shows no times, or was never seen, is as old as our watch over it."""
    assert next_look(RUNNING, 600.0, POLICY, RULES) == POLICY.interval(600.0)
    assert next_look(NEW, 600.0, POLICY, RULES) == POLICY.interval(600.0)


def test_a_creation_time_in_the_future():
    """A job that claims to be from the future is looked at as a new one."""
    job = a_job("QUEUED", datetime_created="9999-12-31T23:59:59Z")

    assert next_look(after((0.0, job)), 0.0, POLICY, RULES) == POLICY.interval(0.0)


CHANGES = [
    (RUNNING, a_job("RUNNING"), True),
    (RUNNING, a_job("QUEUED"), True),
    (RUNNING, NoJob.ABSENT, True),
    (SETTLING, a_job("SUCCEEDED"), True),
    (SETTLING, a_job("RUNNING"), True),
    (NEW, a_job("QUEUED"), False),
    (QUEUED, a_job("STARTING"), False),
    (QUEUED, a_job("RUNNING"), False),
    (RUNNING, a_job("SUCCEEDED"), False),
    (SETTLING, a_job("FAILED"), False),
    (DOUBTED, a_job("RUNNING"), False),
    (LOST, a_job("RUNNING"), False),
    (COSTLESS, a_job("FAILED", job_cost=1), False),
]


@pytest.mark.parametrize(("state", "seen", "is_recorded"), CHANGES, ids=range(len(CHANGES)))
def test_what_has_to_be_stored(state, seen, is_recorded):
    """A look that only steers the pace needs no transaction; any other does."""
    decision = decide(state, seen, 5.0, RULES)

    assert decision.state.is_recorded_like(state) is is_recorded


def test_remarks_are_named_for_the_log():
    """Every remark is a name fit for a log line."""
    assert {it.value for it in Remark} == {
        "job.regressed",
        "job.unknown_status",
        "job.contradicted",
    }
