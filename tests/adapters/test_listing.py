"""What is known of the list: which page is worth a request, and what is learnt from it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from poller.core.errors import NotFound, Rejected, ResponseTooLarge, Transient, Unauthorized
from poller.core.jobs import Job
from poller.polling.queue import PollQueue
from poller.sutro.client import JobPage
from poller.sutro.list_planner import (
    DISABLED_SECONDS,
    FAILURES_BEFORE_GET,
    PAGE_JOBS,
    ListPlanner,
    PageRequest,
)
from tests.support.builders import a_job

NOW = 1_000.0


@dataclass
class Reader:
    """Somebody who reads pages at a time that a test sets, for ten jobs that are due."""

    now: float = NOW
    schedule: PollQueue = field(default_factory=PollQueue)
    listing: ListPlanner = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing read."""
        self.listing = ListPlanner(lambda: self.now)

    def due(self, *job_ids: str, **fields: Any) -> None:
        """Let jobs fall due now, ten seconds after their last look."""
        for job_id in job_ids:
            self.schedule.put(job_id, due=self.now, now=self.now - 10.0, **fields)

    def pick(self, job_id: str) -> PageRequest | None:
        """Return the page that is worth a request for a due job."""
        return self.listing.plan(job_id, self.schedule)

    def read(self, *job_ids: str, cursor: str | None = None) -> PageRequest:
        """Read a page of the unknown part of the list, which shows these jobs."""
        self.listing._credit = 1.0
        self.due("stray-1", "stray-2")
        sheet = self.pick("stray-1") or self.pick("stray-2")
        assert sheet
        self.listing.learn_page(sheet, page(*job_ids, cursor=cursor))
        return sheet


def page(*job_ids: str, cursor: str | None = None, **fields: Any) -> JobPage:
    """Give a page of running jobs."""
    return JobPage(tuple(a_job(job_id=it, **fields) for it in job_ids), cursor)


def names(count: int, prefix: str = "job") -> list[str]:
    """Give the ids of some jobs."""
    return [f"{prefix}-{number}" for number in range(count)]


@pytest.fixture
def reader() -> Reader:
    """Give a reader who has read the first page: ten jobs, all of them due."""
    it = Reader()
    it.read(*names(10))
    it.due(*names(10))
    return it


def test_page_shows_all_due_jobs(reader: Reader):
    """A page is as deep as the deepest due job, and a little deeper."""
    sheet = reader.pick("job-3")

    assert sheet
    assert (sheet.limit, set(sheet.expected)) == (15, set(names(10)))


def test_page_is_no_deeper_than_needed(reader: Reader):
    """Jobs that are not due for long do not make a page deeper."""
    for job_id in names(10)[4:]:
        reader.schedule.put(job_id, due=NOW + 100.0, now=NOW)

    sheet = reader.pick("job-3")

    assert sheet
    assert (sheet.limit, set(sheet.expected)) == (9, set(names(4)))


def test_no_page_for_one_job(reader: Reader):
    """Where no other job is due soon, a GET is as good and smaller."""
    for job_id in names(10)[1:]:
        reader.schedule.put(job_id, due=NOW + 100.0, now=NOW)

    assert reader.pick("job-0") is None


def test_no_page_for_company_that_is_asked_for_singly(reader: Reader):
    """Jobs that only a look of their own serves are no company."""
    reader.due(*names(10)[1:], is_single=True)

    assert reader.pick("job-0") is None


def test_next_page_begins_where_the_first_ended():
    """Jobs on different pages are looked at by different pages, each from its own cursor."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="after-100")
    reader.read(*names(PAGE_JOBS, "old"))
    reader.due("old-1", "old-2", "job-1", "job-2")

    cursors = [sheet and sheet.page.cursor for sheet in map(reader.pick, ("old-1", "job-1"))]

    assert cursors == ["after-100", None]


def test_cursor_that_repeats_ends_the_list():
    """A cursor that comes again leads nowhere: no page is read for it again."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="again")
    reader.read(*names(PAGE_JOBS, "old"), cursor="again")

    reader.due("lost-1", "lost-2")

    assert [reader.pick("lost-1"), reader.pick("lost-2")] == [None, None]


