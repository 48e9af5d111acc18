"""When a job is overdue, and its announcement."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from poller.core.detection_lag import Detection
from poller.core.duration_history import MIN_ENDS, DurationHistory
from poller.core.durations import JobClass, Stage, UsualDuration
from poller.core.events import EventOrigin, job_event
from poller.core.job_status import JobStatus
from poller.core.lifecycle import decide
from poller.core.overdue import MIN_OVERDUE_SECONDS, Overdue, OverduePolicy
from poller.core.overdue_rule import OverdueRule, is_overdue
from poller.core.state import JobEventType, JobState, LifecyclePolicy, Phase, Signal
from tests.support.builders import FINAL, a_job, check_event

CREATED = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
RULES = LifecyclePolicy()
FIXED = OverduePolicy(queued=100.0, running=1_000.0)
QUEUED = a_job("QUEUED", datetime_created="2024-01-15T10:30:00Z")
RUNNING = a_job(
    datetime_created="2024-01-15T10:30:00Z",
    datetime_started="2024-01-15T10:31:00Z",
    model="m",
    num_rows=100,
)
LONG = Overdue(stage=Stage.RUNNING, elapsed=2_000.0, threshold=1_000.0)


def at(seconds: float) -> float:
    """Return a time after the creation, in seconds since 1970."""
    return CREATED.timestamp() + seconds


def a_state(job=RUNNING, **fields: Any) -> JobState:
    """Return the state of an active job."""
    known = {"phase": Phase.ACTIVE, "since": at(0.0), "status": job.status, "job": job}
    return JobState(job_id="job-1", **(known | fields))


def checked(
    state: JobState, seconds: float, policy: OverduePolicy = FIXED, **named: Any
) -> Overdue | None:
    """Check a job so many seconds after its creation, just after a poll."""
    history = named.pop("history", DurationHistory())
    options = {"now": at(seconds), "seen_at": at(seconds), "clock_skew": 0.0} | named
    return OverdueRule(policy, history).check(state, **options)


def a_history(runs: list[float], **fields: Any) -> DurationHistory:
    """Return the history of jobs like RUNNING that ran so long, and waited for half of that."""
    history = DurationHistory()
    for number, run in enumerate(runs):
        started = CREATED + timedelta(seconds=run / 2)
        times = {
            "datetime_started": started,
            "datetime_completed": started + timedelta(seconds=run),
        }
        job = replace(RUNNING, job_id=f"past-{number}", status=JobStatus.SUCCEEDED, **times)
        history.add(replace(job, **fields))
    return history


@pytest.mark.parametrize(
    ("job", "seconds", "stage"),
    [
        (QUEUED, 99.9, None),
        (QUEUED, 100.0, Stage.QUEUED),
        (RUNNING, 1_059.9, None),
        (RUNNING, 1_060.0, Stage.RUNNING),
    ],
)
def test_a_job_is_overdue_from_its_limit_on(job, seconds, stage):
    """A queued job counts from its creation, one that runs from its start."""
    found = checked(a_state(job), seconds)

    assert (found and found.stage) == stage
    assert found is None or (found.threshold, found.usual) == (
        (100.0, None) if stage is Stage.QUEUED else (1_000.0, None)
    )


@pytest.mark.parametrize(
    "state",
    [
        a_state(phase=Phase.NEW, job=RUNNING),
        a_state(phase=Phase.SETTLING),
        a_state(phase=Phase.DONE),
        a_state(phase=Phase.MISSING),
        a_state(misses=1),
        a_state(completing_since=at(1.0)),
        a_state(unknown_since=at(1.0)),
        a_state(is_unrecognised=True),
        a_state(a_job("RUNNING")),
        a_state(replace(RUNNING, datetime_started=datetime(1970, 1, 2, tzinfo=UTC))),
        a_state(overdue_stages=(Stage.RUNNING,)),
    ],
    ids=[
        "never shown",
        "an end was seen",
        "ended",
        "missing",
        "a 404",
        "a completion time",
        "an unknown status",
        "unrecognised",
        "no start time",
        "impossible start time",
        "announced before",
    ],
)
def test_a_job_is_not_overdue_where_its_stage_is_not_sure(state):
    """After an end was seen, and whenever a job may have ended, it is not overdue."""
    assert checked(state, 1e6) is None


def test_a_job_is_overdue_only_if_a_response_shows_it_after_its_limit():
    """While the API is silent, nothing is known: the last poll must have been begun after it."""
    state = a_state()

    assert checked(state, 5_000.0, seen_at=None) is None
    assert checked(state, 5_000.0, seen_at=at(1_059.0)) is None
    assert checked(state, 5_000.0, seen_at=at(1_060.0)) is not None


def test_a_job_is_overdue_by_the_clock_of_the_api():
    """The times of a job are the API's: our clock may be wrong by an hour."""
    state = a_state()

    assert checked(state, 1_060.0 + 3_600.0, clock_skew=-3_600.0) is not None
    assert checked(state, 1_059.0 + 3_600.0, clock_skew=-3_600.0) is None


