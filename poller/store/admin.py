"""The operator's queries and repairs of a database, also while its daemon runs.

Queries use a connection that cannot write. Each change is one short transaction, which the
delivery workers of a running daemon pick up within five seconds.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.errors import NoMatch, StoreError, StoreUnavailable, StoreUnusable
from poller.core.job_status import TERMINAL_STATUSES
from poller.core.jobs import format_rfc3339
from poller.core.outbox import DeliveryStatus
from poller.store import SINK_DISABLED, schema
from poller.store import admin_sql as sql
from poller.store.database import (
    CORRUPT_CODES,
    Work,
    connect,
    in_transaction,
    is_locked,
    primary_code,
)
from poller.store.sql import FLAGS, RESTORE_DISABLED

T = TypeVar("T")
Row = dict[str, Any]
"""One result by column name. Times are RFC 3339."""

TIME_COLUMNS: Final = frozenset(
    {"changed_at", "recorded_at", "next_attempt_at", "last_attempt_at", "ended_at", "oldest_at"}
)
"""Columns that hold seconds since 1970, and are shown as RFC 3339."""

FIRST_PAGE: Final = {"cursor_time": None, "cursor_key": None, "unseen": "[]", "watched": None}

SKIP_REASONS: Final = {
    "not configured": "the sink is not configured",
    "disabled": "the sink is disabled: enable it first",
    "enabled": None,
}
"""Why a delivery is not replayed, by the state of its sink."""

CANNOT_OPEN_CODES: Final = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
SAME_STORE_ADVICE: Final = "use the same POLLER_STORE or --env-file as the daemon"
SAME_USER_ADVICE: Final = "run this command as the user of the daemon"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """The state of a daemon and its database."""

    path: Path
    size: int
    is_running: bool
    is_key_rejected: bool
    jobs: dict[str, int]
    sinks: list[Row]


class StoreAdmin:
    """One database. Every verb raises StoreUnusable, StoreUnavailable, or NoMatch.

    `now` returns seconds since 1970.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path.absolute()
        self._now = now

    def status(self) -> StoreStatus:
        """Return the state of the daemon and its database."""
        return self.read(self._status)

    def sinks(self) -> list[Row]:
        """Return the sinks that are configured or have deliveries left."""
        return self.read(lambda db: select(db, sql.SINKS))

    def jobs(self, wanted: EventFilter) -> list[Row]:
        """Return jobs, the last changed first."""
        rows = self._list(sql.JOBS, wanted)
        return [row | json.loads(row.pop("job") or "{}") for row in rows]

    def ended_jobs(self, since: float = 0.0) -> list[Row]:
        """Return the jobs that ended since then, with `ended_at`, and costs as Decimal or None."""
        values = {"statuses": json.dumps([*TERMINAL_STATUSES])}
        rows = self.read(lambda db: select(db, sql.ENDED_JOBS, values))
        jobs = [row | json.loads(row.pop("job"), parse_float=Decimal) for row in rows]
        for job in jobs:
            job["ended_at"] = job["datetime_completed"] or job["changed_at"]
        start = datetime.fromtimestamp(since, UTC)
        return [job for job in jobs if datetime.fromisoformat(job["ended_at"]) >= start]

    def events(self, wanted: EventFilter) -> list[Row]:
        """Return events with the status of their deliveries, the latest first."""
        rows = self._list(sql.EVENTS, wanted)
        return [row | {"deliveries": json.loads(row["deliveries"])} for row in rows]

    def event(self, prefix: str) -> Row:
        """Return one event with its stored body and its deliveries."""
        wanted = EventFilter(event_ids=[prefix])

        def work(db: sqlite3.Connection) -> Row:
            (event,) = _find(db, sql.EVENT, wanted)
            return event | {"deliveries": _find(db, sql.DELIVERIES, wanted)}

        return self.read(work)

    def deliveries(self, wanted: EventFilter) -> list[Row]:
        """Return deliveries, the latest first."""
        return self.read(lambda db: _find(db, sql.DELIVERIES, wanted))

    def replay(self, wanted: EventFilter) -> list[Row]:
        """Make deliveries pending again as replays; one with a `skipped_reason` is unchanged.

        With both events and a sink, a sink that had no delivery of an event gets one.
        """
        pairs = wanted.event_ids is not None and wanted.sink is not None

        def work(db: sqlite3.Connection) -> list[Row]:
            found = _find(db, sql.EVENT_SINK_PAIRS if pairs else sql.DELIVERIES, wanted)
            states = {sink["sink"]: sink["state"] for sink in db.execute(sql.SINKS)}
            rows = [row | {"skipped_reason": _skipped_reason(row, states)} for row in found]
            values = [row | {"now": self._now()} for row in rows if not row["skipped_reason"]]
            db.executemany(sql.REPLAY, values)
            return rows

        return self.change(work)

    def delete_dead_letters(self, wanted: EventFilter) -> list[Row]:
        """Delete dead deliveries and return them; their events are kept."""

        def work(db: sqlite3.Connection) -> list[Row]:
            rows = _find(db, sql.DELIVERIES, replace(wanted, state=DeliveryStatus.DEAD))
            db.executemany(sql.DELETE_DELIVERY, rows)
            return rows

        return self.change(work)

    def enable_sink(self, sink: str) -> list[Row] | None:
        """Enable a sink and return the deliveries that this restored; None if it was enabled."""

        def work(db: sqlite3.Connection) -> list[Row] | None:
            rows = _find(db, sql.DELIVERIES, EventFilter(sink=sink, state=DeliveryStatus.DEAD))
            values = {"sink": sink, "now": self._now(), "reason": SINK_DISABLED}
            if not db.execute(sql.ENABLE_SINK, values).rowcount:
                return None
            db.execute(RESTORE_DISABLED, values)
            return [row for row in rows if row["reason"] == SINK_DISABLED]

        return self.change(work)

    def read(self, work: Work[T]) -> T:
        """Run queries on one snapshot of the database."""
        with self._connected("ro") as db:
            db.execute("BEGIN")
            return work(db)

    def change(self, work: Work[T]) -> T:
        """Run `work` in one transaction, which is durable when this returns."""
        with self._connected("rw") as db:
            db.execute("PRAGMA synchronous = FULL")
            return in_transaction(db, work)

    def _list(self, statement: str, wanted: EventFilter) -> list[Row]:
        rows = self.read(lambda db: _find(db, statement, wanted))
        for row in rows:
            del row["cursor_time"], row["cursor_key"]
        return rows

    def _status(self, db: sqlite3.Connection) -> StoreStatus:
        notice = AuthNotice.parse(dict(db.execute(FLAGS).fetchall()).get(AUTH_FLAG))
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return StoreStatus(
            path=self._path,
            size=sum(file.stat().st_size for file in files if file.exists()),
            is_running=is_locked(self._path),
            is_key_rejected=notice.is_rejected,
            jobs=dict(db.execute(sql.JOBS_BY_STATE).fetchall()),
            sinks=select(db, sql.SINKS),
        )

    @contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            if self._path.stat() and self._path.is_dir():
                raise self._unusable("is a directory", SAME_STORE_ADVICE)
            with closing(connect(self._path, mode)) as db:
                self._check_version(db)
                yield db
        except FileNotFoundError:
            raise self._unusable("does not exist", SAME_STORE_ADVICE) from None
        except OSError as error:
            raise self._unusable(f"cannot be read ({error.strerror})", SAME_USER_ADVICE) from error
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _check_version(self, db: sqlite3.Connection) -> None:
        version, newest = schema.version(db), len(schema.MIGRATIONS)
        if version > newest:
            raise self._unusable("was written by a newer version of this program", "use that one")
        if not schema.is_own_database(db):
            raise self._unusable("is the database of another program", SAME_STORE_ADVICE)
        if version < newest:
            advice = "start `sutro-poller run` of this version once"
            raise self._unusable("has the schema of an older version", advice)

    def _translated(self, error: sqlite3.Error) -> StoreError:
        code = primary_code(error)
        if code == sqlite3.SQLITE_BUSY:
            return StoreUnavailable(f"{self._path}: another process is writing to it; try again")
        if code in CANNOT_OPEN_CODES:
            return self._unusable(f"cannot be opened ({error})", SAME_USER_ADVICE)
        if code in CORRUPT_CODES:
            advice = "`sutro-poller run` renames it and creates a new one"
            return self._unusable(f"is damaged ({error})", advice)
        return StoreUnavailable(f"{self._path}: {error}; see the log of the daemon")

    def _unusable(self, problem: str, advice: str) -> StoreUnusable:
        return StoreUnusable(f"POLLER_STORE: {self._path} {problem}; {advice}")


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