def test_unknown_part_is_not_read_for_nothing():
    """After a page that showed no watched job, GETs have to pay for the next one."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS, "other"), cursor="more")
    reader.due("job-1", "job-2")

    before = reader.pick("job-1")
    for _ in range(8):
        reader.listing.learn_job("job-1", a_job(job_id="job-1"))
    after = reader.pick("job-1")

    assert before is None
    assert after
    assert after.page.cursor == "more"


def test_job_that_moved_away_is_asked_for_singly(reader: Reader):
    """A job that its page no longer shows has no place until some page shows it."""
    sheet = reader.pick("job-0")
    assert sheet
    reader.listing.learn_page(sheet, page(*names(10)[:-1]))

    assert reader.pick("job-9") is None
    assert reader.pick("job-0")


@pytest.mark.parametrize(
    "error",
    [NotFound("no"), Rejected("no"), Unauthorized("no", status=403)],
    ids=["404", "405", "403"],
)
def test_refused_list_is_off_for_an_hour(reader: Reader, error):
    """A list that is refused is not asked for again for an hour."""
    sheet = reader.pick("job-0")
    assert sheet
    reader.listing.fail(sheet, error)
    reader.now += DISABLED_SECONDS - 1.0
    before = reader.listing.plan("job-0", reader.schedule)
    reader.now += 1.0
    reader.read(*names(10))

    assert before is None
    assert reader.pick("job-0")


def test_old_cursor_begins_the_list_anew():
    """A cursor that is refused has grown too old: the top is read again at once."""
    reader = Reader()
    reader.read(*names(PAGE_JOBS), cursor="old")
    reader.read(*names(PAGE_JOBS, "old"))
    reader.due("old-1", "old-2")
    sheet = reader.pick("old-1")
    assert sheet

    reader.listing.fail(sheet, Rejected("no such cursor"))

    anew = reader.pick("old-1") or reader.pick("old-2")
    assert anew
    assert anew.page.cursor is None


def test_fat_pages_shrink(reader: Reader):
    """A page over the cap is asked for with half as many jobs, until single GETs are better."""
    limits = []
    while sheet := reader.pick("job-0") or reader.pick("job-1"):
        limits.append(sheet.limit)
        reader.listing.fail(sheet, ResponseTooLarge("over the cap"))

    assert limits == [15, 7]


def test_failing_pages_are_doubted(reader: Reader):
    """After some failures in a row a GET shows whether the API or its list is in trouble."""
    for _ in range(FAILURES_BEFORE_GET):
        sheet = reader.pick("job-0")
        assert sheet
        reader.listing.fail(sheet, Transient("trouble"))
    doubted = reader.pick("job-0")
    reader.listing.learn_job("job-0", Transient("trouble"))
    again = reader.pick("job-0")
    for _ in range(2 * FAILURES_BEFORE_GET):
        reader.listing.fail(again, Transient("trouble"))
    reader.listing.learn_job("job-0", a_job(job_id="job-0"))

    assert doubted is None
    assert again
    assert reader.pick("job-0") is None


def test_switched_off():
    """Where only GETs are wanted no page is ever worth it."""
    listing, schedule = ListPlanner(lambda: NOW, is_on=False), PollQueue()
    for job_id in names(3):
        schedule.put(job_id, due=NOW, now=NOW - 10.0)

    assert [listing.plan(it, schedule) for it in names(3)] == [None] * 3


def test_ended_jobs_are_forgotten(reader: Reader):
    """A job that a GET has seen at its end is not looked for in the list."""
    reader.due("gone")
    reader.pick("gone")
    ended: Job = a_job("FAILED", job_id="gone")
    reader.listing.learn_job("gone", ended)

    assert "gone" not in reader.listing._created
