"""The events in the life of a job, and how often it is polled."""

from dataclasses import replace

import pytest

from poller.core.job_status import JobStatus
from poller.core.lifecycle import decide
from poller.core.pacing import QUEUED_SECONDS
from poller.core.state import Anomaly, JobEventType, Phase, Signal
from tests.support.builders import FINAL, a_job
from tests.support.state_builders import (
    COMPLETED,
    COSTLESS,
    DONE,
    DOUBTED,
    FAILED,
    LOST,
    NEW,
    POLICY,
    QUEUED,
    RULES,
    RUNNING,
    SETTLING,
    STARTED,
    after,
    event_types,
    poll_delay,
    watch,
)

DAY = 86_400.0


def test_skipped_statuses_are_not_invented():
    """From QUEUED to an end in one poll is one event, which carries the start in its job."""
    job = a_job("SUCCEEDED", **STARTED, **FINAL)
    (transition,) = decide(QUEUED, job, 60.0, RULES).drafts

    assert transition.type is JobEventType.SUCCEEDED
    assert transition.previous_status is JobStatus.QUEUED
    assert transition.job is job
    assert transition.sequence == 1


def test_first_event_has_no_previous_status():
    """An event of the first observation has no previous status."""
    (transition,) = decide(NEW, a_job("FAILED", **FAILED), 0.0, RULES).drafts

    assert transition.previous_status is None
    assert transition.sequence == 1


def test_previous_status_survives_settling():
    """The end of a job that settled states the status before its first terminal observation."""
    (transition,) = decide(SETTLING, a_job("SUCCEEDED", **FINAL), 8.0, RULES).drafts

    assert transition.previous_status is JobStatus.RUNNING
    assert transition.sequence == 2


def test_started_is_announced_once():
    """Running, being set back to the queue and running again is one start."""
    words = ["QUEUED", "RUNNING", "QUEUED", "RUNNING", "CANCELLING", "RUNNING"]
    decisions = watch(*[(float(at), a_job(word)) for at, word in enumerate(words)])

    assert event_types(decisions) == [[], ["job.started"], [], [], [], []]


# Completion times without an end, and unknown statuses.


def test_job_with_a_completion_time_is_polled_often():
    """A job that shows a completion time is polled every 2 s for a minute, then as others."""
    state = after((0.0, a_job("RUNNING")), (100.0, a_job("RUNNING", **COMPLETED)))

    assert state.phase is Phase.ACTIVE
    assert poll_delay(state, 100.0) == 2.0
    assert poll_delay(state, 159.0) == 2.0
    assert poll_delay(state, 160.0) == POLICY.interval(160.0)


def test_completion_time_that_goes_away_ends_frequent_polls():
    """When the completion time is gone, so are frequent polls; they begin anew with the next."""
    running, completing = a_job("RUNNING"), a_job("RUNNING", **COMPLETED)
    gone = after((0.0, completing), (10.0, running))
    back = after((0.0, completing), (10.0, running), (200.0, completing))

    assert poll_delay(gone, 10.0) == POLICY.interval(10.0)
    assert poll_delay(back, 201.0) == 2.0


def test_unrecognised_status_is_announced_once():
    """An unknown status with a completion time for ten minutes is announced, once."""
    paused = a_job("PAUSED", **COMPLETED)
    seen = [(at, paused) for at in (0.0, 300.0, 599.0, 600.0, 601.0, 5_000.0)]
    decisions = watch(*seen, state=RUNNING)

    assert event_types(decisions) == [[], [], [], ["job.unrecognised"], [], []]
    assert {it.state.phase for it in decisions} == {Phase.ACTIVE}


def test_unrecognised_job_still_has_its_end():
    """A job that was announced as unrecognised still has its end."""
    paused = a_job("PAUSED", **COMPLETED)
    decisions = watch((0.0, paused), (600.0, paused), (700.0, a_job("FAILED", **FAILED)))

    assert event_types(decisions) == [[], ["job.unrecognised"], ["job.failed"]]


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (a_job("EXPIRED", **COMPLETED), 600.0),
        (a_job("EXPIRED", failure_reason={"message": "too old"}), 600.0),
        (a_job("EXPIRED"), DAY),
        (a_job("RUNNING", **COMPLETED), DAY),
        (a_job("CANCELLING", **COMPLETED), DAY),
        (a_job("RUNNING", failure_reason={"message": "of a row"}), None),
        (a_job("RUNNING"), None),
    ],
    ids=["completed", "reason", "word", "running", "cancelling", "running reason", "as usual"],
)
def test_job_that_looks_ended_is_announced_in_time(seen, seconds):
    """A status that is not terminal is unrecognised after minutes or a day, by what it shows."""
    before = watch((0.0, seen), ((seconds or 9 * DAY) - 1.0, seen))
    at_limit = watch((0.0, seen), (seconds or 9 * DAY, seen))

    assert not any("job.unrecognised" in types for types in event_types(before))
    assert ("job.unrecognised" in event_types(at_limit)[-1]) is (seconds is not None)
    assert at_limit[-1].state.is_given_up is (seconds is not None)


def test_unrecognised_job_is_polled_hourly_for_a_week():
    """From its announcement on it is polled every hour for seven days, and then no more."""
    state = after((0.0, a_job("EXPIRED")), (DAY, a_job("EXPIRED")))

    assert [poll_delay(state, DAY + age) for age in (0.0, 7 * DAY - 1.0, 7 * DAY)] == [
        3_600.0,
        3_600.0,
        None,
    ]


