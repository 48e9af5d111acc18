"""The operator's desk: what a person asks of a database, and does to it, beside its daemon.

Reads go through a connection that cannot write. Each change is one short transaction, which the
lanes of a running daemon see within five seconds.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.errors import NoMatch, StoreUnavailable, StoreUnusable
from poller.core.jobs import TERMINAL_STATUSES, format_rfc3339
from poller.core.outbox import DeliveryStatus
from poller.store import SINK_DISABLED, schema
from poller.store import admin_sql as sql
from poller.store.database import (
    BUSY_SECONDS,
    CORRUPT,
    Work,
    in_transaction,
    is_locked,
    primary_code,
)
from poller.store.sql import MARKS, UNBURY

T = TypeVar("T")
Row = dict[str, Any]
"""What is shown of one thing, by name. Times, whose names end in `_at`, are RFC 3339."""

SKIP_REASONS: Final = {
    DeliveryStatus.PENDING.value: "is pending already",
    "left": "the sink is not configured",
    "disabled": "the sink is disabled: enable it first",
}
"""Why something is not sent again, by how it stands."""

NEVER_OPENED: Final = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
WHICH: Final = "set it, or give --env-file, as for the daemon that you mean"
WHO: Final = "run this as the user of the daemon"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What an operator means; None is any. Ids may be given by a beginning that no other has."""

    event_ids: Sequence[str] | None = None
    job: str | None = None
    sink: str | None = None
    type: str | None = None
    state: str | None = None
    since: float = 0.0
    limit: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """How a daemon and its database stand."""

    path: Path
    size: int
    is_running: bool
    is_key_rejected: bool
    jobs: dict[str, int]
    sinks: list[Row]


