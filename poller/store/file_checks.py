"""Checks of the database file by other means than SQLite: none of them changes a file."""

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Final

from poller.core.errors import StoreUnusable
from poller.store.files import sibling
from poller.store.network_fs import fs_type_of

SQLITE_HEADER: Final = b"SQLite format 3\0"
SIBLINGS: Final = ("-wal", "-shm", "-journal", ".lock")


def check_is_database(path: Path) -> None:
    """Raise StoreUnusable for a file that shows no sign of ever having been a database.

    A damaged database has its header, or files beside it that a daemon has left. A database that
    is in use has them too, and is not opened here: closing it would release all locks that SQLite
    holds on it in this process (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe would hang
            raise StoreUnusable(f"POLLER_STORE: {path}: it is not a regular file; use another path")
        if any(sibling(path, suffix).exists() for suffix in SIBLINGS):
            return
        with path.open("rb") as file:
            head = file.read(len(SQLITE_HEADER))
    except FileNotFoundError:
        return
    if head and head != SQLITE_HEADER:
        raise StoreUnusable(f"POLLER_STORE: {path}: it is not a database; use another path")


def check_shared_memory(path: Path, lock: int) -> None:
    """Raise StoreUnusable on a file system without shared mappings, which SQLite's WAL needs.

    `lock` is a file beside the database. Some file systems in user space have none.
    """
    try:
        os.ftruncate(lock, 1)  # an empty file cannot be mapped
        mmap.mmap(lock, 1).close()
    except OSError as error:
        if error.errno not in {errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP}:
            return  # a fault of the disk, which may pass
        raise StoreUnusable(
            f"POLLER_STORE: {path} is on a file system ({fs_type_of(path)}) that cannot share"
            " memory between processes, as SQLite needs it; use a local disk"
        ) from error


def is_immutable(path: Path) -> bool:
    """Return whether no process can change a database: it is on a read-only volume, at rest."""
    is_read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return is_read_only and not sibling(path, "-wal").exists()
