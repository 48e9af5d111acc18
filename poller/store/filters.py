"""The rows that match an operator's filter."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from poller.core.errors import NoMatch
from poller.core.jobs import format_rfc3339
from poller.store import admin_sql as sql

Row = dict[str, Any]
"""One result by column name. Times are RFC 3339."""

TIME_COLUMNS: Final = frozenset(
    {
        "changed_at",
        "recorded_at",
        "next_attempt_at",
        "last_attempt_at",
        "ended_at",
        "delivered_at",
        "oldest_at",
        "failing_since",
    }
)
"""Columns that hold seconds since 1970, and are shown as RFC 3339."""

MANY_IDS: Final = 100
"""Ids with the same prefix that are read at most, to report how many there are."""
LAST_CHARACTER: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """The rows that an operator wants; None matches all. A unique prefix of an id is enough."""

    event_ids: Sequence[str] | None = None
    job: str | None = None
    sink: str | None = None
    type: str | None = None
    state: str | None = None
    since: float = 0.0
    limit: int = -1

    @property
    def given(self) -> frozenset[str]:
        """The names of the conditions that are not None."""
        return frozenset(name for name, value in asdict(self).items() if value is not None)

    @property
    def values(self) -> dict[str, Any]:
        """The values of an SQL statement."""
        return asdict(self) | {"event_ids": json.dumps(self.event_ids or ())}


def select(
    db: sqlite3.Connection, statement: str, values: Mapping[str, Any] | None = None
) -> list[Row]:
    """Return the rows of a query, with times as RFC 3339."""
    cursor = db.execute(statement, values or {})
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    for name in TIME_COLUMNS.intersection(names):
        for row in rows:
            if row[name] is not None:
                row[name] = _format_time(int(row[name]))
    return rows


@lru_cache  # many rows have the same time
def _format_time(seconds: int) -> str:
    return format_rfc3339(datetime.fromtimestamp(seconds, UTC))


def complete(
    db: sqlite3.Connection, wanted: EventFilter, unseen: Collection[str] = ()
) -> EventFilter:
    """Return a filter with full ids in place of prefixes. Raises NoMatch."""
    if wanted.event_ids is not None:
        ids = [_full_id(db, sql.EVENT_IDS, "event", prefix) for prefix in wanted.event_ids]
        wanted = replace(wanted, event_ids=ids)
    if wanted.job is not None:
        job_id = _full_id(db, sql.JOB_IDS, "job", wanted.job, unseen=json.dumps([*unseen]))
        wanted = replace(wanted, job=job_id)
    names = [row["name"] for row in db.execute(sql.SINK_NAMES)]
    if wanted.sink not in {None, *names}:
        raise NoMatch(f"no sink is named {wanted.sink!r}; known sinks: {', '.join(names)}")
    return wanted


def _full_id(db: sqlite3.Connection, statement: str, noun: str, prefix: str, **lists: str) -> str:
    """Return the id that equals the prefix, or else the only one that starts with it."""
    ids: list[str] = []
    for last in (prefix, prefix + LAST_CHARACTER) if prefix else ():
        values = {"first": prefix, "last": last, "many": MANY_IDS, **lists}
        ids = [row["id"] for row in db.execute(statement, values)]
        if len(ids) == 1:
            return ids[0]
    if not ids:
        raise NoMatch(f"no {noun} ID starts with {prefix!r}; list them with `{noun}s ls`")
    count = f"{MANY_IDS} or more" if len(ids) == MANY_IDS else len(ids)
    raise NoMatch(
        f"{count} {noun} IDs start with {prefix!r}, such as {ids[0]} and {ids[1]};"
        " use a longer prefix"
    )
