"""Ends that are not final: settling, returning to work, and what comes late."""

from dataclasses import replace
from itertools import permutations

import pytest

from poller.core.errors import Transient
from poller.core.lifecycle import decide
from poller.core.settling import settle_deadline
from poller.core.state import LifecyclePolicy, Phase, Signal
from tests.support.builders import FINAL, REASON, a_job
from tests.support.state_builders import (
    COMPLETED,
    COSTLESS,
    DONE,
    FAILED,
    LOST,
    NEW,
    QUEUED,
    RULES,
    RUNNING,
    SETTLING,
    after,
    event_types,
    poll_delay,
    watch,
)


def test_settle_intervals():
    """A settling job is polled after 1, 2, 4, 8 and 15 s, which is its timeout in all."""
    state, now, waits = after((0.0, a_job("SUCCEEDED"))), 0.0, []
    while state.phase is Phase.SETTLING:
        waits.append(poll_delay(state, now))
        now += waits[-1]
        state = decide(state, a_job("SUCCEEDED"), now, RULES).state

    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0]
    assert now == RULES.settle_timeout


@pytest.mark.parametrize(("age", "wait"), [(0.9, 2.1), (2.8, 4.2), (2.5, 0.5), (28.5, 30.0)])
def test_settle_polls_that_are_nearly_due_are_skipped(age, wait):
    """A poll that came a little early, or late, is not repeated at once."""
    assert poll_delay(SETTLING, age) == pytest.approx(wait)


def test_settle_intervals_scale_with_the_timeout():
    """With another settle timeout the intervals scale with it."""
    state = after((0.0, a_job("SUCCEEDED")))

    assert poll_delay(state, 0.0, rules=LifecyclePolicy(settle_timeout=60.0)) == 2.0


PARTS = [
    {"job_cost": 0.5},
    {"datetime_completed": "2024-01-15T10:32:15Z"},
    {"input_tokens": 20, "output_tokens": 7},
    REASON,
]


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_settling_ends_when_the_end_is_final(order):
    """A failure is announced as soon as the last of its fields is there, in whatever order."""
    seen = [(float(number), a_job("FAILED", **PARTS[part])) for number, part in enumerate(order)]
    decisions = watch(*seen)

    assert event_types(decisions) == [[], [], [], ["job.failed"]]
    assert decisions[-1].drafts[0].job == a_job("FAILED", **FAILED)


def test_cancelled_job_is_not_held_for_its_cost():
    """A cancelled job is announced with its completion time; tokens and cost follow."""
    seen = [(0.0, a_job("CANCELLED")), (1.0, a_job("CANCELLED", **COMPLETED))]
    decisions = watch(*seen, (9.0, a_job("CANCELLED", **FINAL)))

    assert event_types(decisions) == [[], ["job.cancelled"], ["job.settled"]]


def test_end_that_becomes_another_end_has_the_fields_of_the_last():
    """A success that turns out to be a failure is announced once, as the failure alone."""
    failed = a_job("FAILED", **COMPLETED)
    decisions = watch((0.0, a_job("SUCCEEDED", job_cost=0.5)), (1.0, failed), (30.0, Signal.TIMER))

    assert event_types(decisions) == [[], [], ["job.failed"]]
    assert decisions[-1].drafts[0].job == failed


@pytest.mark.parametrize("seen", [Signal.TIMER, a_job("SUCCEEDED")])
def test_settling_ends_after_its_timeout(seen):
    """A job is announced 30 s after its end was first seen, polled again or not, as incomplete."""
    decisions = watch((0.0, a_job("SUCCEEDED")), (29.9, seen), (30.0, seen))

    assert event_types(decisions) == [[], [], ["job.succeeded"]]
    assert not decisions[-1].drafts[0].job.is_final
    assert decisions[-1].state.is_unfinished


def test_settling_has_a_deadline():
    """Only a settling job has a time at which `decide` must be called."""
    assert settle_deadline(replace(SETTLING, since=100.0), RULES) == 130.0
    assert [settle_deadline(it, RULES) for it in (NEW, RUNNING, DONE, LOST)] == [None] * 4


def test_settling_announces_the_last_job_object():
    """A settling job is announced as it was seen last, though the last polls fail."""
    known = a_job("SUCCEEDED", job_cost=0.5)
    decisions = watch((0.0, a_job("SUCCEEDED")), (1.0, known), (30.0, Signal.TIMER))

    assert decisions[-1].drafts[0].job is known


def test_nothing_settles_without_a_settle_timeout():
    """A settle timeout of 0 announces every success when it is first seen."""
    decisions = watch((0.0, a_job("SUCCEEDED")), rules=LifecyclePolicy(settle_timeout=0.0))

    assert event_types(decisions) == [["job.succeeded"]]