@pytest.mark.parametrize(
    ("runs", "fields", "threshold"),
    [
        ([1_000.0] * MIN_ENDS, {}, 3_000.0),
        ([1_000.0] * (MIN_ENDS - 1), {}, None),
        ([10.0] * MIN_ENDS, {}, MIN_OVERDUE_SECONDS),
        ([1_000.0] * MIN_ENDS, {"num_rows": 5}, 3_000.0),
        ([1_000.0] * MIN_ENDS, {"model": "other"}, None),
    ],
    ids=["its class", "too few", "ten minutes", "its model", "another model"],
)
def test_the_limit_is_three_times_what_is_usual(runs, fields, threshold):
    """By default it is 3 x p95 of the class or the model, ten minutes at least."""
    found = checked(a_state(), 1e6, OverduePolicy(), history=a_history(runs, **fields))

    assert (found and found.threshold) == threshold
    if found:
        assert found.usual.samples == MIN_ENDS


def test_a_queued_job_is_compared_with_queue_times():
    """The time in the queue has a distribution of its own."""
    queued = replace(RUNNING, status=JobStatus.QUEUED, datetime_started=None)

    found = checked(a_state(queued), 1e6, OverduePolicy(), history=a_history([1_000.0] * 30))

    assert (found.stage, found.threshold) == (Stage.QUEUED, 1_500.0)


def test_overdue_can_be_off():
    """With both settings off no job is overdue; one of them concerns its stage alone."""
    off, half = OverduePolicy(queued=math.inf, running=math.inf), OverduePolicy(running=math.inf)
    history = a_history([1_000.0] * 30)

    assert checked(a_state(), 1e9, off) is None
    assert OverdueRule(off, history).is_off
    assert not OverdueRule(half, history).is_off
    assert checked(a_state(), 1e9, half, history=history) is None


def test_a_job_is_announced_once_in_each_stage():
    """The same stage is announced once; the events of two stages have two ids."""
    queued = Overdue(stage=Stage.QUEUED, elapsed=200.0, threshold=100.0)
    first = decide(a_state(QUEUED), queued, at(200.0), RULES)
    again = decide(first.state, queued, at(300.0), RULES)
    runs = decide(first.state, RUNNING, at(400.0), RULES)
    second = decide(runs.state, LONG, at(3_000.0), RULES)

    ids = [
        job_event(
            draft, EventOrigin(deployment="api.example"), CREATED, Detection(detected_at=0.0)
        ).id
        for decision in (first, second)
        for draft in decision.drafts
    ]
    assert len(set(ids)) == len(ids) == 2
    assert not again.drafts
    assert second.state.overdue_stages == (Stage.QUEUED, Stage.RUNNING)


def test_a_late_notice_is_dropped():
    """A job that has ended, settles, or has gone on meanwhile is not announced as overdue."""
    ended = replace(RUNNING, status=JobStatus.SUCCEEDED)
    settling = decide(a_state(), ended, at(900.0), RULES).state
    queued = Overdue(stage=Stage.QUEUED, elapsed=200.0, threshold=100.0)

    assert settling.phase is Phase.SETTLING
    assert not decide(settling, LONG, at(901.0), RULES).drafts
    assert not decide(a_state(), queued, at(901.0), RULES).drafts
    assert not decide(a_state(phase=Phase.MISSING), LONG, at(901.0), RULES).drafts


def test_the_event_of_the_end_says_that_the_job_was_overdue():
    """The end of such a job has was_overdue; other events have not."""
    usual = UsualDuration(p50=100.0, p95=300.0, basis=JobClass("m", 7, None), samples=44)
    overdue = decide(a_state(), replace(LONG, usual=usual), at(3_000.0), RULES)
    ended = decide(overdue.state, a_job("SUCCEEDED", **FINAL), at(4_000.0), RULES)
    normal = decide(a_state(), a_job("SUCCEEDED", **FINAL), at(4_000.0), RULES)
    origin = EventOrigin(deployment="api.example")

    bodies = [
        check_event(job_event(draft, origin, CREATED, Detection(detected_at=0.0)).body)["data"]
        for decision in (overdue, ended, normal)
        for draft in decision.drafts
    ]

    assert [body.get("was_overdue") for body in bodies] == [None, True, None]
    assert bodies[0]["overdue"] == {
        "phase": "running",
        "elapsed_seconds": 2_000.0,
        "threshold_seconds": 1_000.0,
        "expected_seconds": 300.0,
        "basis": {
            "class": {"model": "m", "min_rows": 64, "max_rows": 127, "priority": None},
            "samples": 44,
        },
    }


def test_a_job_stays_overdue_until_it_goes_on():
    """A job is counted as overdue in the stage in which it was announced."""
    queued = a_state(QUEUED, overdue_stages=(Stage.QUEUED,))

    assert is_overdue(queued)
    assert not is_overdue(decide(queued, RUNNING, at(900.0), RULES).state)
    assert not is_overdue(a_state())
    assert not is_overdue(a_state(phase=Phase.DONE, overdue_stages=(Stage.RUNNING,)))


def test_time_without_a_notice_changes_nothing():
    """A settle deadline is no overdue notice."""
    assert decide(a_state(), Signal.TIMER, at(1e6), RULES).drafts == ()
    assert JobEventType.OVERDUE == "job.overdue"
