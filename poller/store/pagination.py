"""Pages of jobs, events and deliveries; each one begins after the last row of the one before.

Ids and names in a filter must be complete here. Each page is a short query of its own.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import from_json

from poller.core.job_status import JobStatus
from poller.store import admin_sql, list_sql
from poller.store.filters import EventFilter, Row, select

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin

Cursor = tuple[float, str | int]
"""The end of a page: the time and the key of its last row."""

START: Final[Cursor] = (math.inf, "")
UNSEEN_TIME: Final = 0.0
"""The time in the cursor of a job without a record."""
FIRST_EVENT: Final[Cursor] = (-math.inf, 0)
MAX_ROWID: Final = 2**63 - 1
PAGE_ROWS: Final = 1_000
READ_EVENTS: Final = 20_000
"""Events that are read for one page if only some of them are wanted."""
FEW_DELIVERIES: Final = 10_000
"""Deliveries in one state that are sorted for a page of events; for more, events are filtered."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the cursor for the next page; None for the last one."""

    rows: Sequence[Row]
    after: Cursor | None


def every_row(
    read_page: Callable[[EventFilter, Cursor | None], Page], wanted: EventFilter
) -> Iterator[Row]:
    """Yield the rows of all pages, up to the limit of the filter if it has one."""
    left: float = wanted.limit if wanted.limit >= 0 else math.inf
    cursor = None
    while left:
        page = read_page(replace(wanted, limit=int(min(left, PAGE_ROWS))), cursor)
        yield from page.rows
        left -= len(page.rows)
        if page.after is None:
            return
        cursor = page.after


def jobs_page(
    admin: "StoreAdmin",
    wanted: EventFilter,
    after: Cursor | None = None,
    *,
    unseen: Collection[str] = (),
) -> Page:
    """Return recorded jobs, the last changed first; at the end those in `unseen`, and added ones.

    These have no record. A row's `job` is the job object as last recorded, or None.
    """
    cursor = after or START

    def work(db: sqlite3.Connection) -> list[Row]:
        found: list[Row] = []
        if cursor[0] > UNSEEN_TIME:
            found = select(db, list_sql.jobs(wanted.given), _values(wanted, cursor))
        missing = wanted.limit + 1 - len(found)
        if not missing or wanted.state not in {None, JobStatus.UNKNOWN} or wanted.since > 0:
            return found
        names = {*unseen, *(row["job_id"] for row in db.execute(admin_sql.ADDED_IDS))}
        key = str(cursor[1]) if cursor[0] == UNSEEN_TIME else ""
        ids = sorted(name for name in names if name > key and wanted.job in {None, name})
        values = {"ids": json.dumps(ids), "limit": missing}
        return found + select(db, admin_sql.UNSEEN_JOBS, values)

    return with_jobs(page_of(admin.read(work), wanted.limit))


def watched_page(
    admin: "StoreAdmin", wanted: EventFilter, after: Cursor | None, *, watched: Collection[str]
) -> Page:
    """Return watched jobs in the order of their ids, recorded or not."""
    key = str(after[1]) if after else ""
    is_filtered = wanted.state is not None or wanted.since > 0
    ids = (job_id for job_id in watched if job_id > key)
    chosen = sorted(ids) if is_filtered else nsmallest(wanted.limit + 1, ids)
    values = _values(wanted, START) | {"ids": json.dumps(chosen)}
    rows = admin.read(lambda db: select(db, admin_sql.WATCHED_JOBS, values))
    return with_jobs(page_of(rows, wanted.limit))


def events_page(admin: "StoreAdmin", wanted: EventFilter, after: Cursor | None = None) -> Page:
    """Return events with the status of their deliveries, the latest first.

    At most READ_EVENTS are read to find those with certain deliveries: then a page may have fewer
    rows than its limit, or none, although another one follows.
    """
    values = _values(wanted, after or START) | {"read": READ_EVENTS}

    def work(db: sqlite3.Connection) -> Page:
        count = db.execute(admin_sql.COUNT_IN_STATE, values).fetchone()[0]
        state = wanted.state if count is not None and count <= FEW_DELIVERIES else None
        last = None
        if state is None and {"sink", "state"} & wanted.given:
            last = db.execute(list_sql.last_event(wanted.given), values).fetchone()
        time, key = last or FIRST_EVENT
        statement = list_sql.events(wanted.given, state)
        rows = select(db, statement, values | {"last_time": time, "last_key": key})
        page = page_of(rows, wanted.limit)
        return replace(page, after=(time, key)) if last and page.after is None else page

    page = admin.read(work)
    for row in page.rows:
        row["deliveries"] = json.loads(row["deliveries"])
    return page


def deliveries_page(admin: "StoreAdmin", wanted: EventFilter, after: Cursor | None = None) -> Page:
    """Return deliveries, the latest first."""
    statement = list_sql.deliveries(wanted.given, wanted.state)
    values = _values(wanted, after or (0.0, MAX_ROWID))
    return page_of(admin.read(lambda db: select(db, statement, values)), wanted.limit)


class StreamPosition(NamedTuple):
    """An event in the order of recording; another database may use its number again."""

    number: int
    event_id: str


STREAM_START: Final = StreamPosition(0, "")


def position_of(admin: "StoreAdmin", event_id: str | None) -> StreamPosition:
    """Return the position of an event, the start if it is unknown, and the last one for None."""
    statement = admin_sql.LAST_POSITION if event_id is None else admin_sql.POSITION
    row = admin.read(lambda db: db.execute(statement, {"id": event_id}).fetchone())
    return StreamPosition(*row) if row else STREAM_START


def events_after(admin: "StoreAdmin", position: StreamPosition, limit: int) -> list[Row]:
    """Return events in the order of recording, with their `number` and `body`.

    For a position of another database, such as one that was replaced, return all of them.
    """
    values = {"number": position.number, "id": position.event_id, "limit": limit}
    return admin.read(lambda db: select(db, admin_sql.EVENTS_AFTER, values))


def _values(wanted: EventFilter, after: Cursor) -> dict[str, Any]:
    """Return the values of a query of one page, and one row more to know if there is another."""
    time, key = after
    return wanted.values | {"cursor_time": time, "cursor_key": key, "limit": wanted.limit + 1}


def page_of(rows: list[Row], limit: int) -> Page:
    """Return a page of the rows of a query, which read one more than the limit if there was one."""
    shown = rows[:limit]
    cursors: list[Cursor] = [(row.pop("cursor_time", 0.0), row.pop("cursor_key")) for row in shown]
    return Page(shown, cursors[-1] if len(rows) > len(shown) else None)


def with_jobs(page: Page) -> Page:
    """Return a page whose rows have the job objects in place of their texts."""
    for row in page.rows:
        row["job"] = job_object(row["job"])
    return page


def job_object(text: str | None) -> dict[str, Any] | None:
    """Return the recorded object of a job; None if there is none, or its row is damaged."""
    try:  # twice as fast as `json.loads`, and its cache of values would hold thousands
        value = from_json(text or "null", allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
