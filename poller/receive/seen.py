"""The IDs of handled events in a SQLite file, so that a repetition can be dropped."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from os import PathLike
from typing import Final

DEFAULT_KEEP_SECONDS: Final = 45 * 86_400.0
"""More than the 7 days of retries and the 30 days for which a dead letter can be sent again."""
LOCK_TIMEOUT: Final = 30.0
"""Seconds to wait for another thread or process that writes to the file."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
"""


class SeenEvents:
    """A set of event IDs that outlives the process; threads and processes can share the file.

    Add an ID after the work is done: if the process crashes in between, the event comes again. IDs
    are forgotten after `keep_seconds`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep_seconds: float = DEFAULT_KEEP_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._keep_seconds, self._now = path, keep_seconds, now
        with self._connection() as connection:
            connection.executescript(SCHEMA)

    def __contains__(self, event_id: str) -> bool:
        """Return whether an ID was added and is not forgotten yet."""
        query = "SELECT 1 FROM seen WHERE id = ? AND at >= ?"
        with self._connection() as connection:
            row = connection.execute(query, (event_id, self._oldest())).fetchone()
        return row is not None

    def add(self, event_id: str) -> None:
        """Add an ID, and forget the old ones."""
        with self._connection() as connection:
            connection.execute("DELETE FROM seen WHERE at < ?", (self._oldest(),))
            connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (event_id, self._now()))

    def _oldest(self) -> float:
        return self._now() - self._keep_seconds

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction: a connection cannot be shared by threads."""
        opened = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT)
        with closing(opened) as connection, connection:
            yield connection
