"""When to look: the numbers of the policy, and the order of the schedule."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.pacing import Backoff, PollPolicy
from poller.polling.queue import PollQueue

HOUR, DAY = 3_600.0, 86_400.0


def a_schedule(**jobs: tuple[float, float]) -> PollQueue:
    """Give a schedule of jobs, each with the times of its last look and its next."""
    schedule = PollQueue()
    for job_id, (last, due) in jobs.items():
        schedule.put(job_id, due=due, now=last)
    return schedule


def take_due(queue: PollQueue, now: float) -> str | None:
    """Take the most overdue job, if one is due."""
    job_id = queue.due_job(now)
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
    (0.0, 7.75),
    (60.0, 10.95),
    (15 * 60.0, 30.98),
    (HOUR, 60.5),
    (DAY, 294.04),
    (DAY * 1.05, 300.0),
    (30 * DAY, 300.0),
    (-500.0, 7.75),
]


@pytest.mark.parametrize(("age", "seconds"), INTERVALS)
def test_the_default_pace(age, seconds):
    """The interval grows with the square root of the job's age, up to five minutes."""
    assert PollPolicy().interval(age) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("age", [0.0, HOUR, DAY])
def test_equal_bounds_fix_the_interval(age):
    """A minimum equal to the maximum is a fixed interval, be it a fraction of a second."""
    assert PollPolicy(minimum=0.05, maximum=0.05).interval(age) == 0.05


def test_the_factor_is_a_dial():
    """The factor scales the interval within its bounds."""
    assert PollPolicy(factor=2.0).interval(840.0) == 60.0
    assert PollPolicy(factor=0.01).interval(840.0) == 2.0


@given(younger=st.floats(0, 1e9), older=st.floats(0, 1e9), factor=st.floats(0.01, 100))
def test_the_interval_never_shrinks_with_age(younger, older, factor):
    """An older job is never looked at more often than a younger one."""
    policy = PollPolicy(factor=factor)
    younger, older = sorted((younger, older))

    assert 2.0 <= policy.interval(younger) <= policy.interval(older) <= 300.0


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


# The schedule.


def test_nothing_is_due_before_its_time():
    """A job can be taken from the moment it is due, and not before."""
    schedule = a_schedule(one=(0.0, 10.0))

    assert take_due(schedule, 9.9) is None
    assert take_due(schedule, 10.0) == "one"


def test_a_job_that_was_taken_is_away():
    """A taken job is not given twice, nor counted, until it is put back."""
    schedule = a_schedule(one=(0.0, 10.0))
    take_due(schedule, 10.0)

    assert (take_due(schedule, 100.0), schedule.next_due(), len(schedule)) == (None, None, 0)


def test_reading_the_queue_takes_nothing():
    """The due job stays the same, and waits, until it is taken."""
    queue = a_schedule(one=(0.0, 10.0), two=(0.0, 20.0))

    assert [queue.due_job(30.0), queue.due_job(30.0), queue.probe_job()] == ["one"] * 3
    assert len(queue) == 2


def test_a_job_that_comes_back_is_ranked_anew():
    """A job that was taken, put again and is due again goes behind those that are later."""
    queue = a_schedule(one=(0.0, 10.0), two=(0.0, 20.0))
    take_due(queue, 30.0)
    queue.put("one", due=31.0, now=30.0)

    assert take_all(queue, 31.0) == ["two", "one"]


def test_the_most_overdue_goes_first():
    """Of the jobs that are due, the latest in units of its own interval goes first."""
    schedule = a_schedule(
        daily=(0.0, 300.0),  # at 340 it is 1.13 intervals old
        hourly=(200.0, 260.0),  # 2.33
        fresh=(320.0, 328.0),  # 2.5
        idle=(330.0, 350.0),  # not due
    )

    assert take_all(schedule, 340.0) == ["fresh", "hourly", "daily"]


def test_a_job_can_be_put_anew():
    """What was scheduled for a job before is forgotten when it is put anew, due or not."""
    schedule = a_schedule(one=(0.0, 10.0), two=(0.0, 20.0))
    schedule.put("one", due=30.0, now=10.0)

    assert take_all(schedule, 29.0) == ["two"]
    assert schedule.next_due() == 30.0
    assert take_all(schedule, 30.0) == ["one"]


def test_a_dropped_job_is_gone():
    """A dropped job is never given, and dropping an unknown one is no error."""
    schedule = a_schedule(one=(0.0, 10.0), two=(0.0, 20.0))
    schedule.drop("one")
    schedule.drop("three")

    assert (len(schedule), schedule.next_due()) == (1, 20.0)
    assert take_all(schedule, 100.0) == ["two"]


def test_the_next_due_time():
    """The next due time is the earliest of those that wait, in whatever order they came."""
    schedule = a_schedule(late=(0.0, 30.0), early=(0.0, 10.0), middle=(0.0, 20.0))
    schedule.put("early", due=25.0, now=0.0)

    assert schedule.next_due() == 20.0


def test_the_next_due_time_has_passed_while_jobs_are_due():
    """While some due jobs are left, the next due time is not in the future."""
    schedule = a_schedule(one=(0.0, 10.0), two=(0.0, 11.0), three=(0.0, 90.0))
    take_due(schedule, 20.0)

    assert schedule.next_due() <= 20.0