def test_unrecognised_job_that_goes_on_is_polled_as_before():
    """A job that shows a known status again is not given up, and not announced again."""
    paused, running = a_job("PAUSED", **COMPLETED), a_job("RUNNING")
    seen = [(0.0, paused), (600.0, paused), (700.0, running), (800.0, paused), (9_000.0, paused)]
    decisions = watch(*seen)

    assert [made.state.is_given_up for made in decisions] == [False, True, False, True, True]
    assert poll_delay(decisions[2].state, 700.0) == POLICY.interval(100.0)
    assert sum("job.unrecognised" in types for types in event_types(decisions)) == 1


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
def test_404s_make_a_job_missing(state, times, phase):
    """A job is missing after 5 misses in 10 minutes, or 3 in 5 minutes once it was seen."""
    decisions = watch(*[(float(at), Signal.NOT_FOUND) for at in times], state=state)

    assert decisions[-1].state.phase is phase
    assert event_types(decisions)[-1] == ["job.missing"] * (phase is Phase.MISSING)
    assert not any(event_types(decisions)[:-1])


def test_404s_count_in_a_row():
    """Misses count only in a row."""
    seen = [(0.0, Signal.NOT_FOUND), (150.0, Signal.NOT_FOUND), (200.0, a_job("RUNNING"))]
    decisions = watch(*seen, (300.0, Signal.NOT_FOUND), (450.0, Signal.NOT_FOUND), state=RUNNING)

    assert decisions[-1].state.phase is Phase.ACTIVE


@pytest.mark.parametrize("state", [DONE, COSTLESS, LOST])
def test_finished_job_never_goes_missing(state):
    """However many 404s there are for a job that has ended or is missing, nothing is announced."""
    decisions = watch(*[(at * 600.0, Signal.NOT_FOUND) for at in range(10)], state=state)

    assert event_types(decisions) == [[]] * 10


def test_unseen_job_is_missing_without_a_job_object():
    """The event of a never-seen job has neither object nor previous status."""
    decisions = watch(*[(at, Signal.NOT_FOUND) for at in (0.0, 1.0, 2.0, 3.0, 600.0)])
    (transition,) = decisions[-1].drafts

    assert (transition.job, transition.previous_status) == (None, None)
    assert (transition.sequence, transition.occurrence) == (1, 1)


def test_missing_and_found_events_are_numbered():
    """Each time a job goes missing and is found has a number of its own, the same for both."""
    absence = [(at, Signal.NOT_FOUND) for at in (0.0, 150.0, 300.0)]
    again = [(at + 1_000.0, Signal.NOT_FOUND) for at, _ in absence]
    seen = [*absence, (400.0, a_job("RUNNING")), *again, (2_000.0, a_job("RUNNING"))]
    transitions = [it for made in watch(*seen, state=RUNNING) for it in made.drafts]

    assert [(it.type, it.occurrence, it.sequence) for it in transitions] == [
        ("job.missing", 1, 2),
        ("job.found", 1, 3),
        ("job.missing", 2, 4),
        ("job.found", 2, 5),
    ]


def test_events_that_happen_once_have_no_occurrence():
    """The occurrence is only in the events that can repeat, whatever happened before."""
    found, failed = decide(LOST, a_job("FAILED", **FAILED), 5.0, RULES).drafts

    assert (found.occurrence, failed.occurrence) == (1, 0)


def test_missing_job_is_polled_hourly_for_a_week():
    """A missing job is polled every hour for seven days, and then no more."""
    week = 7 * 86_400.0
    waits = [poll_delay(LOST, now) for now in (0.0, week - 1.0, week)]

    assert waits == [3_600.0, 3_600.0, None]


# The poll interval, and the states that have to be stored.


def test_poll_interval_follows_the_phase():
    """A running job is as old as its start, by the API's clock.

    A queued one is as old as its creation, and three minutes more: it has to run before it ends.
    """
    created, started = "2024-01-15T10:50:00Z", "2024-01-15T10:55:00Z"
    now = 1_705_316_400.0  # 11:00:00
    times = {"datetime_created": created, "datetime_started": started}
    queued = after((now, a_job("QUEUED", datetime_created=created)))
    running = after((now, a_job("RUNNING", **times)))

    assert poll_delay(queued, now) == POLICY.interval(600.0 + QUEUED_SECONDS)
    assert poll_delay(running, now) == POLICY.interval(300.0)
    assert poll_delay(running, now, clock_skew=60.0) == POLICY.interval(360.0)


def test_poll_interval_without_times():
    """A job that shows no times, or was never seen, is as old as our watch over it."""
    assert poll_delay(RUNNING, 600.0) == POLICY.interval(600.0)
    assert poll_delay(NEW, 600.0) == POLICY.interval(600.0)


def test_poll_interval_of_a_creation_time_in_the_future():
    """A job that claims to be from the future is polled as a new one."""
    job = a_job("QUEUED", datetime_created="9999-12-31T23:59:59Z")

    assert poll_delay(after((0.0, job)), 0.0) == POLICY.interval(QUEUED_SECONDS)


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
    (SETTLING, a_job("FAILED"), True),
    (DOUBTED, a_job("RUNNING"), False),
    (LOST, a_job("RUNNING"), False),
    (COSTLESS, a_job("FAILED", job_cost=1), False),
    (replace(RUNNING, completing_since=-595.0), a_job("PAUSED", **COMPLETED), False),
]


@pytest.mark.parametrize(("state", "seen", "is_recorded"), CHANGES, ids=range(len(CHANGES)))
def test_states_that_have_to_be_stored(state, seen, is_recorded):
    """A change that only affects the poll interval needs no transaction; any other does."""
    decision = decide(state, seen, 5.0, RULES)

    assert decision.state.matches_recorded(state) is is_recorded


def test_anomalies_are_names_of_log_lines():
    """Every anomaly is a name fit for a log line."""
    assert {it.value for it in Anomaly} == {
        "job.regressed",
        "job.unknown_status",
        "job.contradicted",
    }
