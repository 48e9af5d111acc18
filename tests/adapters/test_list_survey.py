"""How far down the list discovery reads, whatever the order, the dates and the cursors are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from poller.core.errors import Transient
from poller.sutro.client import JobPage
from poller.sutro.list_page import ListPage, PageRequest
from poller.sutro.list_scanner import TURN_SECONDS
from poller.sutro.list_survey import LATE_SECONDS, MAX_PAGES, MAX_REPEATS, SURVEY_INTERVAL
from tests.support.list_pages import (
    NOW,
    Created,
    Pages,
    every_minute,
    every_ten_seconds,
    numbered,
    page_of,
)


async def test_surveys_read_deeper_every_second_time():
    """The first survey reads all that counts; of the later ones every second is twice as deep."""
    pages = Pages(numbered(5_000, every_ten_seconds))
    depths = []
    for _ in range(9):
        await pages.scan()
        depths.append(len(pages.cursors))
        pages.now += SURVEY_INTERVAL

    assert depths == [50, 1, 2, 1, 3, 1, 1, 1, 5]


async def test_survey_reads_below_the_last_one():
    """A survey reads ten minutes further than to when the last one was."""
    pages = Pages(numbered(5_000, lambda number: NOW - timedelta(seconds=number)))
    await pages.scan()
    pages.now += SURVEY_INTERVAL
    await pages.scan()

    assert len(pages.cursors) == LATE_SECONDS / 100 + 1


async def test_scan_goes_on_to_jobs_that_are_known():
    """A scan that meets only new jobs at the bottom of a page reads the next one."""
    pages = Pages(numbered(300))
    await pages.scan()
    known = {f"job-{number}" for number in range(100)}
    shown = page_of(range(1_000, 1_250)).jobs + page_of(range(300)).jobs

    def respond(cursor: str | None, limit: int) -> JobPage:
        begin = int(cursor or 0)
        return JobPage(shown[begin : begin + limit], str(begin + limit))

    pages.respond = respond

    assert known & await pages.scan()
    assert len(pages.cursors) == 4


@pytest.mark.parametrize(
    "odd", [None, *(datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 9999))]
)
async def test_odd_dates_do_not_end_a_survey(odd: datetime | None):
    """Some odd dates at the bottom of each page do not hide what is below it."""
    pages = Pages(numbered(1_000, lambda number: odd if number % 3 else every_minute(number)))

    assert len(await pages.scan()) == 1_000


@pytest.mark.parametrize("year", [None, 1, 1970, 9999])
async def test_odd_dates_do_not_change_the_depth_of_a_survey(year: int | None):
    """A survey reads as deep as without the odd dates, neither less nor more."""
    odd = datetime(year, 1, 1, tzinfo=UTC) if year else None
    right = timedelta(seconds=1)
    pages = Pages(numbered(5_000, lambda number: odd if number % 3 else NOW - number * right))
    await pages.scan()
    pages.now += SURVEY_INTERVAL
    await pages.scan()

    assert len(pages.cursors) == LATE_SECONDS / 100 + 1


async def test_jobs_without_a_date_on_top_hide_none_below():
    """Each survey reads on below pages without a date, once there were dates below them."""
    pages = Pages(numbered(1_000, lambda number: None if number < 450 else every_minute(number)))
    depths = []
    for _ in range(8):
        await pages.scan()
        depths.append(len(pages.cursors))
        pages.now += SURVEY_INTERVAL

    assert depths == [10] + [5] * 7


async def test_jobs_that_lose_their_dates_on_top_hide_none_below():
    """The first page without a date hides nothing below it, if there was a date before."""
    dated = [True]
    pages = Pages(
        numbered(1_000, lambda number: every_minute(number) if number >= 120 or dated else None)
    )
    await pages.scan()
    dated.clear()
    pages.now += SURVEY_INTERVAL
    await pages.scan()

    assert pages.cursors == [None, "100"]


async def test_few_old_dates_do_not_end_a_survey():
    """A page that has few dates to believe does not end a survey by them."""
    pages = Pages(numbered(1_000, lambda number: None if number < 80 else NOW - timedelta(days=1)))
    await pages.scan()
    pages.now += SURVEY_INTERVAL
    await pages.scan()

    assert pages.cursors == [None, "100"]


async def test_scan_ends_at_a_page_without_a_job():
    """A list that shows no job costs a request a scan, though its cursors never end."""
    pages = Pages(lambda cursor, _limit: page_of((), str(int(cursor or 0) + 1)))
    await pages.scan()
    pages.now += 30.0
    await pages.scan()

    assert pages.cursors == [None]


@pytest.mark.parametrize("created", [every_minute, lambda _: None])
@pytest.mark.parametrize("numbers", [(), (1, 2, 3)])
async def test_list_without_an_end_costs_few_pages(created: Created, numbers: tuple[int, ...]):
    """Cursors that never end are followed for as long as there is something new."""

    def respond(cursor: str | None, _limit: int) -> JobPage:
        return page_of(numbers, str(int(cursor or 0) + 1), created)

    pages = Pages(respond)
    await pages.scan()

    assert len(pages.cursors) == MAX_REPEATS + bool(numbers)
    assert not pages.scanner.survey.is_due


async def test_list_of_new_jobs_without_an_end_ends():
    """A list that goes on to show other jobs is read down to a limit."""
    pages = Pages(
        lambda cursor, _limit: page_of(
            [int(cursor or 0)], str(int(cursor or 0) + 1), lambda _: None
        )
    )
    await pages.scan()

    assert len(pages.cursors) == MAX_PAGES
    assert not pages.scanner.survey.is_due


async def test_survey_goes_on_after_an_error():
    """A survey goes on at the page that failed, after a look at the top."""
    pages, error = Pages(numbered(5_000)), Transient("503")
    right = pages.respond
    pages.respond = lambda cursor, limit: error if cursor == "1000" else right(cursor, limit)
    with pytest.raises(Transient):
        await pages.scan()
    pages.respond = right
    await pages.scan()

    assert pages.cursors[:2] == [None, "1000"]
    assert len(pages.cursors) == 41


async def test_survey_whose_first_page_failed_goes_on_after_errors():
    """A survey that has read nothing yet is what reads the list, and goes on after each error."""
    pages, error = Pages(numbered(5_000)), Transient("503")
    right = pages.respond
    for failed in (None, "1000"):
        pages.respond = lambda cursor, n, bad=failed: error if cursor == bad else right(cursor, n)
        with pytest.raises(Transient):
            await pages.scan()
    pages.respond = right
    await pages.scan()

    assert pages.cursors[:2] == [None, "1000"]


async def test_survey_lets_the_top_be_read_meanwhile():
    """A survey that takes long is interrupted by looks at the top of the list."""
    pages = Pages(numbered(5_000), latency=TURN_SECONDS / 4)
    cursors = []
    while pages.scanner.survey.is_due and len(cursors) < 100:
        await pages.scan()
        cursors += pages.cursors

    assert cursors[:7] == [None, "100", "200", "300", None, "400", "500"]
    assert len(cursors) < 70


async def test_few_jobs_are_remembered():
    """Of a long list only the jobs above the horizon are kept in memory, at least a page."""
    pages = Pages(numbered(50_000))
    await pages.scan()

    assert len(pages.scanner.survey._seen) == 100


# Pages that watching has read.


def record(pages: Pages, numbers: Sequence[int], *, is_whole: bool) -> None:
    """Record a page from the top that watching has read."""
    request = PageRequest(ListPage(0, None), len(numbers), is_whole=is_whole)
    page = page_of(numbers, "more")
    pages.scanner.survey.record_page(request, page, pages.now, clock_skew=0.0)


@pytest.mark.parametrize(
    ("jobs", "is_whole", "is_survey"), [(100, True, True), (50, False, False), (10, True, False)]
)
async def test_watched_page_counts_for_discovery(jobs: int, *, is_whole: bool, is_survey: bool):
    """A page that watching has read is a survey if it is whole and deep enough, else a scan."""
    pages = Pages(numbered(500))
    await pages.scan()
    pages.now += SURVEY_INTERVAL
    record(pages, range(jobs), is_whole=is_whole)

    assert pages.scanner.survey.is_due is not is_survey
    assert pages.scanner.survey.scanned_at == pages.now


async def test_watched_page_of_new_jobs_is_no_scan():
    """A page that does not reach down to known jobs hides none below it."""
    pages = Pages(numbered(500))
    await pages.scan()
    scanned_at = pages.scanner.survey.scanned_at
    pages.now += 60.0
    record(pages, range(1_000, 1_100), is_whole=True)

    assert pages.scanner.survey.scanned_at == scanned_at


async def test_watched_page_is_ignored_without_discovery():
    """Without discovery nothing is remembered of the pages."""
    pages = Pages(numbered(500))
    record(pages, range(100), is_whole=True)

    assert pages.scanner.survey._seen == {}
