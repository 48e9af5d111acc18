"""The operator's queries and repairs of a database, also while its daemon runs.

Queries use a connection that cannot write. Each change is one short transaction, which the
delivery workers of a running daemon pick up within five seconds.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.errors import StoreError, StoreUnavailable, StoreUnusable
from poller.core.job_status import TERMINAL_STATUSES
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
from poller.store.file_checks import check_is_database, is_immutable
from poller.store.filters import EventFilter, Row, find, select
from poller.store.sql import DATABASE_ID, FLAGS, RESTORE_DISABLED

T = TypeVar("T")
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
class StoreStatus:
    """The state of a daemon and its database; `unfinished` jobs are neither done nor missing."""

    path: Path
    size: int
    is_running: bool
    is_key_rejected: bool
    database_id: str
    unfinished: int
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

    @property
    def is_running(self) -> bool:
        """Return whether a daemon has locked this database."""
        return is_locked(self._path)

    def jobs(self, wanted: EventFilter, named: Sequence[str] = ()) -> list[Row]:
        """Return jobs, the last changed first; at the end those that are named and not recorded."""
        rows = self._list(sql.JOBS, wanted, unseen=json.dumps(named))
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
            (event,) = find(db, sql.EVENT, wanted)
            return event | {"deliveries": find(db, sql.DELIVERIES, wanted)}

        return self.read(work)

    def deliveries(self, wanted: EventFilter) -> list[Row]:
        """Return deliveries, the latest first."""
        return self.read(lambda db: find(db, sql.DELIVERIES, wanted))

    def replay(self, wanted: EventFilter) -> list[Row]:
        """Make deliveries pending again as replays; one with a `skipped_reason` is unchanged.

        With both events and a sink, a sink that had no delivery of an event gets one.
        """
        pairs = wanted.event_ids is not None and wanted.sink is not None

        def work(db: sqlite3.Connection) -> list[Row]:
            found = find(db, sql.EVENT_SINK_PAIRS if pairs else sql.DELIVERIES, wanted)
            states = {sink["sink"]: sink["state"] for sink in db.execute(sql.SINKS)}
            rows = [row | {"skipped_reason": _skipped_reason(row, states)} for row in found]
            values = [row | {"now": self._now()} for row in rows if not row["skipped_reason"]]
            db.executemany(sql.REPLAY, values)
            return rows

        return self.change(work)

    def delete_dead_letters(self, wanted: EventFilter) -> list[Row]:
        """Delete dead deliveries and return them; their events are kept."""

        def work(db: sqlite3.Connection) -> list[Row]:
            rows = find(db, sql.DELIVERIES, replace(wanted, state=DeliveryStatus.DEAD))
            db.executemany(sql.DELETE_DELIVERY, rows)
            return rows

        return self.change(work)

    def enable_sink(self, sink: str) -> list[Row] | None:
        """Enable a sink and return the deliveries that this restored; None if it was enabled."""

        def work(db: sqlite3.Connection) -> list[Row] | None:
            rows = find(db, sql.DELIVERIES, EventFilter(sink=sink, state=DeliveryStatus.DEAD))
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
            # The connection of the daemon makes the checkpoints: where only one does, SQLite before
            # 3.51.3 cannot run into its WAL-reset bug.
            db.execute("PRAGMA wal_autocheckpoint = 0")
            return in_transaction(db, work)

    def _list(self, statement: str, wanted: EventFilter, **lists: str) -> list[Row]:
        rows = self.read(lambda db: find(db, statement, wanted, **lists))
        for row in rows:
            del row["cursor_time"], row["cursor_key"]
        return rows

    def _status(self, db: sqlite3.Connection) -> StoreStatus:
        notice = AuthNotice.parse(dict(db.execute(FLAGS).fetchall()).get(AUTH_FLAG))
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return StoreStatus(
            path=self._path,
            size=sum(file.stat().st_size for file in files if file.exists()),
            is_running=self.is_running,
            is_key_rejected=notice.is_rejected,
            database_id=db.execute(DATABASE_ID).fetchone()[0],
            unfinished=db.execute(sql.COUNT_UNFINISHED).fetchone()[0],
            jobs=dict(db.execute(sql.JOBS_BY_STATE).fetchall()),
            sinks=select(db, sql.SINKS),
        )

    @contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            if self._path.stat() and self._path.is_dir():
                raise self._unusable("is a directory", SAME_STORE_ADVICE)
            check_is_database(self._path)
            if mode == "ro" and is_immutable(self._path):
                mode = "ro&immutable=1"
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


def _skipped_reason(row: Row, sink_states: Mapping[str, str]) -> str | None:
    """Return why a delivery is not replayed; a sink without a state is not configured."""
    pending = "already pending" if row["status"] == DeliveryStatus.PENDING else None
    return SKIP_REASONS[sink_states.get(row["sink"], "not configured")] or pending
