"""The operator's queries and repairs of a database, also while its daemon runs.

Queries use a connection that cannot write. Each change is one short transaction, which the
delivery workers of a running daemon pick up within five seconds.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.errors import StoreError, StoreUnavailable, StoreUnusable
from poller.core.outbox import DeliveryStatus
from poller.store import admin_sql as sql
from poller.store import repairs, schema
from poller.store.connection import (
    BUSY_TIMEOUT,
    CORRUPT_CODES,
    Work,
    connect,
    in_transaction,
    interrupt_when,
    primary_code,
)
from poller.store.costs import Sums, read_costs
from poller.store.file_checks import check_is_database, is_immutable
from poller.store.file_lock import is_locked
from poller.store.files import resolved
from poller.store.filters import EventFilter, Row, complete, select
from poller.store.pagination import (
    deliveries_page,
    events_page,
    every_row,
    jobs_page,
)
from poller.store.sql import DATABASE_ID, FLAGS

T = TypeVar("T")
CANNOT_OPEN_CODES: Final = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
QUERY_LIMIT: Final = 60.0
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

    `now` returns seconds since 1970. A query that takes longer than `query_limit`, in seconds, is
    ended.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float] = time.time,
        *,
        query_limit: float = QUERY_LIMIT,
    ) -> None:
        self._path = resolved(path)
        self._now = now
        self._query_limit = query_limit

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

    def jobs(self, wanted: EventFilter, named: Collection[str] = ()) -> Iterator[Row]:
        """Return jobs, the last changed first; at the end those that are named and not recorded."""
        wanted = self.read(lambda db: complete(db, wanted, unseen=named))
        return map(_add_fields, every_row(partial(jobs_page, self, unseen=named), wanted))

    def costs(self, by: str, since: float = 0.0, deployment: str | None = None) -> dict[str, Sums]:
        """Return the sums of the jobs that ended since then, by one of GROUPS."""
        return self.read(lambda db: read_costs(db, by, since, deployment))

    def events(self, wanted: EventFilter) -> Iterator[Row]:
        """Return events with the status of their deliveries, the latest first."""
        return every_row(partial(events_page, self), self._complete(wanted))

    def event(self, prefix: str) -> Row:
        """Return one event with its stored body and its deliveries."""
        wanted = self._complete(EventFilter(event_ids=[prefix]))
        (event,) = self.read(lambda db: select(db, sql.EVENT, wanted.values))
        return event | {"deliveries": [*every_row(partial(deliveries_page, self), wanted)]}

    def deliveries(self, wanted: EventFilter) -> Iterator[Row]:
        """Return deliveries, the latest first."""
        return every_row(partial(deliveries_page, self), self._complete(wanted))

    def replay(self, wanted: EventFilter) -> Iterator[Row]:
        """Make deliveries pending again as replays; one with a `skipped_reason` is unchanged.

        With both events and a sink, a sink that had no delivery of an event gets one. This happens
        while the result is iterated, the earliest first, in portions that are durable.
        """
        return repairs.replay(self, self._complete(wanted), self._now)

    def delete_dead_letters(self, wanted: EventFilter) -> Iterator[Row]:
        """Delete dead deliveries, while the result is iterated; their events are kept."""
        wanted = replace(self._complete(wanted), state=DeliveryStatus.DEAD)
        return repairs.delete_dead_letters(self, wanted)

    def enable_sink(self, sink: str) -> Iterator[Row] | None:
        """Enable a sink, once the result is iterated, which yields the restored deliveries.

        Return None if it is enabled.
        """
        wanted = self._complete(EventFilter(sink=sink))
        states = {row["sink"]: row["state"] for row in self.sinks()}
        if states.get(sink) != "disabled":
            return None
        return repairs.enable_sink(self, str(wanted.sink), self._now)

    def read(self, work: Work[T]) -> T:
        """Run queries on one snapshot of the database."""
        with self._connected("ro") as db, time_limit(db, self._query_limit):
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

    def _complete(self, wanted: EventFilter) -> EventFilter:
        return self.read(lambda db: complete(db, wanted))

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
            with closing(connect(self._path, mode, BUSY_TIMEOUT)) as db:
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
        if code == sqlite3.SQLITE_INTERRUPT:
            advice = "use more filters, or a smaller limit"
            text = f"the query took longer than {self._query_limit:g} s; {advice}"
            return StoreUnavailable(f"{self._path}: {text}")
        if code in CANNOT_OPEN_CODES:
            return self._unusable(f"cannot be opened ({error})", SAME_USER_ADVICE)
        if code in CORRUPT_CODES:
            advice = "`sutro-poller run` renames it and creates a new one"
            return self._unusable(f"is damaged ({error})", advice)
        return StoreUnavailable(f"{self._path}: {error}; see the log of the daemon")

    def _unusable(self, problem: str, advice: str) -> StoreUnusable:
        return StoreUnusable(f"POLLER_STORE: {self._path} {problem}; {advice}")


def _add_fields(row: Row) -> Row:
    """Return the row of a job with the fields of the job object in place of it."""
    row.update(row.pop("job") or {})
    return row


@contextmanager
def time_limit(db: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Interrupt the queries of the block, with SQLITE_INTERRUPT, after some seconds."""
    until = time.monotonic() + seconds
    interrupt_when(db, lambda: time.monotonic() > until)
    try:
        yield
    finally:
        db.set_progress_handler(None, 0)
