"""The SQLite store: each verb is one transaction in a worker thread."""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from poller.core.errors import StoreUnavailable
from poller.core.events import Event
from poller.core.outbox import DAY, Delivery, Outcome, Pruned, Retention, SinkBacklog, WriteBatch
from poller.core.pacing import LATE_WATCH_SECONDS, MISSING_SECONDS
from poller.core.retry import MAX_ABSENCE, MAX_DELIVERY_AGE, MAX_FAILURE_GAP
from poller.core.routing import Routes
from poller.core.state import JobState
from poller.runtime.instance_key import ensure_key
from poller.store import (
    SINK_DISABLED,
    SINK_FAILED,
    SINK_UNCONFIGURED,
    MakeDigest,
    Store,
    clock_sql,
    digests,
    sql,
)
from poller.store.admin import StoreAdmin
from poller.store.connection import PORTION, Work
from poller.store.database import Database
from poller.store.kept_events import KeptEvents
from poller.store.maintenance import log_pruned
from poller.store.outcomes import record_outcomes
from poller.store.past_jobs import EndCursor, PastJobs, read_past_jobs
from poller.store.recording import record, record_batch
from poller.store.report import ReportQuery, read_report
from poller.store.rows import read_backlog, read_delivery, read_state
from poller.store.stored_costs import prune_crossings

T = TypeVar("T")

MAX_DUE_DELAY: Final = DAY
"""No delivery is deferred for longer: a later due time was written by a wrong clock."""
API_QUERY_LIMIT: Final = 5.0
"""Seconds that a query of the HTTP API may take: others wait for it."""
GAPS: Final = {"max_gap": MAX_FAILURE_GAP, "max_absence": MAX_ABSENCE}
DEFAULT_RETENTION: Final = Retention()