class StoreAdmin:
    """One database. Every verb raises StoreRefused or StoreUnavailable, and Unmatched.

    `now` gives seconds since 1970.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path.absolute()
        self._now = now

    def status(self) -> StoreStatus:
        """Say how all stands."""
        return self.read(self._status)

    def sinks(self) -> list[Row]:
        """List the sinks that are configured or have deliveries left."""
        return self.read(lambda db: [as_row(it) for it in db.execute(sql.SINKS)])

    def jobs(self, wanted: EventFilter) -> list[Row]:
        """List jobs, the one that changed last first."""
        rows = self.read(lambda db: _find(db, sql.JOBS, wanted))
        return [row | json.loads(row.pop("job")) for row in rows]

    def ended_jobs(self, since: float = 0.0) -> list[Row]:
        """List the jobs that ended since then, costs as Decimal or None, with `ended_at`."""
        values = {"ends": json.dumps([*TERMINAL_STATUSES])}
        rows = self.read(lambda db: [as_row(it) for it in db.execute(sql.ENDED_JOBS, values)])
        jobs = [row | json.loads(row.pop("job"), parse_float=Decimal) for row in rows]
        for job in jobs:
            job["ended_at"] = job["datetime_completed"] or job["changed_at"]
        start = datetime.fromtimestamp(since, UTC)
        return [job for job in jobs if datetime.fromisoformat(job["ended_at"]) >= start]

    def events(self, wanted: EventFilter) -> list[Row]:
        """List events, the latest first."""
        rows = self.read(lambda db: _find(db, sql.EVENTS, wanted))
        return [row | {"deliveries": json.loads(row["deliveries"])} for row in rows]

    def event(self, begin: str) -> Row:
        """Show one event: its body as it was frozen, and where it went."""

        def work(db: sqlite3.Connection) -> Row:
            wanted = EventFilter(event_ids=[begin])
            (event,) = _find(db, sql.EVENT, wanted)
            return event | {"deliveries": _find(db, sql.DELIVERIES, wanted)}

        return self.read(work)

    def deliveries(self, wanted: EventFilter) -> list[Row]:
        """List deliveries, the latest first."""
        return self.read(lambda db: _find(db, sql.DELIVERIES, wanted))

    def replay(self, wanted: EventFilter) -> list[Row]:
        """Make deliveries pending again as replays; `skipped_reason` says why one was left alone.

        With events and a sink named, a sink that never was to get them gets them all the same.
        """
        pairs = wanted.event_ids is not None and wanted.sink is not None

        def work(db: sqlite3.Connection) -> list[Row]:
            found = _find(db, sql.PAIRS if pairs else sql.DELIVERIES, wanted)
            rows = [row | {"skipped_reason": SKIP_REASONS.get(row["standing"])} for row in found]
            values = [row | {"now": self._now()} for row in rows if not row["skipped_reason"]]
            db.executemany(sql.REPLAY, values)
            return rows

        return self.change(work)

    def delete_dead_letters(self, wanted: EventFilter) -> list[Row]:
        """Forget dead deliveries for good, and say which; their events stay."""

        def work(db: sqlite3.Connection) -> list[Row]:
            rows = _find(db, sql.DELIVERIES, replace(wanted, state=DeliveryStatus.DEAD))
            db.executemany(sql.DROP, rows)
            return rows

        return self.change(work)

    def enable_sink(self, sink: str) -> list[Row] | None:
        """Switch a sink on and list what comes back with that; None when it is on already."""

        def work(db: sqlite3.Connection) -> list[Row] | None:
            rows = _find(db, sql.DELIVERIES, EventFilter(sink=sink, state=DeliveryStatus.DEAD))
            values = {"sink": sink, "now": self._now(), "buried": SINK_DISABLED}
            if not db.execute(sql.ENABLE, values).rowcount:
                return None
            db.execute(UNBURY, values)
            return [row for row in rows if row["reason"] == SINK_DISABLED]

        return self.change(work)

    def _status(self, db: sqlite3.Connection) -> StoreStatus:
        mark = AuthNotice.parse(dict(db.execute(MARKS).fetchall()).get(AUTH_FLAG))
        parts = (self._path, self._path.with_name(self._path.name + "-wal"))
        return StoreStatus(
            path=self._path,
            size=sum(it.stat().st_size for it in parts if it.exists()),
            is_running=is_locked(self._path),
            is_key_rejected=mark.is_rejected,
            jobs=dict(db.execute(sql.JOBS_BY_STATE).fetchall()),
            sinks=[as_row(it) for it in db.execute(sql.SINKS)],
        )

    def read(self, work: Work[T]) -> T:
        """Do some reading, all of it as of one moment."""
        with self._connected("ro") as db:
            db.execute("BEGIN")
            return work(db)

    def change(self, work: Work[T]) -> T:
        """Do some work in one transaction, which is durable when this returns."""
        with self._connected("rw") as db:
            db.execute("PRAGMA synchronous = FULL")
            return in_transaction(db, work)

    @contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        uri = f"{self._path.as_uri()}?mode={mode}"
        try:
            if self._path.stat() and self._path.is_dir():
                raise StoreUnusable(f"POLLER_STORE: {self._path} is a folder; {WHICH}")
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as db:
                db.isolation_level = None
                db.row_factory = sqlite3.Row
                self._check_version(db)
                yield db
        except FileNotFoundError:
            raise StoreUnusable(f"POLLER_STORE: {self._path} is not there; {WHICH}") from None
        except OSError as error:
            text = f"POLLER_STORE: {self._path}: {error.strerror}; {WHO}"
            raise StoreUnusable(text) from error
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _check_version(self, db: sqlite3.Connection) -> None:
        found, ours = schema.version(db), len(schema.MIGRATIONS)
        if found > ours:
            rule = "was written by a newer version of this program; use that one"
            raise StoreUnusable(f"POLLER_STORE: {self._path} {rule}")
        if not schema.is_own_database(db):
            rule = "is the database of another program"
            raise StoreUnusable(f"POLLER_STORE: {self._path} {rule}; {WHICH}")
        if found < ours:
            rule = "is not up to date; start `sutro-poller run` of this version on it once"
            raise StoreUnusable(f"POLLER_STORE: {self._path} {rule}")

    def _translated(self, error: sqlite3.Error) -> Exception:
        code = primary_code(error)
        if code == sqlite3.SQLITE_BUSY:
            return StoreUnavailable(f"{self._path}: another process writes to it; try again")
        if code in NEVER_OPENED:
            return StoreUnusable(f"POLLER_STORE: {self._path}: {error}; {WHO}")
        if code in CORRUPT:
            rule = "`sutro-poller run` sets it aside and begins a new one"
            return StoreUnusable(f"POLLER_STORE: {self._path} is damaged ({error}); {rule}")
        return StoreUnavailable(f"{self._path}: {error}; the log of the daemon may say more")


def _find(db: sqlite3.Connection, statement: str, wanted: EventFilter) -> list[Row]:
    return [as_row(it) for it in db.execute(statement, _values(db, wanted))]


def _values(db: sqlite3.Connection, wanted: EventFilter) -> Row:
    """Lay a filter out for a statement, its ids in full. Raises Unmatched."""
    values = asdict(wanted)
    if wanted.event_ids is not None:
        ids = [_whole(db, sql.EVENT_IDS, it, "event") for it in wanted.event_ids]
        values["event_ids"] = json.dumps(ids)
    if wanted.job is not None:
        values["job"] = _whole(db, sql.JOB_IDS, wanted.job, "job")
    names = [it[0] for it in db.execute(sql.SINK_NAMES)]
    if wanted.sink not in {None, *names}:
        known = ", ".join(names)
        raise NoMatch(f"no sink of this database is called {wanted.sink!r}; it has: {known}")
    return values


def _whole(db: sqlite3.Connection, statement: str, begin: str, noun: str) -> str:
    """Give the only id that begins so, or is just that. Raises Unmatched."""
    found: list[str] = [it[0] for it in db.execute(statement, {"begin": begin})]
    if begin in found or len(found) == 1:
        return found[0]  # the shortest comes first
    if not found:
        raise NoMatch(f"no {noun} has an id that begins with {begin!r}; `{noun}s ls` lists them")
    raise NoMatch(
        f"{len(found)} {noun}s have ids that begin with {begin!r}, such as {found[0]} and"
        f" {found[1]}; give more of it"
    )


def as_row(found: sqlite3.Row) -> Row:
    """Give what was found by name, as it may be shown."""
    return {name: _shown(name, found[name]) for name in found.keys()}  # noqa: SIM118 - no mapping


def _shown(name: str, value: Any) -> Any:
    if name.endswith("_at") and isinstance(value, float):
        return format_rfc3339(datetime.fromtimestamp(int(value), UTC))
    return value
