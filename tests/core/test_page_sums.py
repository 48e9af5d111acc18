"""Jobs on pages: when a page is due, what it leaves alone, and whose turn it is."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.pacing import PollPolicy
from poller.core.page_sum import PageSum
from poller.core.poll_order import Priority
from poller.core.poll_queue import PollQueue

NOW = 1_705_312_800.0
HOUR = 3_600.0
PAGE = "page"


def shared(*job_ids: str, age: float = HOUR - 60.0, policy: PollPolicy | None = None) -> PollQueue:
    """Return a queue of jobs of an age that a page has just shown, all of them as known."""
    queue = PollQueue(policy or PollPolicy())
    put(queue, *job_ids, age=age)
    show(queue, job_ids)
    return queue


def put(queue: PollQueue, *job_ids: str, age: float = HOUR, confirm_at: float = math.inf) -> None:
    """Put jobs of an age that were polled just now."""
    for job_id in job_ids:
        began_at = NOW - age
        queue.put(job_id, due=NOW + 30.0, now=NOW, began_at=began_at, confirm_at=confirm_at)


def show(queue: PollQueue, job_ids: Sequence[str], *, at: float = NOW, page: str = PAGE) -> None:
    """Read a page that shows these jobs."""
    queue.show(page, list(job_ids), list(job_ids), requested_at=at - 1.0, now=at)
    queue.release(page)


def names(count: int) -> list[str]:
    """Return the ids of some jobs."""
    return [f"job-{number}" for number in range(count)]


# The sum.

TIMES = st.lists(st.floats(0.0, 1e5), min_size=1, max_size=100)


@given(times=TIMES, weight=st.floats(1e-9, 1.0))
def test_sum_by_three_numbers(times, weight):
    """Three numbers have the same sum, and the same time at which it is 1, as a walk over all."""
    total = PageSum(NOW + max(times))
    for moment in times:
        total.add(weight, NOW + moment)

    due = total.reaches_one_at()

    assert sum(weight * (due - NOW - moment) ** 2 for moment in times) >= 1.0 - 1e-3
    assert total.at(due) == pytest.approx(
        sum(weight * (due - NOW - moment) ** 2 for moment in times), rel=1e-3, abs=1e-6
    )


@pytest.mark.parametrize(("count", "seconds"), [(1, 30.0), (4, 16.5), (36, 5.5), (100, 3.3)])
def test_page_is_due_by_the_sum_of_its_jobs(count: int, seconds: float):
    """An hour old, one job is due after 30 s; n on a page after 33 s by the square root of n."""
    queue = shared(*names(count))

    assert queue.next_due() == pytest.approx(NOW + seconds)
    assert queue.due(NOW + seconds - 0.1) is None
    assert queue.due(NOW + seconds + 0.1) == PAGE


def test_page_is_not_read_again_at_once():
    """However many jobs a page shows, it is not read again within the shortest interval."""
    assert shared(*names(100), age=0.0).next_due() == NOW + 2.0


def test_fixed_interval_is_that_of_a_page():
    """Equal bounds fix the interval of a page too."""
    policy = PollPolicy(minimum=7.0, maximum=7.0)

    assert shared(*names(100), policy=policy).next_due() == NOW + 7.0


def test_young_job_hastens_its_page():
    """A job that has just started makes its page due about as soon as it would be alone."""
    queue = shared("old", age=1e6)
    put(queue, "young", age=0.0)
    show(queue, ["young", "old"])

    assert queue.next_due() == pytest.approx(NOW + 4.61, abs=0.01)


def test_page_with_nothing_new_touches_no_job():
    """Reading a page again adds one entry for the page, and none for its hundred jobs."""
    queue = shared(*names(100))
    queue.next_due()
    entries = len(queue._order._heap)
    jobs = {job_id: repr(job) for job_id, job in queue._jobs.items()}
    for number in range(1, 11):
        queue.take([], PAGE)
        show(queue, names(100), at=NOW + 4.0 * number)
        assert queue.next_due() == pytest.approx(NOW + 4.0 * number + 3.3, abs=0.3)

    assert len(queue._order._heap) <= entries + 10
    assert {job_id: repr(job) for job_id, job in queue._jobs.items()} == jobs


def test_page_that_is_away_is_not_due():
    """A page that is being read is not read twice, and is due as before when it failed."""
    queue = shared(*names(4))
    due = queue.next_due()
    assert queue.due(NOW + 20.0) == PAGE
    queue.take([], PAGE)
    away = queue.due(NOW + 60.0), queue.next_due()
    queue.release(PAGE)

    assert away == (None, math.inf)
    assert queue.next_due() == due


def test_jobs_with_times_of_their_own_go_along_with_their_page():
    """A job that waits for a time of its own is away with its page, and comes back with it."""
    queue = shared(*names(4))
    queue.put("failed", due=NOW + 50.0, now=NOW, is_deferred=True)
    show(queue, [*names(4), "failed"])
    assert queue.due(NOW + 20.0) == PAGE
    queue.take([], PAGE)
    away = "failed" in queue
    queue.release(PAGE)

    assert not away
    assert "failed" in queue


def test_job_that_left_its_page_is_due_alone():
    """A job that its page no longer shows is due after its own interval since that page."""
    queue = shared(*names(4))
    show(queue, names(3), at=NOW + 10.0)
    queue.drop("job-0")
    queue.drop("job-1")
    queue.drop("job-2")

    assert queue.due(NOW + 29.9) is None
    assert queue.due(NOW + 30.1) == "job-3"


def test_lost_page_leaves_its_jobs_due_alone():
    """The jobs of a page that cannot be read any more are due after their own intervals."""
    queue = shared(*names(4))
    queue.dissolve(PAGE)

    assert queue.due(NOW + 29.9) is None
    assert queue.due(NOW + 30.1) in names(4)
    assert len(queue) == 4


def test_jobs_on_a_page_are_confirmed_alone():
    """A job that pages alone have shown for long is due for a request of its own."""
    queue = shared(*names(4))
    put(queue, "job-2", confirm_at=NOW + 10.0)

    assert queue.due(NOW + 10.0) == "job-2"


# Whose turn it is.


def turns(queue: PollQueue, count: int) -> list[str]:
    """Take so many polls in turn, long after all are due; return their kinds."""
    taken = []
    for number in range(count):
        due = queue.due(NOW + 1e4 + number)
        assert isinstance(due, str)
        queue.take([due])
        taken.append(due.partition("-")[0])
    return taken


def waiting(**counts: int) -> PollQueue:
    """Return a queue with so many late jobs of each priority."""
    queue = PollQueue()
    for name, count in counts.items():
        for number in range(count):
            queue.put(f"{name}-{number}", due=NOW, now=NOW - 1.0, priority=Priority[name.upper()])
    return queue


def test_first_polls_take_turns_with_the_others():
    """However many jobs were never seen, every second poll is of one that was."""
    assert sorted(turns(waiting(first=1_000, usual=20), 40)) == ["first"] * 20 + ["usual"] * 20


def test_settling_jobs_have_every_second_turn():
    """A job that settles waits for one other poll at most, and holds up no other by more."""
    order = turns(waiting(settling=20, first=20, usual=20), 30)

    assert all("settling" in pair for pair in pairwise(order))
    assert order.count("first") + order.count("usual") >= 12


def test_confirmations_take_a_third_at_most():
    """Many jobs that need a request of their own leave two of three to those that are due."""
    assert turns(waiting(confirm=50, usual=50), 30).count("usual") == 20


def test_late_fields_come_last():
    """Late fields are polled when no change may be missed meanwhile."""
    order = turns(waiting(late=5, first=2, usual=2, settling=2), 11)

    assert order[6:] == ["late"] * 5


def test_largest_sum_goes_first():
    """Of the pages and jobs that are due, the one with the most lag piled up goes first."""
    queue = PollQueue()
    many, few = names(50), [f"few-{number}" for number in range(5)]
    put(queue, *many, *few, "alone", age=HOUR)
    show(queue, few, page="few")
    show(queue, many, page="many")
    order = []
    for _ in range(3):
        due = queue.due(NOW + 100.0)
        queue.take([] if due in {"few", "many"} else [str(due)], due)
        order.append(due)

    assert order == ["many", "few", "alone"]


def test_lateness_counts_first_polls():
    """How late polls are shows that first polls wait, though others are on time."""
    queue = waiting(first=10)
    queue.due(NOW + 100.0)
    late = queue.lateness_ratio
    for number in range(10):
        queue.drop(f"first-{number}")
    queue.due(NOW + 100.0)

    assert late > 10.0
    assert queue.lateness_ratio == 1.0
