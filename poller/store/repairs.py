"""Repairs of the outbox: replay, delete and restore deliveries, in short transactions."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from poller.core.outbox import DeliveryStatus
from poller.store import SINK_DISABLED, list_sql
from poller.store import admin_sql as sql
from poller.store.connection import PORTION
from poller.store.filters import EventFilter, Row, select

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin

SKIP_REASONS: Final = {
    "not configured": "the sink is not configured",
    "disabled": "the sink is disabled: enable it first",
    "enabled": None,
}
"""Why a delivery is not replayed, by the state of its sink."""


def replay(admin: "StoreAdmin", wanted: EventFilter, now: Callable[[], float]) -> Iterator[Row]:
    """Make deliveries pending again, and yield each one with its `skipped_reason`."""
    if wanted.event_ids is not None and wanted.sink is not None:
        found = admin.read(lambda db: select(db, sql.EVENT_SINK_PAIRS, wanted.values))
        portions = iter([found])
    else:
        portions = _portions(admin, wanted)
    for portion in portions:
        states = {sink["sink"]: sink["state"] for sink in admin.sinks()}
        rows = [row | {"skipped_reason": _skipped_reason(row, states)} for row in portion]
        values = [row | {"now": now()} for row in rows if not row["skipped_reason"]]
        _change_each(admin, sql.REPLAY, values)
        yield from rows


def delete_dead_letters(admin: "StoreAdmin", wanted: EventFilter) -> Iterator[Row]:
    """Delete dead deliveries, and yield them."""
    for rows in _portions(admin, wanted):
        _change_each(admin, sql.DELETE_DEAD_LETTER, rows)
        yield from rows


def enable_sink(admin: "StoreAdmin", sink: str, now: Callable[[], float]) -> Iterator[Row]:
    """Restore the deliveries that disabling a sink made dead, yield them, and enable it.

    It is enabled with the last ones: until then nothing is sent to it, and new events for it are
    dead, so that the events of each job keep their order.
    """
    cursor: int | None = 0

    def restore(db: sqlite3.Connection) -> tuple[list[Row], int | None]:
        found, after = _read(db, EventFilter(sink=sink, state=DeliveryStatus.DEAD), cursor or 0)
        rows = [row for row in found if row["reason"] == SINK_DISABLED]
        db.executemany(sql.RESTORE, [row | {"now": now()} for row in rows])
        if after is None:
            db.execute(sql.RESTORE_AGAIN, {"sink": sink, "reason": SINK_DISABLED, "now": now()})
            db.execute(sql.ENABLE_SINK, {"sink": sink})
        return rows, after

    while cursor is not None:
        rows, cursor = admin.change(restore)
        yield from rows


def _portions(admin: "StoreAdmin", wanted: EventFilter) -> Iterator[list[Row]]:
    """Yield deliveries, the earliest first: the first event of a job is replayed first."""
    cursor: int | None = 0
    while cursor is not None:
        rows, cursor = admin.read(partial(_read, wanted=wanted, cursor=cursor))
        yield rows


def _read(db: sqlite3.Connection, wanted: EventFilter, cursor: int) -> tuple[list[Row], int | None]:
    """Return the deliveries after a cursor, and the next cursor; None if these are the last."""
    statement = list_sql.deliveries(wanted.given, wanted.state, list_sql.OLDEST_FIRST)
    rows = select(db, statement, wanted.values | {"cursor_key": cursor, "limit": PORTION})
    keys: list[int] = [row.pop("cursor_key") for row in rows]
    return rows, keys[-1] if len(keys) == PORTION else None


def _change_each(admin: "StoreAdmin", statement: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        admin.change(lambda db: db.executemany(statement, rows))


def _skipped_reason(row: Row, sink_states: Mapping[str, str]) -> str | None:
    """Return why a delivery is not replayed; a sink without a state is not configured."""
    pending = "already pending" if row["status"] == DeliveryStatus.PENDING else None
    return SKIP_REASONS[sink_states.get(row["sink"], "not configured")] or pending
