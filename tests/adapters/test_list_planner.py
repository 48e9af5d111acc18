"""Plans of list pages: which page is worth a request, and what its result shows."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from poller.core.errors import NotFound, Rejected, ResponseTooLarge, Transient, WrongEndpoint
from poller.core.jobs import Job
from poller.core.poll_queue import PollQueue
from poller.sutro.client import JobPage
from poller.sutro.list_page import ListPage, PageRequest
from poller.sutro.list_planner import (
    FAILURES_BEFORE_GET,
    PAGE_JOBS,
    ListPlanner,
)
from tests.support.builders import a_job

NOW = 1_000.0


@dataclass
class Reader:
    """Reads pages at a time that a test sets, for ten jobs that are due."""

    now: float = NOW
    queue: PollQueue = field(default_factory=PollQueue)
    planner: ListPlanner = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing read."""
        self.planner = ListPlanner(lambda: self.now)

    def due(self, *job_ids: str, **fields: Any) -> None:
        """Make jobs due now, ten seconds after their last poll."""
        for job_id in job_ids:
            self.queue.put(job_id, due=self.now, now=self.now - 10.0, **fields)

    def pick(self, job_id: str) -> PageRequest | None:
        """Return the page that is worth a request for a due job."""
        return self.planner.plan(job_id, self.queue)

    def read(self, *job_ids: str, cursor: str | None = None) -> PageRequest:
        """Read a page of the unknown part of the list, which shows these jobs."""
        self.planner._credit = 1.0
        self.due("stray-1", "stray-2")
        request = self.pick("stray-1") or self.pick("stray-2")
        assert request
        self.planner.learn_page(request, page(*job_ids, cursor=cursor))
        return request


def page(*job_ids: str, cursor: str | None = None, **fields: Any) -> JobPage:
    """Return a page of running jobs."""
    return JobPage(tuple(a_job(job_id=it, **fields) for it in job_ids), cursor)


def names(count: int, prefix: str = "job") -> list[str]:
    """Return the ids of some jobs."""
    return [f"{prefix}-{number}" for number in range(count)]


@pytest.fixture
def reader() -> Reader:
    """Return a reader of the first page: ten jobs, all of them due."""
    it = Reader()
    it.read(*names(10))
    it.due(*names(10))
    return it


def test_page_shows_all_waiting_jobs(reader: Reader):
    """A page is as deep as the deepest job that waits, due or not, and a little deeper."""
    for job_id in names(10)[4:]:
        reader.queue.put(job_id, due=NOW + 100.0, now=NOW)

    request = reader.pick("job-3")

    assert request
    assert request.limit == 15


def test_page_is_no_deeper_than_needed(reader: Reader):
    """Jobs that are polled singly, or not at all, do not make a page deeper."""
    reader.due(*names(10)[4:7], is_single=True)
    for job_id in names(10)[7:]:
        reader.queue.drop(job_id)

    request = reader.pick("job-3")

    assert request
    assert request.limit == 9


def test_no_page_for_one_job(reader: Reader):
    """Where no other job waits, a GET is as good and smaller."""
    for job_id in names(10)[1:]:
        reader.queue.drop(job_id)

    assert reader.pick("job-0") is None
    assert reader.planner.read_again(reader.planner.first().page, reader.queue) is None


def test_page_that_is_due_again(reader: Reader):
    """A page is read again while it is part of the list and the list works."""
    first = reader.planner.first().page
    request = reader.planner.read_again(first, reader.queue)
    assert request
    before = reader.planner.is_readable(first)
    reader.planner.fail(request, Rejected("no"))

    assert (request.limit, before) == (15, True)
    assert not reader.planner.is_readable(first)


def test_no_page_for_jobs_that_are_polled_singly(reader: Reader):
    """Jobs that only a request of their own serves are no reason for a page."""
    reader.due(*names(10)[1:], is_single=True)

    assert reader.pick("job-0") is None


