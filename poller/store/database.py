"""The database file of the SQLite store: lock, connection and recovery."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from traceback import clear_frames
from typing import Final, TypeVar

import structlog

from poller.core.errors import StoreLocked, StoreUnavailable, StoreUnusable
from poller.store import schema
from poller.store.file_checks import check_is_database, check_shared_memory
from poller.store.network_fs import network_fs_type
from poller.store.open_errors import open_error

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that is writing."""

LOCK_RETRY_DELAY: Final = 0.05
"""Seconds; longer than `is_locked` holds the lock."""

UNAVAILABLE_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
CORRUPT_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

log = structlog.get_logger()


class Database:
    """One database file, locked by one process.

    `prepare` runs first on every new connection. All methods block; only one may run at a time.
    """

    def __init__(self, path: Path, *, prepare: Work[None], allow_network: bool) -> None:
        self._path = path.absolute()
        self._prepare = prepare
        self._allow_network = allow_network
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None

    def open(self) -> None:
        """Lock, check, migrate and prepare the database.

        Raises StoreLocked, StoreUnusable (then the file is unchanged) or StoreUnavailable.
        """
        try:
            lock = self._acquire()
            try:
                self.transact(lambda _: None)
            except StoreUnavailable:
                check_shared_memory(self._path, lock)
                raise
        except OSError as error:
            self.close()
            raise open_error(self._path, error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close and unlock the database."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def transact(self, work: Work[T]) -> T:
        """Run `work` in one transaction, all or nothing.

        After a StoreUnavailable the next call opens a new connection, so that the store recovers.
        """
        try:
            self._detect_replacement()
            return in_transaction(self._connection or self._connect(), work)
        except sqlite3.Error as error:
            self._disconnect_after(error)
            if primary_code(error) in CORRUPT_CODES:
                self._quarantine(error)
            elif primary_code(error) not in UNAVAILABLE_CODES:
                raise
            raise StoreUnavailable(f"{self._path}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _acquire(self) -> int:
        """Check the file system, create the file and lock it. Return the lock's file."""
        fs_type = network_fs_type(self._path)
        if fs_type and not self._allow_network:
            raise StoreUnusable(
                f"POLLER_STORE: {self._path} is on a network file system ({fs_type}), where file"
                " locks are unreliable; use a local disk, or set POLLER_ALLOW_NETWORK_STORE=on"
            )
        check_is_database(self._path)
        os.close(_open_private(self._path))
        self._lock = _open_private(_sibling(self._path, ".lock"))
        if not _lock(self._lock, fcntl.LOCK_EX):
            time.sleep(LOCK_RETRY_DELAY)
            if not _lock(self._lock, fcntl.LOCK_EX):
                advice = "stop that process, or use another POLLER_STORE"
                raise StoreLocked(f"{self._path} is in use by another process; {advice}")
        return self._lock

    def _connect(self) -> sqlite3.Connection:
        """Open a connection; replace a damaged file by a new one."""
        try:
            return self._connect_checked()
        except sqlite3.Error as error:
            self._disconnect_after(error)
            if primary_code(error) not in CORRUPT_CODES:
                raise
            self._quarantine(error)
            return self._connect_checked()

    def _connect_checked(self) -> sqlite3.Connection:
        os.close(_open_private(self._path))
        self._sync_existing()
        self._check_file()
        db = self._connection = connect(self._path, "rw")
        self._inode = _inode(self._path)
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {setting}")
        schema.migrate(db)
        in_transaction(db, self._prepare)
        return db

    def _sync_existing(self) -> None:
        """Flush to disk what a killed process may have written to the kernel's cache only.

        Whatever is read from the file is sent, so it must be durable. A checkpoint would flush it
        too, but fails on a full disk.
        """
        wal = _sibling(self._path, "-wal")
        for path in (wal, self._path.parent) if wal.exists() else ():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def _check_file(self) -> None:
        """Check the file through a read-only connection: an unusable file must not change."""
        try:
            self._check_through("ro")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A killed process left an unfinished change, which must be rolled back before any read.
            self._check_through("rw")

    def _check_through(self, mode: str) -> None:
        with closing(connect(self._path, mode)) as db:
            if schema.version(db) > len(schema.MIGRATIONS):
                raise StoreUnusable(
                    f"POLLER_STORE: {self._path} was written by a newer version of this program;"
                    " use that version, or another file"
                )
            if not schema.is_own_database(db):
                raise StoreUnusable(
                    f"POLLER_STORE: {self._path} is the database of another program;"
                    " use another file"
                )
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _FailedCheck(verdict)

    def _detect_replacement(self) -> None:
        """Disconnect from a file that was removed or replaced: writes to it would be lost."""
        if self._connection and _inode(self._path) != self._inode:
            advice = "a new database is created; stop the daemon before moving its file"
            log.error("store.file_replaced", path=str(self._path), advice=advice)
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _disconnect_after(self, error: sqlite3.Error) -> None:
        """Disconnect after an error.

        The frames of its traceback hold cursors, and a closed connection with cursors stays open
        in SQLite: it would end later, and remove a WAL that belongs to another connection by then.
        """
        clear_frames(error.__traceback__)
        self._disconnect()

    def _quarantine(self, error: sqlite3.Error) -> None:
        """Rename a damaged database, so that an operator can inspect it."""
        quarantine = _sibling(self._path, f".corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        log.error(
            "store.corrupt", path=str(self._path), quarantine=str(quarantine), error=str(error)
        )
        try:
            self._path.rename(quarantine)
            for suffix in ("-wal", "-shm"):
                part = _sibling(self._path, suffix)
                if part.exists():
                    part.rename(_sibling(quarantine, suffix))
        except OSError as failure:
            text = f"{self._path} is damaged and cannot be renamed: {failure.strerror}"
            raise StoreUnavailable(text) from failure


class _FailedCheck(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def is_locked(path: Path) -> bool:
    """Return whether a daemon has a database open. Raises OSError if this user has no access.

    The lock is tried in shared mode, so that two callers do not mistake each other for a daemon.
    """
    try:
        lock = os.open(_sibling(path, ".lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a connection, with mode "ro", "ro&immutable=1" or "rw"; rows have names.

    SQLite keeps in memory what else it would write to a temporary file: where the root file system
    is read-only, as in a container, there may be no place for one.
    """
    db = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA temp_store = MEMORY")
    return db


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


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _lock(file: int, kind: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False


def _open_private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
