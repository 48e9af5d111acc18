"""The files of a database: their paths, their identity, and their mode, which is 0600."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from poller.runtime.instance_key import PRIVATE_MODE

Identity = tuple[int, int]
"""The device and the inode of a file."""


def resolved(path: Path) -> Path:
    """Return an absolute path without symbolic links: SQLite puts its files beside that one."""
    return Path(os.path.realpath(path))


def sibling(path: Path, suffix: str) -> Path:
    """Return the path of a file beside the database."""
    return path.with_name(path.name + suffix)


def identity(path: Path) -> Identity | None:
    """Return the identity of a file; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def remove_wal(path: Path) -> None:
    """Remove the WAL of a database that was replaced: its pages are not of the file at this path.

    SQLite leaves it there, and would put those pages into the other file, which damages it.
    """
    for suffix in ("-wal", "-shm"):
        sibling(path, suffix).unlink(missing_ok=True)


def open_private(path: Path) -> int:
    """Open a file for reading and writing; create it if there is none."""
    return os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)


def make_private(path: Path) -> None:
    """Remove the access of other users to the files of a database, such as a restored one."""
    import structlog  # noqa: PLC0415 - slow, and commands import this module too

    for file in (path, sibling(path, "-wal"), sibling(path, "-shm")):
        with suppress(FileNotFoundError, PermissionError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & ~PRIVATE_MODE:
                file.chmod(PRIVATE_MODE)
                log = structlog.get_logger()
                log.warning("store.made_private", path=str(file), mode=f"{mode:04o}")