def test_page_starts_where_the_one_before_ended():
    """Jobs on different pages are polled by different pages, each from its own cursor."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="after-100")
    reader.read(*names(PAGE_JOBS, "old"))
    reader.due("old-1", "old-2", "job-1", "job-2")

    cursors = [request and request.page.cursor for request in map(reader.pick, ("old-1", "job-1"))]

    assert cursors == ["after-100", None]


def rest_of_two_pages(*job_ids: str) -> tuple[Reader, ListPage]:
    """Return a reader of two whole pages of which only these jobs still wait, and the first."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="after-100")
    reader.read(*names(PAGE_JOBS, "old"), cursor="after-200")
    for job_id in ("stray-1", "stray-2"):
        reader.queue.drop(job_id)
    reader.due(*job_ids)
    return reader, reader.planner.first().page


def test_page_begins_at_the_first_job_that_waits():
    """Jobs on two pages that one can show are: the rows above them are read once, and no more."""
    reader, first = rest_of_two_pages("job-60", "job-70", "old-40", "old-59")
    skipped = reader.planner.read_again(first, reader.queue)
    assert skipped
    reader.planner.learn_page(skipped, page(*names(60), cursor="after-60"))

    request = reader.pick("job-70")

    assert (skipped.page, skipped.limit) == (first, 60)
    assert request
    assert (request.page.cursor, request.limit) == ("after-60", PAGE_JOBS)
    reader.planner.learn_page(
        request, page(*names(PAGE_JOBS)[60:], *names(60, "old"), cursor="after-160")
    )
    assert reader.planner.read_again(first, reader.queue) is None
    for job_id in ("job-60", "old-59"):
        assert (again := reader.pick(job_id))
        assert again.page is request.page


@pytest.mark.parametrize("job_ids", [("job-60", "job-70", "old-60"), ("job-60", "job-70")])
def test_page_begins_as_before_where_that_saves_none(job_ids):
    """Rows are not skipped where as many pages are needed to show all jobs that wait."""
    reader, first = rest_of_two_pages(*job_ids)

    request = reader.planner.read_again(first, reader.queue)

    assert request
    assert request.limit == 76


def test_rows_that_no_page_shows_any_more_are_on_the_next():
    """Three pages become two: what is pushed off the end of one page is looked for on the next."""
    reader, first = rest_of_two_pages("job-60", "job-70", "old-59", "old-90", "older-10")
    reader.read(*names(PAGE_JOBS, "older"))
    for job_id in ("stray-1", "stray-2"):
        reader.queue.drop(job_id)
    skipped = reader.planner.read_again(first, reader.queue)
    assert skipped
    reader.planner.learn_page(skipped, page(*names(60), cursor="after-60"))
    second = reader.pick("job-70")
    assert second
    reader.planner.learn_page(
        second, page(*names(PAGE_JOBS)[60:], *names(60, "old"), cursor="after-160")
    )

    third = reader.pick("old-90")

    assert third
    assert (third.page.cursor, third.limit) == ("after-160", 56)


def test_repeated_cursor_ends_the_list():
    """A cursor that repeats leads nowhere: no page is read for it again."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="again")
    reader.read(*names(PAGE_JOBS, "old"), cursor="again")

    reader.due("lost-1", "lost-2")

    assert [reader.pick("lost-1"), reader.pick("lost-2")] == [None, None]


def test_unread_pages_need_credit():
    """After a page that showed no watched job, GETs have to allow the next one."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS, "other"), cursor="more")
    reader.due("job-1", "job-2")

    before = reader.pick("job-1")
    for _ in range(8):
        reader.planner.learn_job("job-1", a_job(job_id="job-1"))
    after = reader.pick("job-1")

    assert before is None
    assert after
    assert after.page.cursor == "more"


def test_job_that_left_its_page_is_polled_singly(reader: Reader):
    """A job that its page no longer shows has no place until some page shows it."""
    request = reader.pick("job-0")
    assert request
    reader.planner.learn_page(request, page(*names(10)[:-1]))

    assert reader.pick("job-9") is None
    assert reader.pick("job-0")


