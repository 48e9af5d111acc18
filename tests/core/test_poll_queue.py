"""The polling interval, the backoff, and the order of the poll queue."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.pacing import Backoff, PollPolicy
from poller.core.poll_queue import PollQueue

HOUR, DAY = 3_600.0, 86_400.0


def a_queue(**jobs: tuple[float, float]) -> PollQueue:
    """Return a queue of jobs, each with the times of its last poll and its next."""
    queue = PollQueue()
    for job_id, (last, due) in jobs.items():
        queue.put(job_id, due=due, now=last)
    return queue


def take_due(queue: PollQueue, now: float) -> str | None:
    """Take the most overdue job, if one is due."""
    job_id = queue.due(now)
    queue.take([job_id] if job_id else [])
    return job_id


def take_probe(queue: PollQueue) -> str | None:
    """Take the best job for a probe, if there is one."""
    job_id = queue.probe_job()
    queue.take([job_id] if job_id else [])
    return job_id


def take_all(queue: PollQueue, now: float) -> list[str]:
    """Take jobs until none is due."""
    return list(iter(lambda: take_due(queue, now), None))


# The policy.

INTERVALS = [
    (0.0, 4.65),
    (60.0, 6.57),
    (15 * 60.0, 18.59),
    (0.5 * HOUR, 25.88),
    (HOUR, 30.0),
    (DAY, 30.0),
    (-500.0, 4.65),
]


@pytest.mark.parametrize(("age", "seconds"), INTERVALS)
def test_default_poll_interval(age, seconds):
    """The interval grows with the square root of the job's age, up to half a minute."""
    assert PollPolicy().interval(age) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("age", [0.0, HOUR, DAY])
def test_equal_bounds_fix_the_poll_interval(age):
    """A minimum equal to the maximum is a fixed interval, be it a fraction of a second."""
    assert PollPolicy(minimum=0.05, maximum=0.05).interval(age) == 0.05


def test_interval_factor_scales_the_poll_interval():
    """The factor scales the interval within its bounds."""
    assert PollPolicy(factor=1.0).interval(840.0) == 30.0
    assert PollPolicy(factor=0.5).interval(840.0) == 15.0
    assert PollPolicy(factor=0.01).interval(840.0) == 2.0


@given(younger=st.floats(0, 1e9), older=st.floats(0, 1e9), factor=st.floats(0.01, 100))
def test_poll_interval_never_shrinks_with_age(younger, older, factor):
    """An older job is never polled more often than a younger one."""
    policy = PollPolicy(factor=factor)
    younger, older = sorted((younger, older))

    assert 2.0 <= policy.interval(younger) <= policy.interval(older) <= 30.0


# Backoff.


def test_backoff_doubles():
    """Without jitter the waits double from a second to a minute and stay there."""
    waits = [Backoff().delay(failures, lambda: 0.0) for failures in range(1, 9)]

    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@given(failures=st.integers(1, 10**6), number=st.floats(0, 1, exclude_max=True))
def test_backoff_is_jittered_only_upward(failures, number):
    """A wait is never shorter than the one without jitter, and never above the last."""
    backoff = Backoff()

    wait = backoff.delay(failures, lambda: number)

    assert backoff.delay(failures, lambda: 0.0) <= wait <= backoff.last


# The queue.


def test_queue_has_no_due_job_before_its_time():
    """A job can be taken from the moment it is due, and not before."""
    queue = a_queue(one=(0.0, 10.0))

    assert take_due(queue, 9.9) is None
    assert take_due(queue, 10.0) == "one"


def test_queue_returns_no_taken_job():
    """A taken job is not returned twice, nor counted, until it is restored."""
    queue = a_queue(one=(0.0, 10.0))
    take_due(queue, 10.0)

    assert (take_due(queue, 100.0), queue.next_due(), len(queue)) == (None, None, 0)


def test_reading_the_queue_takes_nothing():
    """The due job stays the same, and waits, until it is taken."""
    queue = a_queue(one=(0.0, 10.0), two=(0.0, 20.0))

    assert [queue.due(30.0), queue.due(30.0), queue.probe_job()] == ["one"] * 3
    assert len(queue) == 2


def test_queue_ranks_a_job_that_comes_back():
    """A job that was taken, put again and is due again goes behind those that are later."""
    queue = a_queue(one=(0.0, 10.0), two=(0.0, 20.0))
    take_due(queue, 30.0)
    queue.put("one", due=31.0, now=30.0)

    assert take_all(queue, 31.0) == ["two", "one"]


def test_queue_returns_the_most_overdue_job_first():
    """Of the jobs that are due, the latest in units of its own interval goes first."""
    queue = a_queue(
        daily=(0.0, 300.0),  # at 340 it is 1.13 intervals old
        hourly=(200.0, 260.0),  # 2.33
        fresh=(320.0, 328.0),  # 2.5
        idle=(330.0, 350.0),  # not due
    )

    assert take_all(queue, 340.0) == ["fresh", "hourly", "daily"]


def test_queue_replaces_a_job_that_is_put_again():
    """What was scheduled for a job before is forgotten when it is put again, due or not."""
    queue = a_queue(one=(0.0, 10.0), two=(0.0, 20.0))
    queue.put("one", due=30.0, now=10.0)

    assert take_all(queue, 29.0) == ["two"]
    assert queue.next_due() == 30.0
    assert take_all(queue, 30.0) == ["one"]


def test_queue_never_returns_a_dropped_job():
    """A dropped job is never returned, and dropping an unknown one is no error."""
    queue = a_queue(one=(0.0, 10.0), two=(0.0, 20.0))
    queue.drop("one")
    queue.drop("three")

    assert (len(queue), queue.next_due()) == (1, 20.0)
    assert take_all(queue, 100.0) == ["two"]


