"""Ends that are not complete: settling, revival, and the cost that comes late."""

from dataclasses import replace

import pytest

from poller.core.lifecycle import LifecyclePolicy, decide, settle_deadline
from poller.core.state import Phase, Signal
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
    poll_delay,
    told,
    watch,
)


def test_the_settle_ladder():
    """A settling job is looked at after 1, 2, 4, 8 and 15 s, which is its timeout in all."""
    state, now, waits = after((0.0, a_job("SUCCEEDED"))), 0.0, []
    while state.phase is Phase.SETTLING:
        waits.append(poll_delay(state, now))
        now += waits[-1]
        state = decide(state, a_job("SUCCEEDED"), now, RULES).state

    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0]
    assert now == RULES.settle_timeout


def test_the_settle_ladder_scales():
    """With another settle timeout the steps of the ladder scale with it."""
    state = after((0.0, a_job("SUCCEEDED")))

    assert poll_delay(state, 0.0, rules=LifecyclePolicy(settle_timeout=60.0)) == 2.0


def test_settling_ends_when_the_job_is_complete():
    """A job is told as soon as cost and completion time are there."""
    looks = [
        (0.0, a_job("SUCCEEDED")),
        (1.0, a_job("SUCCEEDED", **COMPLETED)),
        (3.0, a_job("SUCCEEDED", **FINAL)),
    ]
    decisions = watch(*looks)

    assert told(decisions) == [[], [], ["job.succeeded"]]
    assert decisions[-1].drafts[0].job.is_complete


@pytest.mark.parametrize("seen", [Signal.TIMER, a_job("SUCCEEDED")])
def test_settling_ends_after_its_timeout(seen):
    """A job is told 30 s after the first sight of its end, seen again or not, as not final."""
    decisions = watch((0.0, a_job("SUCCEEDED")), (29.9, seen), (30.0, seen))

    assert told(decisions) == [[], [], ["job.succeeded"]]
    assert not decisions[-1].drafts[0].job.is_complete
    assert decisions[-1].state.awaits_cost


def test_settling_has_a_deadline():
    """Only a settling job has a time at which `decide` must be called."""
    assert settle_deadline(replace(SETTLING, since=100.0), RULES) == 130.0
    assert [settle_deadline(it, RULES) for it in (NEW, RUNNING, DONE, LOST)] == [None] * 4


def test_what_was_seen_last_is_told_at_the_timeout():
    """A settling job is told as it was seen last, though no look answers at the end."""
    known = a_job("SUCCEEDED", job_cost=0.5)
    decisions = watch((0.0, a_job("SUCCEEDED")), (1.0, known), (30.0, Signal.TIMER))

    assert decisions[-1].drafts[0].job is known


def test_without_a_settle_timeout_nothing_settles():
    """A settle timeout of 0 tells every success at its first sight."""
    decisions = watch((0.0, a_job("SUCCEEDED")), rules=LifecyclePolicy(settle_timeout=0.0))

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
    assert not any(it.drafts for it in decisions)


def test_a_revived_job_goes_on():
    """A revived job can run for long, and ends once."""
    looks = [(1.0, a_job("RUNNING")), (7.0, a_job("RUNNING")), (1_000.0, Signal.TIMER)]
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
    assert decisions[1].drafts[0].job is late
    assert decisions[1].drafts[0].sequence == COSTLESS.sequence + 1


def test_the_watch_for_a_cost_is_slow_and_ends():
    """A missing cost is looked for every 30 s at first, later every 5 minutes, for an hour."""
    waits = [poll_delay(COSTLESS, now) for now in (0.0, 100.0, 1_000.0, 3_600.0)]

    assert waits == [30.0, 100.0, 300.0, None]


def test_what_is_done_is_not_looked_at():
    """A job that was told with its cost is never looked at again."""
    assert poll_delay(DONE, 0.0) is None
