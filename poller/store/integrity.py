"""The check of a whole database in the background, after a run that did not end cleanly.

A clean end leaves a flag in the database, which the next start removes before it changes anything
else: neither a kill nor a power loss can leave it. The check reads the whole file, so nothing waits
for it. The values that triggers keep are verified too; wrong ones are corrected at the next start.
Until it has ended, a damaged database may be in use, as if it were damaged while the daemon
runs: an event is sent only if the digest of its body is right.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

import structlog

from poller.store.admin import QUERY_LIMIT, time_limit
from poller.store.connection import CORRUPT_CODES, connect, primary_code
from poller.store.recount import count_again, find_wrong

INTERRUPT_INTERVAL: Final = 0.05
"""Seconds; an interrupt before the statement begins has no effect."""

ADD_CLEAN_END: Final = "INSERT OR REPLACE INTO flags (name, text) VALUES ('clean_end', :finding)"
REMOVE_CLEAN_END: Final = "DELETE FROM flags WHERE name = 'clean_end' RETURNING text"
MISCOUNTED: Final = "miscounted"
"""The text of the flag if the next start must count again."""

log = structlog.get_logger()


class IntegrityCheck:
    """One check, in a thread and through a connection of its own.

    `damage` is the error that it found. With `is_complete` it has read all and found none.
    `is_miscounted`: values that triggers keep are wrong.
    """

    def __init__(self, path: Path) -> None:
        self.damage: sqlite3.Error | None = None
        self.is_complete = self.is_miscounted = False
        self._path = path
        self._connection = connect(path, "ro")
        self._thread = Thread(target=self._run, name="integrity check", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the limit of threads: the next start checks
            log.warning("store.check_not_started", path=str(path), error=str(error))

    def stop(self) -> None:
        """End the check at once, and close its connection."""
        while self._thread.is_alive():
            self._connection.interrupt()
            self._thread.join(INTERRUPT_INTERVAL)
        self._connection.close()

    def _run(self) -> None:
        log.info("store.check_started", path=str(self._path))
        try:
            _check(self._connection)
        except sqlite3.Error as error:
            if primary_code(error) in CORRUPT_CODES:
                self.damage = error
        else:
            self.is_complete = True
            self._verify_counts()
            log.info("store.check_completed", path=str(self._path))

    def _verify_counts(self) -> None:
        """Report wrong counts; those of a history that takes too long are left out."""
        with suppress(sqlite3.Error), time_limit(self._connection, QUERY_LIMIT):
            if wrong := find_wrong(self._connection):
                self.is_miscounted = True
                advice = "restart the daemon: it counts again at its start"
                log.error("store.miscounted", wrong=", ".join(wrong), advice=advice)


class _FailedCheck(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _check(db: sqlite3.Connection) -> None:
    """Raise sqlite3.Error if a database is damaged."""
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _FailedCheck(verdict)


def remove_clean_end(db: sqlite3.Connection) -> bool:
    """Remove the flag of a clean end; return whether it was there. Count again if it says so."""
    flag = db.execute(REMOVE_CLEAN_END).fetchone()
    if flag and flag["text"] == MISCOUNTED:
        count_again(db)
        log.info("store.counted_again")
    return flag is not None


def add_clean_end(db: sqlite3.Connection, *, is_miscounted: bool) -> None:
    """Add the flag of a clean end, if that is possible at once."""
    with suppress(sqlite3.Error):
        db.execute("PRAGMA busy_timeout = 0")
        db.execute(ADD_CLEAN_END, {"finding": MISCOUNTED if is_miscounted else ""})
