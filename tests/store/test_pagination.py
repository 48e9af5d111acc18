"""Pages of jobs and events, and positions in the stream of events."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from poller.core.outbox import WriteBatch
from poller.core.state import Phase
from poller.store import pagination
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter
from poller.store.pagination import (
    STREAM_START,
    Page,
    StreamPosition,
    events_after,
    events_page,
    jobs_page,
    position_of,
    watched_page,
)
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import (
    HOOK,
    ManualClock,
    a_state,
    an_event,
    delivered,
    due,
)

FIVE = [str(number) for number in range(1, 6)]


@pytest.fixture
async def admin(path: Path, now: ManualClock, disk: SqliteStore) -> StoreAdmin:
    """Return the admin of a database of five jobs and events, the last two of one time."""
    for name in FIVE:
        await disk.write(
            WriteBatch(
                states=[a_state(f"job-{name}", phase=Phase.ACTIVE)],
                events=[an_event(name, f"job-{name}")],
            )
        )
        now.advance(0.0 if name == "4" else 10.0)
    return StoreAdmin(path, now)


def ids(page: Page) -> list[str]:
    """Return the ids on a page."""
    return [row.get("id") or row["job_id"] for row in page.rows]


async def test_pages_of_jobs_are_complete(admin: StoreAdmin):
    """Each page starts where the last one ended, even between two jobs of one time."""
    first = jobs_page(admin, EventFilter(limit=1))
    second = jobs_page(admin, EventFilter(limit=3), after=first.after, unseen=["job-0", "job-5"])
    third = jobs_page(admin, EventFilter(limit=3), after=second.after, unseen=["job-0"])

    assert [ids(page) for page in (first, second, third)] == [
        ["job-5"],
        ["job-4", "job-3", "job-2"],
        ["job-1", "job-0"],
    ]
    assert third.after is None
    assert third.rows[1] == {
        "job_id": "job-0",
        "state": "UNKNOWN",
        "deployment": None,
        "changed_at": None,
        "job": None,
    }


async def test_watched_limits_the_jobs(admin: StoreAdmin):
    """With a set of watched ids only these are returned, observed or not, in their order."""
    watched = {"job-2", "job-0", "job-4"}
    first = watched_page(admin, EventFilter(limit=2), None, watched=watched)
    second = watched_page(admin, EventFilter(limit=2), first.after, watched=watched)
    unseen = watched_page(admin, EventFilter(limit=9, since=1.0), None, watched=watched)

    assert [ids(page) for page in (first, second)] == [["job-0", "job-2"], ["job-4"]]
    assert second.after is None
    assert [row["state"] for row in first.rows] == ["UNKNOWN", "UNKNOWN"]
    assert ids(unseen) == ["job-2", "job-4"]


async def test_pages_of_events_are_complete(admin: StoreAdmin):
    """Events are listed latest first, each once, also those of one time."""
    first = events_page(admin, EventFilter(limit=1), after=None)
    rest = events_page(admin, EventFilter(limit=9), after=first.after)

    assert ids(first) + ids(rest) == ["evt_5", "evt_4", "evt_3", "evt_2", "evt_1"]


async def test_filter_ids_must_be_complete(admin: StoreAdmin):
    """A prefix of an id matches nothing: a faulty program must not get another job."""
    assert ids(jobs_page(admin, EventFilter(job="job", limit=9))) == []
    assert ids(events_page(admin, EventFilter(job="job-3", limit=9), after=None)) == ["evt_3"]


async def test_events_after_a_position(admin: StoreAdmin):
    """After a position come the events that were recorded after it."""
    third = position_of(admin, "evt_3")

    assert [row["id"] for row in events_after(admin, third, limit=9)] == ["evt_4", "evt_5"]
    assert [row["id"] for row in events_after(admin, STREAM_START, limit=2)] == ["evt_1", "evt_2"]
    assert events_after(admin, position_of(admin, None), limit=9) == []


async def test_events_after_a_pruned_event(path: Path, admin: StoreAdmin):
    """A pruned event keeps its position: the events after it are still returned."""
    third = position_of(admin, "evt_3")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM events WHERE id IN ('evt_2', 'evt_3')")

    assert [row["id"] for row in events_after(admin, third, limit=9)] == ["evt_4", "evt_5"]


async def test_position_of_another_database(admin: StoreAdmin):
    """A position that no event of this database can have is before all events."""
    assert position_of(admin, "evt_x") == STREAM_START
    assert len(events_after(admin, StreamPosition(10_000, "evt_a"), limit=9)) == 5
    assert len(events_after(admin, StreamPosition(2, "evt_a"), limit=9)) == 5


@pytest.mark.parametrize("wanted", [{"sink": HOOK, "state": "delivered"}, {"state": "delivered"}])
async def test_page_reads_no_more_events_than_it_may(
    admin: StoreAdmin,
    disk: SqliteStore,
    now: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, str],
):
    """Delivered events behind many pending ones come on later pages; the first page is empty."""
    monkeypatch.setattr(pagination, "READ_EVENTS", 2)
    first, second, *_ = await due(disk, now())
    await disk.settle([delivered(first), delivered(second)])
    pages, after = [], None
    while not pages or after:
        page = events_page(admin, EventFilter(limit=1, **wanted), after=after)
        pages.append(ids(page))
        after = page.after

    assert pages == [[], ["evt_2"], ["evt_1"]]
    assert [row["id"] for row in admin.events(EventFilter(**wanted))] == ["evt_2", "evt_1"]
