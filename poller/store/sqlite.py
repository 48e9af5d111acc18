"""The store in a SQLite file: each verb is one transaction in a worker thread."""

import json
import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread

from poller.core.errors import StoreUnavailable
from poller.core.events import Event
from poller.core.outbox import Delivery, Outcome, Routes, SinkBacklog, WriteBatch
from poller.core.pacing import COST_WATCH_SECONDS
from poller.core.state import JobState
from poller.store import (
    ADDED_RETENTION,
    DAY,
    DEAD_RETENTION,
    DELIVERED_RETENTION,
    JOB_RETENTION,
    SINK_DISABLED,
    SINK_UNCONFIGURED,
    UNCONFIGURED_RETENTION,
    sql,
)
from poller.store.admin import StoreAdmin
from poller.store.database import Database, Work
from poller.store.rows import event_row, read_delivery, read_sink, read_state, state_row

T = TypeVar("T")

FURTHEST_DUE: Final = DAY
"""No delivery is put off for longer; a due time beyond it was written by a clock that was wrong."""

log = structlog.get_logger()


class SqliteStore:
    """Keep everything in one file.

    `now` is `Clock.steady`. `in_thread` is false where time is virtual, which knows no threads.
    """

    def __init__(
        self,
        path: Path,
        *,
        routes: Routes,
        deployment: str,
        now: Callable[[], float],
        allow_network: bool = False,
        in_thread: bool = True,
    ) -> None:
        self._database = Database(path, prepare=self._prepare, allow_network=allow_network)
        self._path = path
        self._routes = routes
        self._deployment = deployment
        self._now = now
        self._in_thread = in_thread
        self._instance = ""
        self._trouble: str | None = None
        self._troubled_at = -math.inf

    @property
    def database_id(self) -> str:
        """The random name of the database."""
        return self._instance

    @property
    def last_error(self) -> str | None:
        """Why the last verb raised StoreUnavailable; None when it did not."""
        return self._trouble

    @property
    def last_error_at(self) -> float:
        """When a verb last raised StoreUnavailable."""
        return self._troubled_at

    async def __aenter__(self) -> Self:
        """Lock, open, check and migrate."""
        # One at a time, and in threads of its own: look-ups of names that hang must not starve it.
        self._limiter = CapacityLimiter(1)
        await self._run(self._database.open)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close and unlock; this awaits nothing, so that no cancellation can cut it short."""
        self._database.close()

    def admin(self) -> StoreAdmin:
        """Return what reads and repairs the same database, in any thread."""
        return StoreAdmin(self._path, self._now)

    async def load_states(self, job_ids: Collection[str]) -> list[JobState]:
        """Read the states of these jobs, and of every job that is settling or awaits its cost."""
        values = self._values(job_ids=_json(job_ids), cost_watch=COST_WATCH_SECONDS)
        return [state for state in await self._read(sql.LOAD, values, read_state) if state]

    async def unfinished_ids(self) -> list[str]:
        """Name every recorded job that has not ended."""
        return await self._read(sql.ACTIVE, self._values(), lambda row: str(row["job_id"]))

    async def added_ids(self) -> list[str]:
        """Name the jobs that were added, in the order of their coming."""
        return await self._read(sql.ADDED, self._values(), lambda row: str(row["job_id"]))

    async def add_ids(self, job_ids: Collection[str]) -> None:
        """Note that these jobs are to be watched from now on."""
        values = self._values(job_ids=_json(job_ids))
        await self._transact(lambda db: db.execute(sql.ADD, values))

    async def remove_ids(self, job_ids: Collection[str]) -> None:
        """Note that these jobs are not to be watched, unless somebody else names them."""
        values = self._values(job_ids=_json(job_ids))
        await self._transact(lambda db: db.execute(sql.REMOVE, values))

    async def get_flags(self) -> dict[str, str]:
        """Read every mark."""
        return dict(await self._read(sql.MARKS, {}, tuple))

    async def write(self, batch: WriteBatch) -> None:
        """Write a batch, all or nothing."""
        await self._transact(lambda db: self._record(db, batch))

    async def due_deliveries(
        self, sink: str, now: float, *, limit: int, busy: Collection[str] = (), early: bool = False
    ) -> list[Delivery]:
        """Read deliveries that may be sent now: pending, due, and the first of their subject."""
        values = {"sink": sink, "now": now, "limit": limit, "busy": _json(busy)}
        return await self._read(sql.EARLY if early else sql.DUE, values, read_delivery)

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of attempts."""
        rows = [self._values(**asdict(outcome)) for outcome in outcomes]
        await self._transact(lambda db: db.executemany(sql.SETTLE, rows))

    async def expedite(self, sink: str, now: float) -> None:
        """Make every pending delivery of a sink due now."""
        await self._transact(lambda db: db.execute(sql.HASTEN, {"sink": sink, "now": now}))

    async def disable_sink(self, sink: str, reason: str) -> int:
        """Switch a sink off and bury its pending deliveries; say how often that has happened."""

        def work(db: sqlite3.Connection) -> int:
            times: int = db.execute(sql.DISABLE, {"sink": sink, "reason": reason}).fetchone()[0]
            self._bury_disabled(db)
            return times

        return await self._transact(work)

    async def backlogs(self) -> list[SinkBacklog]:
        """Read the backlog of every sink that is configured or has deliveries left."""
        return await self._read(sql.SINKS, {}, read_sink)

    async def prune(self, now: float, watched: Collection[str]) -> int:
        """Forget what is past its time, and say how many rows went."""
        values = self._values(watched=_json(watched)) | {"now": now} | RETENTION

        def work(db: sqlite3.Connection) -> int:
            db.execute(sql.BURY_PARKED, values)
            return sum(db.execute(it, values).rowcount for it in sql.FORGET)

        return await self._transact(work)

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Bring a database that was just opened up to date with this process."""
        values = self._values(sinks=_json(self._routes), furthest=FURTHEST_DUE)
        for statement in (sql.SINK_JOINS, sql.SINK_LEAVES, sql.CLAMP_DUE):
            db.execute(statement, values)
        self._instance = db.execute(sql.IDENTITY).fetchone()[0]

    def _record(self, db: sqlite3.Connection, batch: WriteBatch) -> None:
        for state in batch.states:
            db.execute(sql.RECORD_STATE, self._values(**state_row(state)))
        for event in batch.events:
            self._announce(db, event)
        for name, text in batch.flags.items():
            db.execute(sql.RECORD_MARK, {"name": name, "text": text})
        self._bury_disabled(db)

    def _announce(self, db: sqlite3.Connection, event: Event) -> None:
        """Write an event and its deliveries, unless it is there already."""
        takers = [sink for sink, types in self._routes.items() if event.type in types]
        values = self._values(**event_row(event), sinks=_json(takers))
        if db.execute(sql.RECORD_EVENT, values).rowcount:
            db.execute(sql.DELIVER_AFTER if event.same_sinks_as else sql.DELIVER, values)

    def _bury_disabled(self, db: sqlite3.Connection) -> None:
        """Hold that a disabled sink has no pending deliveries, whichever way they came."""
        db.execute(sql.BURY_DISABLED, self._values(buried=SINK_DISABLED))

    def _values(self, **values: object) -> dict[str, Any]:
        return {"deployment": self._deployment, "now": self._now(), **values}

    async def _read(
        self, statement: str, values: Mapping[str, Any], make: Callable[[sqlite3.Row], T]
    ) -> list[T]:
        return await self._transact(lambda db: [make(it) for it in db.execute(statement, values)])

    async def _transact(self, work: Work[T]) -> T:
        try:
            result = await self._run(lambda: self._database.transact(work))
        except StoreUnavailable as error:
            self._trouble, self._troubled_at = str(error), self._now()
            raise
        self._trouble = None
        return result

    async def _run(self, call: Callable[[], T]) -> T:
        return await to_thread.run_sync(call, limiter=self._limiter) if self._in_thread else call()


RETENTION: Final = {
    "delivered_for": DELIVERED_RETENTION,
    "dead_for": DEAD_RETENTION,
    "job_for": JOB_RETENTION,
    "added_for": ADDED_RETENTION,
    "parked_for": UNCONFIGURED_RETENTION,
    "reason": SINK_UNCONFIGURED,
}


def _json(names: Iterable[str]) -> str:
    return json.dumps(list(names))
