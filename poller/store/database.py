"""The file of the SQLite store: its lock, its connection and its ills."""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from traceback import clear_frames
from typing import Final, TypeVar

import structlog

from poller.core.errors import StoreLocked, StoreUnavailable, StoreUnusable
from poller.store import schema
from poller.store.filesystem import network_fs_type

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_SECONDS: Final = 5.0
"""How long to wait for another process that writes."""

LOCK_PROBE_SECONDS: Final = 0.05
"""Longer than `is_locked` holds the lock, which it takes for an instant."""

TRANSIENT_CODES: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
"""What may heal while the process waits; any other refusal by the system takes a person."""

UNAVAILABLE: Final = frozenset(
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
CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

log = structlog.get_logger()


class Database:
    """One database file, held by one process.

    `prepare` is the first work of every connection. Every method blocks, and none may run beside
    another.
    """

    def __init__(self, path: Path, *, prepare: Work[None], allow_network: bool) -> None:
        self._path = path.absolute()
        self._prepare = prepare
        self._allow_network = allow_network
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._opened: int | None = None

    def open(self) -> None:
        """Lock, check, migrate and prepare.

        Raises StoreLocked, StoreRefused (then the file is as it was) or StoreUnavailable.
        """
        try:
            self._claim()
            self.transact(lambda _: None)
        except OSError as error:
            self.close()
            text = f"POLLER_STORE: {self._path}: {error.strerror}"
            if error.errno in TRANSIENT_CODES:
                raise StoreUnavailable(text) from error
            rule = "it must be a file in a folder that this user may write to"
            raise StoreUnusable(f"{text}; {rule}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close and unlock."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def transact(self, work: Work[T]) -> T:
        """Do some work in one transaction, all or nothing.

        After a StoreUnavailable the next call connects anew: that is how the store heals.
        """
        try:
            self._detect_replacement()
            return in_transaction(self._connection or self._connect(), work)
        except sqlite3.Error as error:
            self._disconnect_after(error)
            if primary_code(error) in CORRUPT:
                self._quarantine(error)
            elif primary_code(error) not in UNAVAILABLE:
                raise
            raise StoreUnavailable(f"{self._path}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _claim(self) -> None:
        """Make sure that the file can be had, and that nobody else has it."""
        kind = network_fs_type(self._path)
        if kind and not self._allow_network:
            raise StoreUnusable(
                f"POLLER_STORE: {self._path} is on a network file system ({kind}), where a lock"
                " may not hold; move it to a local disk, or set POLLER_ALLOW_NETWORK_STORE=on"
            )
        os.close(_open_private(self._path))
        self._lock = _open_private(_beside(self._path, ".lock"))
        if not _lock(self._lock, fcntl.LOCK_EX):
            time.sleep(LOCK_PROBE_SECONDS)
            if not _lock(self._lock, fcntl.LOCK_EX):
                raise StoreLocked(
                    f"{self._path}: another process has it;"
                    " stop that one, or set another POLLER_STORE"
                )

    def _connect(self) -> sqlite3.Connection:
        """Connect, with a new file in the place of one that is damaged."""
        try:
            return self._connect_checked()
        except sqlite3.Error as error:
            self._disconnect_after(error)
            if primary_code(error) not in CORRUPT:
                raise
            self._quarantine(error)
            return self._connect_checked()

    def _connect_checked(self) -> sqlite3.Connection:
        os.close(_open_private(self._path))
        self._sync_what_is_there()
        self._inspect()
        db = self._connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._opened = _inode(self._path)
        db.row_factory = sqlite3.Row
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {setting}")
        schema.migrate(db)
        in_transaction(db, self._prepare)
        return db

    def _sync_what_is_there(self) -> None:
        """Have on the disk what a killed process may have told to this kernel alone.

        What is read of it is taken for durable, and sent. A checkpoint would do the same, but a
        full disk would fail it.
        """
        wal = _beside(self._path, "-wal")
        for path in (wal, self._path.parent) if wal.exists() else ():
            _sync(path)

    def _inspect(self) -> None:
        """Look through a connection that cannot write, so that a refused file stays as it is."""
        try:
            self._inspect_as("ro")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A kill left a change half done: nothing can be read before it is undone.
            self._inspect_as("rw")

    def _inspect_as(self, mode: str) -> None:
        uri = f"{self._path.as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as db:
            if schema.version(db) > len(schema.MIGRATIONS):
                raise StoreUnusable(
                    f"POLLER_STORE: {self._path} was written by a newer version of this program;"
                    " run that version, or give this one a file of its own"
                )
            if not schema.is_own_database(db):
                raise StoreUnusable(
                    f"POLLER_STORE: {self._path} is the database of another program;"
                    " give this one a file of its own"
                )
            applied = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if applied != "ok":
                raise _FailedCheck(applied)

    def _detect_replacement(self) -> None:
        """Let go of a file that was removed or replaced: what goes there reaches nobody."""
        if self._connection and _inode(self._path) != self._opened:
            advice = "a new one is begun; stop the daemon before moving its file"
            log.error("store.file_replaced", path=str(self._path), advice=advice)
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _disconnect_after(self, error: sqlite3.Error) -> None:
        """Disconnect after an error.

        The frames in its traceback hold cursors, and a connection that has any stays open when it
        is closed: to end some time later, with the removal of a WAL that is another's by then.
        """
        clear_frames(error.__traceback__)
        self._disconnect()

    def _quarantine(self, error: sqlite3.Error) -> None:
        """Keep what is left of a damaged database for a person to look at."""
        aside = _beside(self._path, f".corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        log.error("store.corrupt", path=str(self._path), aside=str(aside), error=str(error))
        try:
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                part = _beside(self._path, suffix)
                if part.exists():
                    part.rename(_beside(aside, suffix))
        except OSError as refusal:
            text = f"{self._path} is damaged and cannot be renamed: {refusal.strerror}"
            raise StoreUnavailable(text) from refusal


class _FailedCheck(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def is_locked(path: Path) -> bool:
    """Tell whether a daemon has a database. Raises OSError when this user may not know.

    The lock is tried in its shared form, so that two who ask do not take each other for a daemon.
    """
    try:
        lock = os.open(_beside(path, ".lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def in_transaction(db: sqlite3.Connection, work: Work[T]) -> T:
    """Do some work in one transaction on a connection that has none open."""
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        # A failed write may have ended the transaction already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


def primary_code(error: sqlite3.Error) -> int | None:
    """Give SQLite's primary result code; errors of the Python module itself have none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _open_private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