def _find(db: sqlite3.Connection, statement: str, wanted: EventFilter) -> list[Row]:
    """Return the rows that match a filter, whose ids may be prefixes. Raises NoMatch."""
    values = FIRST_PAGE | asdict(wanted)
    if wanted.event_ids is not None:
        ids = [_full_id(db, sql.EVENT_IDS, event_id, "event") for event_id in wanted.event_ids]
        values["event_ids"] = json.dumps(ids)
    if wanted.job is not None:
        values["job"] = _full_id(db, sql.JOB_IDS, wanted.job, "job")
    names = [row["name"] for row in db.execute(sql.SINK_NAMES)]
    if wanted.sink not in {None, *names}:
        raise NoMatch(f"no sink is named {wanted.sink!r}; known sinks: {', '.join(names)}")
    return select(db, statement, values)


def _full_id(db: sqlite3.Connection, statement: str, prefix: str, noun: str) -> str:
    """Return the id that equals the prefix, or else the only one that starts with it."""
    ids: list[str] = [row["id"] for row in db.execute(statement, {"prefix": prefix})]
    if prefix in ids or len(ids) == 1:
        return ids[0]  # the shortest comes first
    if not ids:
        raise NoMatch(f"no {noun} ID starts with {prefix!r}; list them with `{noun}s ls`")
    raise NoMatch(
        f"{len(ids)} {noun} IDs start with {prefix!r}, such as {ids[0]} and {ids[1]};"
        " use a longer prefix"
    )


def _skipped_reason(row: Row, sink_states: Mapping[str, str]) -> str | None:
    """Return why a delivery is not replayed; a sink without a state is not configured."""
    pending = "already pending" if row["status"] == DeliveryStatus.PENDING else None
    return SKIP_REASONS[sink_states.get(row["sink"], "not configured")] or pending