class SqliteStore(Store):
    """A store in one file. See `Store` for its verbs.

    `now` is `Clock.steady`. Set `in_thread` to false where time is virtual and threads are not.
    """

    def __init__(
        self,
        path: Path,
        *,
        routes: Routes,
        deployment: str,
        now: Callable[[], float],
        retention: Retention = DEFAULT_RETENTION,
        allow_network: bool = False,
        in_thread: bool = True,
    ) -> None:
        self._database = Database(path, prepare=self._prepare, allow_network=allow_network)
        self._path = path
        self._routes = routes
        self.digest_sinks = frozenset(name for name, route in routes.items() if route.digest)
        self._deployment = deployment
        self._now = now
        self._retention = retention
        self._in_thread = in_thread
        self.database_id = ""
        self.instance_key = b""
        self.last_error: str | None = None
        self._is_write_failing = False
        self.last_error_at = -math.inf
        self._kept_events = KeptEvents()

    async def __aenter__(self) -> Self:
        # One call at a time, with a limiter of its own: DNS look-ups that hang must not starve it.
        self._limiter = CapacityLimiter(1)
        await self._run(self._open)
        return self

    async def __aexit__(self, *_error: object) -> None:
        # Without an await, which a cancellation could interrupt.
        self._database.close()

    def interrupt_after(self, seconds: float) -> None:
        self._database.interrupt_after(seconds)

    def admin(self) -> StoreAdmin:
        return StoreAdmin(self._path, self._now, query_limit=API_QUERY_LIMIT)

    async def load_states(self, job_ids: Collection[str]) -> list[JobState]:
        values = self._values(job_ids=_json(job_ids), late_watch=LATE_WATCH_SECONDS)
        return [state for state in await self._read(sql.LOAD_STATES, values, read_state) if state]

    async def unfinished_ids(self) -> list[str]:
        values = self._values(missing_for=MISSING_SECONDS)
        return await self._read(sql.UNFINISHED_IDS, values, lambda row: str(row["job_id"]))

    async def past_jobs(self, after: EndCursor) -> PastJobs:
        return await self._transact(
            lambda db: read_past_jobs(db, self._deployment, after), is_read=True
        )

    async def added_ids(self) -> list[str]:
        return await self._read(sql.ADDED_IDS, self._values(), lambda row: str(row["job_id"]))

    async def add_ids(self, job_ids: Collection[str]) -> None:
        values = self._values(job_ids=_json(job_ids))
        await self._transact(lambda db: db.execute(sql.ADD_IDS, values))

    async def remove_ids(self, job_ids: Collection[str]) -> None:
        values = self._values(job_ids=_json(job_ids))
        await self._transact(lambda db: db.execute(sql.REMOVE_IDS, values))

    async def get_flags(self) -> dict[str, str]:
        return dict(await self._read(sql.FLAGS, {}, tuple))

    async def write(self, batch: WriteBatch) -> list[Event]:
        return await self._transact(lambda db: self._write_batch(db, batch))

    async def due_deliveries(
        self, sink: str, now: float, *, limit: int, busy: Collection[str] = (), early: bool = False
    ) -> list[Delivery]:
        values = {"sink": sink, "now": now, "limit": limit, "busy": _json(busy), **GAPS}
        return await self._read(sql.EARLY if early else sql.DUE, values, read_delivery)

    async def gather_digest(self, sink: str, make: MakeDigest, *, early: bool = False) -> bool:
        values = self._values(sink=sink)
        until = math.inf if early else values["now"]
        return await self._transact(lambda db: digests.gather(db, values, make, until=until))

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        rows = [self._values(**asdict(outcome), **GAPS) for outcome in outcomes]
        await self._transact(lambda db: record_outcomes(db, rows))

    async def record_hang(self, sink: str, reason: str) -> None:
        values = self._values(sink=sink, reason=reason, **GAPS)
        await self._transact(lambda db: db.execute(sql.RECORD_HANG, values))

    async def dead_letter_expired(self, sink: str) -> int:
        values = self._values(sink=sink, max_age=MAX_DELIVERY_AGE, reason=SINK_FAILED)
        values["portion"] = PORTION
        return await self._transact(lambda db: db.execute(sql.DEAD_LETTER_EXPIRED, values).rowcount)

    async def expedite(self, sink: str, now: float) -> bool:
        values = {"sink": sink, "now": now, "portion": PORTION}
        return await self._transact(lambda db: db.execute(sql.EXPEDITE, values).rowcount) == PORTION

    async def disable_sink(
        self, sink: str, reason: str, announce: Callable[[int], Event] | None = None
    ) -> int:
        def work(db: sqlite3.Connection) -> int:
            row = db.execute(sql.DISABLE_SINK, self._values(sink=sink, reason=reason)).fetchone()
            if announce:
                self._record(db, announce(row["times_disabled"]))
            return int(row["times_disabled"])

        times = await self._transact(work)
        disabled = self._values(reason=SINK_DISABLED)
        await self._change_all(sql.DEAD_LETTER_DISABLED, disabled, Counter(), "disabled")
        return times

    async def backlogs(self) -> list[SinkBacklog]:
        return await self._read(sql.BACKLOGS, {}, read_backlog)

    async def report(self, query: ReportQuery) -> dict[str, Any]:
        values = self._values(**asdict(query))
        return await self._transact(lambda db: read_report(db, values), is_read=True)

    async def prune(self, now: float, watched: Collection[str]) -> Pruned:
        values = self._values(
            watched=_json(watched),
            late_watch=LATE_WATCH_SECONDS + DAY,  # the last poll may be late
            now=now,
        )
        values |= {f"{name}_for": seconds for name, seconds in asdict(self._retention).items()}
        counts: Counter[str] = Counter()
        try:
            await self._prune_all(values, counts)
        except StoreUnavailable:
            if not counts.total():  # else what was deleted must be reported; the rest can wait
                raise
        finally:  # also when it is cancelled
            log_pruned(Pruned(**counts))
        return Pruned(**counts)

    async def _prune_all(self, values: dict[str, Any], counts: Counter[str]) -> None:
        disabled = values | {"reason": SINK_DISABLED}
        unconfigured = values | {"reason": SINK_UNCONFIGURED}
        await self._change_all(sql.DEAD_LETTER_DISABLED, disabled, Counter(), "disabled")
        await self._change_all(sql.DEAD_LETTER_UNCONFIGURED, unconfigured, counts, "unconfigured")
        # Before the jobs, by whose rows they are found.
        await self._change_all(sql.PRUNE_ADDITIONS, values, counts, "additions")
        await self._prune_events(values, counts)
        await self._change_all(sql.PRUNE_JOBS, values, counts, "jobs")
        await self._transact(lambda db: (db.execute(sql.PRUNE_SUMS), prune_crossings(db, values)))

    async def _prune_events(self, values: Mapping[str, Any], counts: Counter[str]) -> None:
        """Delete old events; those that are kept are read too, so this is done in portions."""

        def work(db: sqlite3.Connection) -> tuple[int, int, list[sqlite3.Row]]:
            old = db.execute(sql.OLD_EVENTS, portion).fetchall()
            numbers = json.dumps([row["number"] for row in old])
            dead: int = db.execute(sql.COUNT_DEAD).fetchone()[0]
            deleted = db.execute(sql.PRUNE_EVENTS, {**portion, "numbers": numbers}).rowcount
            dead -= db.execute(sql.COUNT_DEAD).fetchone()[0]
            return deleted, dead, old

        begin = self._kept_events.begin(values["now"])
        portion = {**values, "recorded_at": begin, "number": 0, "portion": PORTION}
        while True:
            deleted, dead, old = await self._transact(work)
            counts.update(events=deleted, dead_letters=dead)
            self._kept_events.count += len(old) - deleted
            if not old:
                break
            portion |= dict(old[-1])
        self._kept_events.read_until = values["now"] - values["delivered_for"]

    async def _change_all(
        self, statement: str, values: Mapping[str, Any], counts: Counter[str], kind: str
    ) -> None:
        """Run a statement that changes a portion of rows until it finds no more; count them.

        Each portion is a transaction of its own.
        """
        portion = {**values, "portion": PORTION}
        while changed := await self._transact(lambda db: db.execute(statement, portion).rowcount):
            counts[kind] += changed

    def _open(self) -> None:
        """Open all in one call: a cancellation between two would leave the database open."""
        self._database.open()
        self.instance_key = ensure_key(self._path)

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Reconcile a database that was just opened with the configuration of this process."""
        values = self._values(
            sinks=_json(self._routes),
            windows=digests.windows(self._routes),
            max_delay=MAX_DUE_DELAY,
            earliest=clock_sql.EARLIEST,
        )
        for statement in (*sql.ON_OPEN, *digests.ON_OPEN, *clock_sql.CORRECTIONS):
            db.execute(statement, values)
        self.database_id = db.execute(sql.DATABASE_ID).fetchone()[0]

    def _write_batch(self, db: sqlite3.Connection, batch: WriteBatch) -> list[Event]:
        return record_batch(db, batch, self._routes, self._values())

    def _record(self, db: sqlite3.Connection, event: Event) -> bool:
        return record(db, event, self._routes, self._values())

    def _values(self, **values: object) -> dict[str, Any]:
        return {"deployment": self._deployment, "now": self._now(), **values}

    async def _read(
        self, statement: str, values: Mapping[str, Any], parse: Callable[[sqlite3.Row], T]
    ) -> list[T]:
        return await self._transact(
            lambda db: [parse(row) for row in db.execute(statement, values)], is_read=True
        )

    async def _transact(self, work: Work[T], *, is_read: bool = False) -> T:
        """Run `work` in one transaction, and keep its error until something disproves it.

        A full disk can still be read: only a change shows that it takes changes again.
        """

        def count(db: sqlite3.Connection) -> tuple[T, bool]:
            before = db.total_changes
            return work(db), db.total_changes > before

        try:
            result, is_change = await self._run(lambda: self._database.transact(count))
        except StoreUnavailable as error:
            self.last_error, self.last_error_at = str(error), self._now()
            self._is_write_failing |= not is_read
            raise
        if is_change or not self._is_write_failing:
            self.last_error, self._is_write_failing = None, False
        return result

    async def _run(self, call: Callable[[], T]) -> T:
        return await to_thread.run_sync(call, limiter=self._limiter) if self._in_thread else call()


def _json(values: Iterable[str]) -> str:
    return json.dumps(list(values))