def test_queue_next_due_time():
    """The next due time is the earliest of those that wait, in whatever order they came."""
    queue = a_queue(late=(0.0, 30.0), early=(0.0, 10.0), middle=(0.0, 20.0))
    queue.put("early", due=25.0, now=0.0)

    assert queue.next_due() == 20.0


def test_queue_next_due_time_has_passed_while_jobs_are_due():
    """While some due jobs are left, the next due time is not in the future."""
    queue = a_queue(one=(0.0, 10.0), two=(0.0, 11.0), three=(0.0, 90.0))
    take_due(queue, 20.0)

    assert queue.next_due() <= 20.0


def test_empty_queue_has_no_next_time():
    """With nothing scheduled there is nothing to wait for or to probe."""
    queue = PollQueue()

    assert (queue.next_due(), queue.due(1e9), queue.probe_job()) == (None,) * 3


def test_expedited_job_is_due_now():
    """An expedited job is due now, and an unknown one changes nothing."""
    queue = a_queue(one=(0.0, 300.0))
    queue.expedite("one", 50.0)
    queue.expedite("two", 50.0)

    assert queue.next_due() == 50.0
    assert take_all(queue, 50.0) == ["one"]


def test_expedited_job_keeps_its_rank():
    """A job that is long overdue keeps its rank when it is expedited."""
    queue = a_queue(overdue=(0.0, 10.0), due=(0.0, 60.0))
    queue.expedite("overdue", 100.0)

    assert take_all(queue, 100.0) == ["overdue", "due"]


def test_probe_job_was_polled_longest_ago():
    """A probe takes the job that was polled longest ago, due or not, and last a deferred one."""
    queue = a_queue(late=(5.0, 10.0), first=(3.0, 900.0))
    queue.put("deferred", due=1.0, now=0.0, is_deferred=True)

    assert [take_probe(queue) for _ in range(4)] == ["first", "late", "deferred", None]


def test_expedited_job_stays_deferred():
    """Expediting a deferred job makes it no better as a probe."""
    queue = a_queue(good=(0.0, 100.0))
    queue.put("deferred", due=900.0, now=0.0, is_deferred=True)
    queue.expedite("deferred", 10.0)

    assert take_probe(queue) == "good"


# Always and never.

JOB = st.sampled_from("abc")
TIME = st.integers(0, 20).map(float)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "put_deferred", "drop", "expedite"]), JOB, TIME)
    | st.tuples(st.sampled_from(["take", "take_probe", "next_due"]), st.none(), TIME)
)


@given(OPERATIONS)
def test_queue_never_loses_or_doubles_a_job(operations):
    """Whatever is done in whatever order, a job is there once, or away, at the time it was put."""
    queue, due, now = PollQueue(), {}, 0.0
    for verb, job_id, number in operations:
        now += number / 4
        match verb:
            case "put" | "put_deferred":
                queue.put(job_id, due=now + number, now=now, is_deferred=verb == "put_deferred")
                due[job_id] = now + number
            case "drop":
                queue.drop(job_id)
                due.pop(job_id, None)
            case "expedite":
                queue.expedite(job_id, now)
                due |= {job_id: min(due[job_id], now)} if job_id in due else {}
            case "take":
                taken = take_due(queue, now)
                assert (taken is None) is (min(due.values(), default=now + 1) > now)
                assert taken is None or due.pop(taken) <= now
            case "take_probe":
                taken = take_probe(queue)
                assert (taken is None) is (not due)
                due.pop(taken, None)
            case "next_due":
                earliest, next_due = min(due.values(), default=None), queue.next_due()
                assert next_due == earliest or (earliest <= next_due <= now)
        assert len(queue) == len(due)

    assert sorted(take_all(queue, now + 100.0)) == sorted(due)


@given(st.lists(st.tuples(TIME, TIME.filter(bool)), min_size=1, max_size=60))
def test_queue_returns_few_due_jobs_in_exact_order(times):
    """Up to 63 due jobs go strictly by how overdue they are."""
    polls = {f"job-{number}": it for number, it in enumerate(times)}
    queue = a_queue(**{it: (last, last + every) for it, (last, every) in polls.items()})

    lateness = [(60.0 - polls[it][0]) / polls[it][1] for it in take_all(queue, 60.0)]

    assert len(lateness) == len(times)
    assert lateness == sorted(lateness, reverse=True)


def test_long_queue_that_changes_meanwhile():
    """Of many due jobs that are taken in turn, none that was dropped or put again is returned."""
    queue = a_queue(**{f"job-{number}": (0.0, 10.0) for number in range(640)})
    taken = [take_due(queue, 20.0) for _ in range(5)]
    rest = [f"job-{number}" for number in range(640) if f"job-{number}" not in taken]
    for job_id in rest[:300]:
        queue.drop(job_id)
    for job_id in rest[300:310]:
        queue.put(job_id, due=30.0, now=20.0)

    assert sorted(take_all(queue, 29.0)) == sorted(rest[310:])
    assert sorted(take_all(queue, 30.0)) == sorted(rest[300:310])


def test_queue_of_twenty_thousand_due_jobs():
    """Taking 20,000 due jobs takes seconds of CPU at worst: it is far from quadratic."""
    queue = PollQueue()
    for number in range(20_000):
        queue.put(f"job-{number}", due=1.0 + number % 97, now=0.0)
    began = time.process_time()

    taken = take_all(queue, 1_000.0)

    assert time.process_time() - began < 60.0
    assert len(set(taken)) == len(taken) == 20_000
    assert taken[0] == "job-0"
