"""The database file of the SQLite store: its connection, and its recovery from errors."""

import errno
import math
import os
import sqlite3
import time
from pathlib import Path
from traceback import clear_frames
from typing import Final, TypeVar

import structlog

from poller.core.errors import StoreUnavailable, StoreUnusable
from poller.store.connection import (
    BUSY_CODES,
    BUSY_TIMEOUT,
    CORRUPT_CODES,
    PASSING_CODES,
    UNAVAILABLE_CODES,
    Work,
    connect,
    in_transaction,
    interrupt_when,
    primary_code,
)
from poller.store.file_checks import check_is_database, check_shared_memory
from poller.store.file_lock import FileLock
from poller.store.files import Identity, identity, make_private, remove_wal, resolved, sibling
from poller.store.integrity import IntegrityCheck, add_clean_end, remove_clean_end
from poller.store.network_fs import network_fs_type
from poller.store.open_errors import open_error
from poller.store.opening import check_contents, configure, sync_existing
from poller.store.quarantine import quarantine

T = TypeVar("T")

BUSY_STEP: Final = 0.25
"""Seconds of BUSY_TIMEOUT for which SQLite itself waits, deaf to an interrupt."""

log = structlog.get_logger()


class Database:
    """One database file, locked by one process.

    `prepare` runs first on every new connection. All methods block, and only one may run at a time,
    except `interrupt_after`.
    """

    def __init__(self, path: Path, *, prepare: Work[None], allow_network: bool) -> None:
        self._path = resolved(path)
        self._wal = sibling(self._path, "-wal")
        self._prepare = prepare
        self._allow_network = allow_network
        self._lock = FileLock(self._path)
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[Identity | None, ...] = ()
        self._check: IntegrityCheck | None = None
        self._needs_check = False
        self._is_open = False
        self._deadline = math.inf

    def open(self) -> None:
        """Lock, check, migrate and prepare the database.

        Raises StoreLocked, StoreUnusable (then the file is unchanged) or StoreUnavailable.
        """
        try:
            self._check_place()
            lock = self._lock.acquire()
            try:
                self.transact(lambda _: None)
            except StoreUnavailable:
                check_shared_memory(self._path, lock)
                raise
            self._is_open = True
        except OSError as error:
            self.close()
            raise open_error(self._path, error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close and unlock the database."""
        is_miscounted = self._check is not None and self._check.is_miscounted
        self._end_check()
        if self._connection and not self._needs_check:
            add_clean_end(self._connection, is_miscounted=is_miscounted)
        self._disconnect()
        self._lock.release()
        self._is_open = False

    def interrupt_after(self, seconds: float) -> None:
        """Interrupt, in this many seconds, what runs then; at once what is being opened.

        An interrupted call raises StoreUnavailable.
        """
        self._deadline = time.monotonic() + (seconds if self._is_open else 0.0)

    def transact(self, work: Work[T]) -> T:
        """Run `work` in one transaction, all or nothing; again while another process is writing.

        After a StoreUnavailable that concerns the file or the disk the next call opens a new
        connection, so that the store recovers.
        """
        give_up_at = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self._detect_changes()
                return in_transaction(self._connection or self._connect(), work)
            except sqlite3.Error as error:
                code = primary_code(error)
                if code in BUSY_CODES and time.monotonic() < min(give_up_at, self._deadline):
                    continue
                self._recover_from(error)
                if code not in UNAVAILABLE_CODES | CORRUPT_CODES:
                    raise
                raise StoreUnavailable(f"{self._path}: {error}") from error
            except OSError as error:
                raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _check_place(self) -> None:
        """Raise StoreUnusable or OSError for a path that no database can be at."""
        fs_type = network_fs_type(self._path)
        if fs_type and not self._allow_network:
            raise StoreUnusable(
                f"POLLER_STORE: {self._path} is on a network file system ({fs_type}), where file"
                " locks are unreliable; use a local disk, or set POLLER_ALLOW_NETWORK_STORE=on"
            )
        check_is_database(self._path)
        folder = self._path.parent
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "SQLite cannot create files in its directory")

    def _connect(self) -> sqlite3.Connection:
        """Open a connection; replace a damaged file by a new one."""
        try:
            return self._connect_checked()
        except sqlite3.Error as error:
            if primary_code(error) not in CORRUPT_CODES:
                raise
            self._quarantine(error)
            return self._connect_checked()

    def _connect_checked(self) -> sqlite3.Connection:
        self._lock.lock_file()
        make_private(self._path)
        sync_existing(self._path)
        check_contents(self._path, timeout=BUSY_STEP)
        db = connect(self._path, "rw", BUSY_STEP)
        try:
            interrupt_when(db, lambda: time.monotonic() >= self._deadline)
            is_new = configure(db, self._path.parent)
            was_clean = in_transaction(db, self._begin)
            if was_clean:  # a copy of the file without its WAL must not have the flag either
                db.execute("PRAGMA wal_checkpoint")
            files = self._identities()
            if files[:1] != self._files[:1]:
                self._end_check()
                self._needs_check = not is_new and not was_clean
            if self._needs_check and not self._check:
                self._check = IntegrityCheck(self._path)
        except BaseException as error:
            clear_frames(error.__traceback__)
            db.close()
            raise
        self._connection, self._files = db, files
        return db

    def _begin(self, db: sqlite3.Connection) -> bool:
        """Prepare the database; return whether its last run ended cleanly."""
        self._prepare(db)
        return remove_clean_end(db)

    def _detect_changes(self) -> None:
        """Disconnect from files that were removed or replaced: writes to them would be lost.

        Raises the damage that the check in the background has found.
        """
        self._lock.restore()
        files = self._identities()
        if self._connection and files != self._files:
            advice = "stop the daemon before moving or removing a file of its database"
            log.error("store.file_replaced", path=str(self._path), advice=advice)
            self._end_check()
            self._disconnect()
            if files[0] != self._files[0] and files[1] == self._files[1]:
                remove_wal(self._path)
        if self._check and self._check.damage:
            raise self._check.damage

    def _identities(self) -> tuple[Identity | None, ...]:
        return identity(self._path), identity(self._wal)

    def _recover_from(self, error: sqlite3.Error) -> None:
        """Leave the connection, and the file if it is damaged, unless the error passes by itself.

        The frames of a traceback hold cursors, and a closed connection with cursors stays open in
        SQLite: it would end later, and remove a WAL that belongs to another connection by then.
        """
        clear_frames(error.__traceback__)
        code = primary_code(error)
        if code not in PASSING_CODES:
            self._disconnect()
        if code in CORRUPT_CODES:
            self._quarantine(error)

    def _quarantine(self, error: sqlite3.Error) -> None:
        self._end_check()
        quarantine(self._path, error)

    def _end_check(self) -> None:
        if self._check is not None:
            self._check.stop()
            self._needs_check = not self._check.is_complete
            self._check = None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
