"""Connections to a database, their transactions and their errors."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that is writing."""

PORTION: Final = 1_000
"""Rows that one transaction of a large change reads or changes: others have their turn between."""

STEPS_PER_CHECK: Final = 1_000
"""Steps of SQLite's virtual machine between two checks of a time limit."""

BUSY_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
PASSING_CODES: Final = BUSY_CODES | {sqlite3.SQLITE_INTERRUPT}
"""Errors that say nothing about the file or the disk: the connection stays in use."""

UNAVAILABLE_CODES: Final = PASSING_CODES | {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
CORRUPT_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connect(path: Path, mode: str, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open a connection, with mode "ro", "ro&immutable=1" or "rw"; rows have names.

    SQLite keeps in memory what else it would write to a temporary file: where the root file system
    is read-only, as in a container, there may be no place for one.
    """
    db = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA temp_store = MEMORY")
    return db


def interrupt_when(db: sqlite3.Connection, is_late: Callable[[], bool]) -> None:
    """Interrupt each statement, with SQLITE_INTERRUPT, during which `is_late` becomes true."""
    db.set_progress_handler(is_late, STEPS_PER_CHECK)


def in_transaction(db: sqlite3.Connection, work: Work[T]) -> T:
    """Run `work` in one transaction on a connection that has none open."""
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        # SQLite rolls some failed transactions back itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


def primary_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code; None for errors of the Python module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