@pytest.mark.parametrize(
    "error",
    [NotFound("no"), Rejected("no"), WrongEndpoint("no")],
    ids=["404", "405", "302"],
)
def test_rejected_list_is_disabled_ever_longer(reader: Reader, error):
    """A rejected list is left alone for 1, 2, 5 and 15 minutes, then an hour; a page ends that."""
    request = reader.pick("job-0")
    for delay in (60.0, 120.0, 300.0, 900.0, 3_600.0, 3_600.0):
        assert request
        reader.planner.fail(request, error)
        reader.now += delay - 1.0
        assert reader.pick("job-0") is None
        reader.now += 1.0
        request = reader.pick("job-0") or reader.pick("job-1")
    assert request
    reader.planner.learn_page(request, page(*names(10)))
    reader.planner.fail(request, error)
    reader.now += 60.0

    assert reader.pick("job-0") or reader.pick("job-1")


@pytest.mark.parametrize("is_on", [True, False])
def test_retry_ends_the_wait_for_a_rejected_list(reader: Reader, is_on: bool):
    """An operator can have a rejected list read at once, but not one that is switched off."""
    reader.planner = ListPlanner(lambda: reader.now, is_on=is_on)
    for _ in range(9):
        reader.planner.fail(reader.planner.first(), Rejected("no"))
    before = reader.pick("job-0") or reader.pick("job-1")
    reader.planner.retry()

    assert before is None
    assert bool(reader.pick("job-0") or reader.pick("job-1")) is is_on


def test_expired_cursor_restarts_at_the_top():
    """A cursor that is rejected has expired: the top is read again at once."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="old")
    reader.read(*names(PAGE_JOBS, "old"))
    reader.due("old-1", "old-2")
    request = reader.pick("old-1")
    assert request

    reader.planner.fail(request, Rejected("no such cursor"))

    anew = reader.pick("old-1") or reader.pick("old-2")
    assert anew
    assert anew.page.cursor is None


def test_large_pages_shrink(reader: Reader):
    """A page over the cap is requested with half as many jobs, until single GETs are better."""
    limits = []
    while request := reader.pick("job-0") or reader.pick("job-1"):
        limits.append(request.limit)
        reader.planner.fail(request, ResponseTooLarge("over the cap"))

    assert limits == [15, 7]


def test_failing_pages_are_checked_by_a_get(reader: Reader):
    """After some failures in a row a GET shows whether the API or its list alone fails."""
    for _ in range(FAILURES_BEFORE_GET):
        request = reader.pick("job-0")
        assert request
        reader.planner.fail(request, Transient("500"))
    doubted = reader.pick("job-0")
    reader.planner.learn_job("job-0", Transient("500"))
    again = reader.pick("job-0")
    for _ in range(2 * FAILURES_BEFORE_GET):
        reader.planner.fail(again, Transient("500"))
    reader.planner.learn_job("job-0", a_job(job_id="job-0"))

    assert doubted is None
    assert again
    assert reader.pick("job-0") is None


def test_list_pages_off():
    """Where only GETs are wanted no page is ever planned."""
    planner, queue = ListPlanner(lambda: NOW, is_on=False), PollQueue()
    for job_id in names(3):
        queue.put(job_id, due=NOW, now=NOW - 10.0)

    assert [planner.plan(it, queue) for it in names(3)] == [None] * 3


def test_ended_jobs_are_forgotten(reader: Reader):
    """A job that a GET has shown at its end is not looked for in the list."""
    reader.due("gone")
    reader.pick("gone")
    ended: Job = a_job("FAILED", job_id="gone")
    reader.planner.learn_job("gone", ended)

    assert "gone" not in reader.planner._created


def test_odd_date_places_no_job():
    """A row of 1970 does not make its page the place of all jobs that no page has shown."""
    planner = ListPlanner(lambda: NOW)
    new = page(*names(9), datetime_created="2024-01-15T10:30:00Z")
    odd = page("odd", datetime_created="1970-01-01T00:00:00Z")
    planner.learn_page(planner.first(), JobPage(new.jobs + odd.jobs, "more"))
    planner.learn_job("job-a", a_job(job_id="job-a", datetime_created="2024-01-14T10:30:00Z"))
    found = planner.search("job-a")

    assert found
    assert found.page.cursor == "more"
