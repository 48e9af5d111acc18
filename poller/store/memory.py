"""The SQLite store on a database in memory, which lasts as long as the object."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, Self, TypeVar
from weakref import finalize

from poller.core.outbox import Retention
from poller.core.routing import Routes
from poller.store import schema
from poller.store.admin import StoreAdmin, time_limit
from poller.store.connection import Work, in_transaction
from poller.store.sqlite import API_QUERY_LIMIT, DEFAULT_RETENTION, SqliteStore

T = TypeVar("T")
IN_MEMORY: Final = Path("/", ":memory:")
"""No file; absolute, since the working directory may have been deleted."""


class MemoryStore(SqliteStore):
    """A store in memory, on one connection and without worker threads.

    It works before it is opened, and keeps its contents when it is closed.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        deployment: str,
        now: Callable[[], float],
        retention: Retention = DEFAULT_RETENTION,
    ) -> None:
        super().__init__(
            IN_MEMORY, routes=routes, deployment=deployment, now=now, retention=retention
        )
        self._lock = Lock()
        self._connection = db = sqlite3.connect(
            IN_MEMORY.name, isolation_level=None, check_same_thread=False
        )
        finalize(self, db.close)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        schema.migrate(db)
        in_transaction(db, self._prepare)

    async def __aenter__(self) -> Self:
        return self

    def admin(self) -> StoreAdmin:
        return _MemoryAdmin(self, self._now)

    def transact(self, work: Work[T]) -> T:
        """Run `work` in one transaction, in any thread."""
        with self._lock:
            return in_transaction(self._connection, work)

    async def _transact(self, work: Work[T], *, is_read: bool = False) -> T:  # noqa: ARG002 - memory never fails
        return self.transact(work)


class _MemoryAdmin(StoreAdmin):
    def __init__(self, store: MemoryStore, now: Callable[[], float]) -> None:
        super().__init__(IN_MEMORY, now, query_limit=API_QUERY_LIMIT)
        self._store = store

    def read(self, work: Work[T]) -> T:
        def limited(db: sqlite3.Connection) -> T:
            with time_limit(db, self._query_limit):
                return work(db)

        try:
            return self._store.transact(limited)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def change(self, work: Work[T]) -> T:
        return self._store.transact(work)
