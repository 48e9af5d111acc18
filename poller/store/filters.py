"""The rows that match an operator's filter."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
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
        "oldest_at",
        "failing_since",
    }
)
"""Columns that hold seconds since 1970, and are shown as RFC 3339."""

FIRST_PAGE: Final = {"cursor_time": None, "cursor_key": None, "unseen": "[]", "watched": None}


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


def select(
    db: sqlite3.Connection, statement: str, values: Mapping[str, Any] | None = None
) -> list[Row]:
    """Return the rows of a query, with times as RFC 3339."""
    rows = db.execute(statement, values or {})
    names = [column[0] for column in rows.description]
    return [{name: _format(name, row[name]) for name in names} for row in rows]


def _format(column: str, value: Any) -> Any:
    if column in TIME_COLUMNS and value is not None:
        return format_rfc3339(datetime.fromtimestamp(int(value), UTC))
    return value


def find(db: sqlite3.Connection, statement: str, wanted: EventFilter, **lists: str) -> list[Row]:
    """Return the rows that match a filter, whose ids may be prefixes. Raises NoMatch."""
    values = FIRST_PAGE | asdict(wanted) | lists
    if wanted.event_ids is not None:
        ids = [
            _full_id(db, sql.EVENT_IDS, "event", {"prefix": event_id})
            for event_id in wanted.event_ids
        ]
        values["event_ids"] = json.dumps(ids)
    if wanted.job is not None:
        values["job"] = _full_id(db, sql.JOB_IDS, "job", values | {"prefix": wanted.job})
    names = [row["name"] for row in db.execute(sql.SINK_NAMES)]
    if wanted.sink not in {None, *names}:
        raise NoMatch(f"no sink is named {wanted.sink!r}; known sinks: {', '.join(names)}")
    return select(db, statement, values)


def _full_id(db: sqlite3.Connection, statement: str, noun: str, values: Mapping[str, Any]) -> str:
    """Return the id that equals the prefix, or else the only one that starts with it."""
    prefix = values["prefix"]
    ids: list[str] = [row["id"] for row in db.execute(statement, values)]
    if prefix in ids or len(ids) == 1:
        return ids[0]  # the shortest comes first
    if not ids:
        raise NoMatch(f"no {noun} ID starts with {prefix!r}; list them with `{noun}s ls`")
    raise NoMatch(
        f"{len(ids)} {noun} IDs start with {prefix!r}, such as {ids[0]} and {ids[1]};"
        " use a longer prefix"
    )
