"""What is announced in the life of a job, and how often it is looked at."""

from dataclasses import replace

import pytest

from poller.core.jobs import JobStatus
from poller.core.lifecycle import decide
from poller.core.state import Anomaly, JobEventType, Phase, Signal
from tests.support.builders import FINAL, a_job
from tests.support.state_builders import (
    COMPLETED,
    COSTLESS,
    DONE,
    DOUBTED,
    LOST,
    NEW,
    POLICY,
    QUEUED,
    RULES,
    RUNNING,
    SETTLING,
    STARTED,
    after,
    poll_delay,
    told,
    watch,
)


def test_missed_states_are_not_invented():
    """From QUEUED to an end in one look is one event, which carries the start in its job."""
    job = a_job("SUCCEEDED", **STARTED, **FINAL)
    (transition,) = decide(QUEUED, job, 60.0, RULES).drafts

    assert transition.type is JobEventType.SUCCEEDED
    assert transition.previous_status is JobStatus.QUEUED
    assert transition.job is job
    assert transition.sequence == 1


def test_nothing_was_before_the_first_sight():
    """An event at the first sight has no previous status."""
    (transition,) = decide(NEW, a_job("FAILED"), 0.0, RULES).drafts

    assert transition.previous_status is None
    assert transition.sequence == 1


def test_the_previous_status_survives_settling():
    """The end of a job that settled tells the status before its first terminal sight."""
    (transition,) = decide(SETTLING, a_job("SUCCEEDED", **FINAL), 8.0, RULES).drafts

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
    assert poll_delay(state, 100.0) == 2.0
    assert poll_delay(state, 159.0) == 2.0
    assert poll_delay(state, 160.0) == POLICY.interval(160.0)


def test_a_completion_time_that_goes_away():
    """When the completion time is gone again, so is the haste; it begins anew with the next."""
    running, completing = a_job("RUNNING"), a_job("RUNNING", **COMPLETED)
    gone = after((0.0, completing), (10.0, running))
    back = after((0.0, completing), (10.0, running), (200.0, completing))

    assert poll_delay(gone, 10.0) == POLICY.interval(10.0)
    assert poll_delay(back, 201.0) == 2.0


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
    decisions = watch(*[(float(at), Signal.NOT_FOUND) for at in times], state=state)

    assert decisions[-1].state.phase is phase
    assert told(decisions)[-1] == ["job.missing"] * (phase is Phase.MISSING)
    assert not any(told(decisions)[:-1])


def test_a_sight_between_404s_counts_them_anew():
    """Misses count only in a row."""
    looks = [(0.0, Signal.NOT_FOUND), (150.0, Signal.NOT_FOUND), (200.0, a_job("RUNNING"))]
    decisions = watch(*looks, (300.0, Signal.NOT_FOUND), (450.0, Signal.NOT_FOUND), state=RUNNING)

    assert decisions[-1].state.phase is Phase.ACTIVE


@pytest.mark.parametrize("state", [DONE, COSTLESS, LOST])
def test_a_job_that_is_done_never_goes_missing(state):
    """However often the API denies a job that has ended or is missing, nothing is told."""
    decisions = watch(*[(at * 600.0, Signal.NOT_FOUND) for at in range(10)], state=state)

    assert told(decisions) == [[]] * 10


def test_a_job_that_was_never_seen_is_missing_without_an_object():
    """The event of a never-seen job has neither object nor previous status."""
    decisions = watch(*[(at, Signal.NOT_FOUND) for at in (0.0, 1.0, 2.0, 3.0, 600.0)])
    (transition,) = decisions[-1].drafts

    assert (transition.job, transition.previous_status) == (None, None)
    assert (transition.sequence, transition.occurrence) == (1, 1)


def test_missing_and_found_again_and_again():
    """Each time a job goes missing and is found has a number of its own, the same for both."""
    absence = [(at, Signal.NOT_FOUND) for at in (0.0, 150.0, 300.0)]
    again = [(at + 1_000.0, Signal.NOT_FOUND) for at, _ in absence]
    looks = [*absence, (400.0, a_job("RUNNING")), *again, (2_000.0, a_job("RUNNING"))]
    transitions = [it for made in watch(*looks, state=RUNNING) for it in made.drafts]

    assert [(it.type, it.occurrence, it.sequence) for it in transitions] == [
        ("job.missing", 1, 2),
        ("job.found", 1, 3),
        ("job.missing", 2, 4),
        ("job.found", 2, 5),
    ]


def test_events_that_happen_once_have_no_number():
    """The occurrence is only in the events that can repeat, whatever happened before."""
    found, failed = decide(LOST, a_job("FAILED"), 5.0, RULES).drafts

    assert (found.occurrence, failed.occurrence) == (1, 0)


def test_a_missing_job_is_looked_for_hourly_for_a_week():
    """A missing job is looked for every hour for seven days, and then no more."""
    week = 7 * 86_400.0
    waits = [poll_delay(LOST, now) for now in (0.0, week - 1.0, week)]

    assert waits == [3_600.0, 3_600.0, None]


# The pace, and what has to be kept.


def test_the_pace_follows_the_phase_of_the_job():
    """A queued job is as old as its creation, a running one as its start, by the API's clock."""
    created, started = "2024-01-15T10:00:00Z", "2024-01-15T10:50:00Z"
    now = 1_705_316_400.0  # 11:00:00
    times = {"datetime_created": created, "datetime_started": started}
    queued = after((now, a_job("QUEUED", datetime_created=created)))
    running = after((now, a_job("RUNNING", **times)))

    assert poll_delay(queued, now) == POLICY.interval(3_600.0)
    assert poll_delay(running, now) == POLICY.interval(600.0)
    assert poll_delay(running, now, clock_skew=60.0) == POLICY.interval(660.0)


def test_the_pace_without_times():
    """A job that shows no times, or was never seen, is as old as our watch over it."""
    assert poll_delay(RUNNING, 600.0) == POLICY.interval(600.0)
    assert poll_delay(NEW, 600.0) == POLICY.interval(600.0)


def test_a_creation_time_in_the_future():
    """A job that claims to be from the future is looked at as a new one."""
    job = a_job("QUEUED", datetime_created="9999-12-31T23:59:59Z")

    assert poll_delay(after((0.0, job)), 0.0) == POLICY.interval(0.0)


CHANGES = [
    (RUNNING, a_job("RUNNING"), True),
    (RUNNING, a_job("QUEUED"), True),
    (RUNNING, Signal.NOT_FOUND, True),
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
    (replace(RUNNING, completing_since=-595.0), a_job("PAUSED", **COMPLETED), False),
]


@pytest.mark.parametrize(("state", "seen", "is_recorded"), CHANGES, ids=range(len(CHANGES)))
def test_what_has_to_be_stored(state, seen, is_recorded):
    """A look that only steers the pace needs no transaction; any other does."""
    decision = decide(state, seen, 5.0, RULES)

    assert decision.state.matches_recorded(state) is is_recorded


def test_remarks_are_named_for_the_log():
    """Every remark is a name fit for a log line."""
    assert {it.value for it in Anomaly} == {
        "job.regressed",
        "job.unknown_status",
        "job.contradicted",
    }
