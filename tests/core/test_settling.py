"""Ends that are not complete: settling, returning to work, and the cost that comes late."""

from dataclasses import replace

import pytest

from poller.core.lifecycle import decide
from poller.core.settling import settle_deadline
from poller.core.state import LifecyclePolicy, Phase, Signal
from tests.support.builders import FINAL, a_job
from tests.support.state_builders import (
    COMPLETED,
    COSTLESS,
    DONE,
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


def test_settle_intervals_scale_with_the_timeout():
    """With another settle timeout the intervals scale with it."""
    state = after((0.0, a_job("SUCCEEDED")))

    assert poll_delay(state, 0.0, rules=LifecyclePolicy(settle_timeout=60.0)) == 2.0


def test_settling_ends_when_the_job_is_complete():
    """A job is announced as soon as cost and completion time are there."""
    seen = [
        (0.0, a_job("SUCCEEDED")),
        (1.0, a_job("SUCCEEDED", **COMPLETED)),
        (3.0, a_job("SUCCEEDED", **FINAL)),
    ]
    decisions = watch(*seen)

    assert event_types(decisions) == [[], [], ["job.succeeded"]]
    assert decisions[-1].drafts[0].job.is_final


@pytest.mark.parametrize("seen", [Signal.TIMER, a_job("SUCCEEDED")])
def test_settling_ends_after_its_timeout(seen):
    """A job is announced 30 s after its end was first seen, polled again or not, as incomplete."""
    decisions = watch((0.0, a_job("SUCCEEDED")), (29.9, seen), (30.0, seen))

    assert event_types(decisions) == [[], [], ["job.succeeded"]]
    assert not decisions[-1].drafts[0].job.is_final
    assert decisions[-1].state.awaits_cost


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
    decisions = watch(*seen, (2_000.0, a_job("FAILED")), state=SETTLING)

    assert event_types(decisions) == [[], [], [], ["job.failed"]]


def test_job_active_again_has_its_start():
    """The start of a job that seemed to end in the queue is announced when it is active again."""
    seen = [(0.0, a_job("SUCCEEDED")), (1.0, a_job("RUNNING")), (7.0, a_job("RUNNING"))]
    decisions = watch(*seen, state=QUEUED)

    assert event_types(decisions) == [[], [], ["job.started"]]
    assert decisions[-1].state.job == a_job("RUNNING")


# The cost that comes late.


def test_late_cost_is_announced_once():
    """An end that was announced without a cost is followed by one event when the cost comes."""
    late = a_job("FAILED", job_cost=0.25)
    decisions = watch((60.0, a_job("FAILED")), (90.0, late), (95.0, late), state=COSTLESS)

    assert event_types(decisions) == [[], ["job.settled"], []]
    assert decisions[1].drafts[0].job is late
    assert decisions[1].drafts[0].sequence == COSTLESS.sequence + 1


def test_cost_watch_is_slow_and_ends():
    """A missing cost is polled for every 30 s at first, later every 5 minutes, for an hour."""
    waits = [poll_delay(COSTLESS, now) for now in (0.0, 100.0, 1_000.0, 3_600.0)]

    assert waits == [30.0, 100.0, 300.0, None]


def test_finished_job_is_not_polled():
    """A job that was announced with its cost is never polled again."""
    assert poll_delay(DONE, 0.0) is None