def test_an_empty_schedule_has_no_next_time():
    """With nothing scheduled there is nothing to wait for or to try."""
    schedule = PollQueue()

    assert (schedule.next_due(), schedule.due_job(1e9), schedule.probe_job()) == (None,) * 3


def test_hasten():
    """A hastened job is due now, and an unknown one changes nothing."""
    schedule = a_schedule(one=(0.0, 300.0))
    schedule.expedite("one", 50.0)
    schedule.expedite("two", 50.0)

    assert schedule.next_due() == 50.0
    assert take_all(schedule, 50.0) == ["one"]


def test_hastening_puts_no_job_behind():
    """A job that is long overdue keeps its place when it is hastened."""
    schedule = a_schedule(overdue=(0.0, 10.0), due=(0.0, 60.0))
    schedule.expedite("overdue", 100.0)

    assert take_all(schedule, 100.0) == ["overdue", "due"]


def test_take_early_takes_the_best_job_for_a_trial():
    """A trial takes the job that was asked longest ago, due or not, and last one put off."""
    schedule = a_schedule(late=(5.0, 10.0), first=(3.0, 900.0))
    schedule.put("refused", due=1.0, now=0.0, is_deferred=True)

    assert [take_probe(schedule) for _ in range(4)] == ["first", "late", "refused", None]


def test_a_hastened_job_stays_put_off():
    """Hastening a job that hardly answers makes it no better for a trial."""
    schedule = a_schedule(good=(0.0, 100.0))
    schedule.put("refused", due=900.0, now=0.0, is_deferred=True)
    schedule.expedite("refused", 10.0)

    assert take_probe(schedule) == "good"


# Always and never.

JOB = st.sampled_from("abc")
TIME = st.integers(0, 20).map(float)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "put_off", "drop", "hasten"]), JOB, TIME)
    | st.tuples(st.sampled_from(["take", "take_early", "next_due"]), st.none(), TIME)
)


@given(OPERATIONS)
def test_a_schedule_never_loses_or_doubles_a_job(operations):
    """Whatever is done in whatever order, a job is there once, or away, at the time it was put."""
    schedule, due, now = PollQueue(), {}, 0.0
    for verb, job_id, number in operations:
        now += number / 4
        match verb:
            case "put" | "put_off":
                schedule.put(job_id, due=now + number, now=now, is_deferred=verb == "put_off")
                due[job_id] = now + number
            case "drop":
                schedule.drop(job_id)
                due.pop(job_id, None)
            case "hasten":
                schedule.expedite(job_id, now)
                due |= {job_id: min(due[job_id], now)} if job_id in due else {}
            case "take":
                taken = take_due(schedule, now)
                assert (taken is None) is (min(due.values(), default=now + 1) > now)
                assert taken is None or due.pop(taken) <= now
            case "take_early":
                taken = take_probe(schedule)
                assert (taken is None) is (not due)
                due.pop(taken, None)
            case "next_due":
                earliest, told = min(due.values(), default=None), schedule.next_due()
                assert told == earliest or (earliest <= told <= now)
        assert len(schedule) == len(due)

    assert sorted(take_all(schedule, now + 100.0)) == sorted(due)


@given(st.lists(st.tuples(TIME, TIME.filter(bool)), min_size=1, max_size=60))
def test_few_due_jobs_are_taken_in_exact_order(times):
    """Up to 63 due jobs go strictly by how overdue they are."""
    looks = {f"job-{number}": it for number, it in enumerate(times)}
    schedule = a_schedule(**{it: (last, last + every) for it, (last, every) in looks.items()})

    lateness = [(60.0 - looks[it][0]) / looks[it][1] for it in take_all(schedule, 60.0)]

    assert len(lateness) == len(times)
    assert lateness == sorted(lateness, reverse=True)


def test_a_long_queue_that_changes_meanwhile():
    """Of many due jobs that are worked off, none that was dropped or put anew is given."""
    schedule = a_schedule(**{f"job-{number}": (0.0, 10.0) for number in range(640)})
    taken = [take_due(schedule, 20.0) for _ in range(5)]
    rest = [f"job-{number}" for number in range(640) if f"job-{number}" not in taken]
    for job_id in rest[:300]:
        schedule.drop(job_id)
    for job_id in rest[300:310]:
        schedule.put(job_id, due=30.0, now=20.0)

    assert sorted(take_all(schedule, 29.0)) == sorted(rest[310:])
    assert sorted(take_all(schedule, 30.0)) == sorted(rest[300:310])


def test_twenty_thousand_due_jobs():
    """Taking 20,000 due jobs takes seconds of CPU at worst: it is far from quadratic."""
    schedule = PollQueue()
    for number in range(20_000):
        schedule.put(f"job-{number}", due=1.0 + number % 97, now=0.0)
    began = time.process_time()

    taken = take_all(schedule, 1_000.0)

    assert time.process_time() - began < 10.0
    assert len(set(taken)) == len(taken) == 20_000
    assert taken[0] == "job-0"