REVIVALS = [
    ([(1.0, "RUNNING"), (5.9, "RUNNING")], Phase.SETTLING),
    ([(1.0, "RUNNING"), (6.0, "RUNNING")], Phase.ACTIVE),
    ([(1.0, "RUNNING"), (3.0, "RUNNING"), (6.0, "QUEUED")], Phase.ACTIVE),
    ([(1.0, "RUNNING"), (3.0, "SUCCEEDED"), (6.0, "RUNNING")], Phase.SETTLING),
    ([(1.0, "RUNNING"), (3.0, "PAUSED"), (6.0, "RUNNING")], Phase.ACTIVE),
    ([(1.0, "PAUSED"), (6.0, "PAUSED"), (12.0, "PAUSED")], Phase.SETTLING),
]


@pytest.mark.parametrize(("seen", "phase"), REVIVALS)
def test_settling_job_that_goes_on_is_active_again(seen, phase):
    """Two observations of a job that goes on, 5 s apart and with no end between, undo the end."""
    decisions = watch(*[(at, a_job(word)) for at, word in seen], state=SETTLING)

    assert decisions[-1].state.phase is phase
    assert not any(it.drafts for it in decisions)


def test_job_active_again_ends_once():
    """A job that is active again can run for long, and ends once."""
    seen = [(1.0, a_job("RUNNING")), (7.0, a_job("RUNNING")), (1_000.0, Signal.TIMER)]
    decisions = watch(*seen, (2_000.0, a_job("FAILED", **FAILED)), state=SETTLING)

    assert event_types(decisions) == [[], [], [], ["job.failed"]]


def test_job_active_again_has_its_start():
    """The start of a job that seemed to end in the queue is announced when it is active again."""
    seen = [(0.0, a_job("SUCCEEDED")), (1.0, a_job("RUNNING")), (7.0, a_job("RUNNING"))]
    decisions = watch(*seen, state=QUEUED)

    assert event_types(decisions) == [[], [], ["job.started"]]
    assert decisions[-1].state.job == a_job("RUNNING")


# What comes late.


def test_late_fields_are_announced_once():
    """An end that was announced too early is followed by one event when nothing is missing."""
    late = a_job("FAILED", **FAILED)
    seen = [(60.0, a_job("FAILED")), (70.0, a_job("FAILED", job_cost=0.5)), (90.0, late)]
    decisions = watch(*seen, (95.0, late), state=COSTLESS)

    assert event_types(decisions) == [[], [], ["job.settled"], []]
    assert decisions[2].drafts[0].job == late
    assert decisions[2].drafts[0].sequence == COSTLESS.sequence + 1


DAY = 86_400.0
PART = a_job("FAILED", job_cost=0.5)


@pytest.mark.parametrize(
    ("seen", "at"),
    [
        ([(60.0, PART), (DAY - 1.0, PART), (DAY, Signal.TIMER), (DAY + 9.0, PART)], 2),
        ([(60.0, PART), (DAY - 1.0, Signal.TIMER), (DAY, a_job("FAILED"))], 2),
        ([(DAY, Signal.TIMER), (DAY + 1.0, a_job("FAILED")), (DAY + 2.0, PART)], 2),
    ],
)
def test_part_of_the_late_fields_is_announced_after_a_day(seen, at):
    """When a field never comes, the others are announced a day after the end, once."""
    decisions = watch(*seen, state=COSTLESS)

    expected = [["job.settled"] if number == at else [] for number in range(len(seen))]
    assert event_types(decisions) == expected
    assert decisions[at].drafts[0].job == PART


def test_late_fields_that_are_held_have_a_deadline():
    """Only while something is held back must `decide` be called after a day."""
    held = watch((60.0, PART), state=COSTLESS)[-1].state

    assert settle_deadline(held, RULES) == COSTLESS.since + DAY
    assert not held.matches_recorded(COSTLESS)
    assert settle_deadline(COSTLESS, RULES) is None


def test_late_watch_is_slow_and_ends():
    """Missing fields are polled for after 10 minutes, after an hour and then daily, for a week."""
    now, polls = 0.0, []
    while (wait := poll_delay(COSTLESS, now)) is not None:
        now += wait
        polls.append(now)

    assert polls == [600.0, 3_600.0, *(day * DAY for day in range(1, 8))]


@pytest.mark.parametrize(
    ("failures", "wait"), [(1, 750.0), (2, 1_500.0), (7, 48_000.0), (8, 82_800.0)]
)
def test_failed_poll_for_late_fields_is_repeated(failures, wait):
    """A failed poll is repeated after minutes, in a long outage after hours, not after a day."""
    assert poll_delay(COSTLESS, 3_600.0, result=Transient("503"), failures=failures) == wait


def test_final_end_is_not_polled():
    """A job whose end was announced as final, or settled, is never polled again."""
    settled = watch((60.0, a_job("FAILED", **FAILED)), state=COSTLESS)[-1].state

    assert poll_delay(DONE, 0.0) is None
    assert poll_delay(settled, 61.0) is None
