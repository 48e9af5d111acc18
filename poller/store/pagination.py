"""Pages of jobs and events for programs; ids and names in a filter must be complete here."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from poller.store import admin_sql as sql
from poller.store.admin import StoreAdmin
from poller.store.filters import FIRST_PAGE, EventFilter, Row, select

Cursor = tuple[float, str | int]
"""The end of a page: the time and the key of its last row."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the cursor for the next page; None for the last one."""

    rows: Sequence[Row]
    after: Cursor | None


def jobs_page(
    admin: StoreAdmin,
    wanted: EventFilter,
    *,
    after: Cursor | None = None,
    unseen: Collection[str] = (),
    watched: Collection[str] | None = None,
) -> Page:
    """Return jobs, the last changed first, including those in `unseen` that are not recorded.

    With `watched`, only these. A row's `job` is the job object as last recorded, or None.
    """
    lists = {"unseen": json.dumps([*unseen])}
    if watched is not None:
        lists["watched"] = json.dumps([*watched])
    page = _page(admin, sql.JOBS, wanted, after, **lists)
    for row in page.rows:
        row["job"] = json.loads(row["job"]) if row["job"] else None
    return page


def events_page(admin: StoreAdmin, wanted: EventFilter, *, after: Cursor | None) -> Page:
    """Return events with the status of their deliveries, the latest first."""
    page = _page(admin, sql.EVENTS, wanted, after)
    for row in page.rows:
        row["deliveries"] = json.loads(row["deliveries"])
    return page


class StreamPosition(NamedTuple):
    """An event in the order of recording; another database may use its number again."""

    number: int
    event_id: str


STREAM_START: Final = StreamPosition(0, "")


def position_of(admin: StoreAdmin, event_id: str | None) -> StreamPosition:
    """Return the position of an event, the start if it is unknown, and the last one for None."""
    statement = sql.LAST_POSITION if event_id is None else sql.POSITION
    row = admin.read(lambda db: db.execute(statement, {"id": event_id}).fetchone())
    return StreamPosition(*row) if row else STREAM_START


def events_after(admin: StoreAdmin, position: StreamPosition, limit: int) -> list[Row]:
    """Return events in the order of recording, with their `number` and `body`.

    For a position of another database, such as one that was replaced, return all of them.
    """
    values = {"number": position.number, "id": position.event_id, "limit": limit}
    return admin.read(lambda db: select(db, sql.EVENTS_AFTER, values))


def _page(
    admin: StoreAdmin, statement: str, wanted: EventFilter, after: Cursor | None, **lists: str
) -> Page:
    time, key = after or (None, None)
    cursor = {"cursor_time": time, "cursor_key": key, "limit": wanted.limit + 1}
    values = FIRST_PAGE | asdict(wanted) | lists | cursor
    rows = admin.read(lambda db: select(db, statement, values))
    shown = rows[: wanted.limit]
    cursors: list[Cursor] = [(row.pop("cursor_time"), row.pop("cursor_key")) for row in shown]
    return Page(shown, cursors[-1] if len(rows) > len(shown) else None)
