"""What programs read of a database, page by page; ids and names in a filter are whole here."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from poller.store import admin_sql as sql
from poller.store.admin import EventFilter, Row, StoreAdmin, as_row

Cursor = tuple[float, str | int]
"""Where a page ends: the moment and the key of its last row."""

START: Final[tuple[None, None]] = (None, None)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the place after which there are more, if there are."""

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
    """Read jobs, the one that changed last first; those in `unseen` count though none knows them.

    With `watched` only these. `job` of a row is the job object as it was last recorded, or None.
    """
    only = None if watched is None else json.dumps([*watched])
    lists = {"unseen": json.dumps([*unseen]), "watched": only}
    page = _page(admin, sql.JOBS_PAGE, wanted, after, **lists)
    for row in page.rows:
        row["job"] = json.loads(row["job"]) if row["job"] else None
    return page


def events_page(admin: StoreAdmin, wanted: EventFilter, *, after: Cursor | None) -> Page:
    """Read events, the latest first."""
    page = _page(admin, sql.EVENTS_PAGE, wanted, after)
    for row in page.rows:
        row["deliveries"] = json.loads(row["deliveries"])
    return page


class StreamPosition(NamedTuple):
    """An event in the order of their recording: its number alone may be another's one day."""

    number: int
    event_id: str


STREAM_START: Final = StreamPosition(0, "")


def position_of(admin: StoreAdmin, event_id: str | None) -> StreamPosition:
    """Give the place of an event, before all where it is not known, or else of the last one."""

    def work(db: sqlite3.Connection) -> StreamPosition:
        statement = sql.LAST_EVENT if event_id is None else sql.EVENT_NUMBER
        found = db.execute(statement, {"id": event_id}).fetchone()
        return StreamPosition(*found) if found else STREAM_START

    return admin.read(work)


def events_after(admin: StoreAdmin, mark: StreamPosition, limit: int) -> list[Row]:
    """Read events in the order of their recording, with their `number` and their `body`.

    After one that cannot have been in this database, which was replaced, come all of them.
    """
    values = {"number": mark.number, "id": mark.event_id, "limit": limit}
    return admin.read(lambda db: [dict(it) for it in db.execute(sql.EVENTS_AFTER, values)])


def _page(
    admin: StoreAdmin, statement: str, wanted: EventFilter, after: Cursor | None, **more: object
) -> Page:
    place, key = after or START
    values = asdict(wanted) | {"limit": wanted.limit + 1, "place": place, "key": key} | more
    rows = admin.read(lambda db: [as_row(it) for it in db.execute(statement, values)])
    shown = rows[: wanted.limit]
    places: list[Cursor] = [(row.pop("place"), row.pop("key")) for row in shown]
    return Page(shown, places[-1] if len(rows) > len(shown) else None)
