"""The lock of a database: one daemon owns one file, whatever its name."""

import errno
import fcntl
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from poller.core.errors import StoreLocked
from poller.store.files import Identity, identity, open_private, sibling

LOCK_RETRY_DELAY: Final = 0.05
"""Seconds; longer than `is_locked` holds the lock."""

AFTER_SQLITE_LOCKS: Final = 0x40000000 + 512
"""A byte of the database that SQLite never locks: its own locks end there, at any file size."""

OWNER_LOCK: Final = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, AFTER_SQLITE_LOCKS, 1, 0)
"""The `struct flock` of fcntl(2)."""


class FileLock:
    """Two locks, on the file itself and on a `.lock` beside it.

    The lock on the database file holds for each name that the file has, and cannot be removed. But
    to try it, a process has to open the file; and closing that would release the locks of SQLite
    in the same process. So commands try the other one, which shows whether a daemon runs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marker_path = sibling(path, ".lock")
        self._marker: int | None = None
        self._file: int | None = None

    def acquire(self) -> int:
        """Lock the database, which is created if there is none. Return the `.lock` file.

        Raises StoreLocked or OSError.
        """
        self._marker = open_private(self._marker_path)
        if not _lock_marker(self._marker, fcntl.LOCK_EX):
            time.sleep(LOCK_RETRY_DELAY)
            if not _lock_marker(self._marker, fcntl.LOCK_EX):
                raise self._locked()
        self.lock_file()
        return self._marker

    def lock_file(self) -> None:
        """Lock the database file, unless it is the one that is locked already.

        Its descriptor stays open as long as SQLite may use the file.
        """
        if self._file is not None and identity(self._path) == _identity_of(self._file):
            return
        file = open_private(self._path)
        if not _lock_database(file):
            os.close(file)
            raise self._locked()
        if self._file is not None:
            os.close(self._file)
        self._file = file

    def restore(self) -> None:
        """Create and lock the `.lock` again if it was removed or replaced."""
        if self._marker is None or identity(self._marker_path) == _identity_of(self._marker):
            return
        import structlog  # noqa: PLC0415 - slow, and commands import this module too

        with suppress(OSError):  # such as a full disk: the database file is still locked
            marker = open_private(self._marker_path)
            if not _lock_marker(marker, fcntl.LOCK_EX):  # tried at this moment by a command
                os.close(marker)
                return
            os.close(self._marker)
            self._marker = marker
            advice = "do not remove it while the daemon runs: commands would report it as stopped"
            log = structlog.get_logger()
            log.error("store.lock_replaced", path=str(self._marker_path), advice=advice)

    def release(self) -> None:
        """Unlock the database; no connection may be open."""
        for file in (self._file, self._marker):
            if file is not None:
                os.close(file)
        self._file = self._marker = None

    def _locked(self) -> StoreLocked:
        advice = "stop that process, or use another POLLER_STORE"
        return StoreLocked(f"{self._path} is in use by another process; {advice}")


def is_locked(path: Path) -> bool:
    """Return whether a daemon has a database open. Raises OSError if this user has no access.

    The lock is tried in shared mode, so that two callers do not mistake each other for a daemon.
    """
    try:
        marker = os.open(sibling(path, ".lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock_marker(marker, fcntl.LOCK_SH)
    finally:
        os.close(marker)


def _identity_of(file: int) -> Identity:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _lock_marker(file: int, kind: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False


def _lock_database(file: int) -> bool:
    """Lock for this open file, not for the process: closing another one does not unlock it.

    A system without such locks, such as gVisor, is left with the other lock.
    """
    try:
        fcntl.fcntl(file, getattr(fcntl, "F_OFD_SETLK", -1), OWNER_LOCK)
    except OSError as error:
        return error.errno not in {errno.EAGAIN, errno.EACCES}
    return True
