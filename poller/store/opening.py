"""The steps before a database is used: a file that cannot be used must not change."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from poller.core.errors import StoreUnusable
from poller.store import schema
from poller.store.connection import connect
from poller.store.files import sibling

MAX_IDLE_WAL_BYTES: Final = 16 << 20
"""The size that SQLite truncates the WAL to once no reader needs more of it."""

SETTINGS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    f"journal_size_limit = {MAX_IDLE_WAL_BYTES}",
)


def sync_existing(path: Path) -> None:
    """Flush to disk what a killed process may have written to the kernel's cache only.

    Whatever is read from the file is sent, so it must be durable. A checkpoint would flush it
    too, but fails on a full disk.
    """
    wal = sibling(path, "-wal")
    for part in (wal, path.parent) if wal.exists() else ():
        file = os.open(part, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def check_contents(path: Path, *, timeout: float) -> None:
    """Raise StoreUnusable, or sqlite3.Error for a damaged header; the file does not change."""
    try:
        _check_through(path, "ro", timeout)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        # A killed process left an unfinished change, which must be rolled back before any read.
        _check_through(path, "rw", timeout)


def _check_through(path: Path, mode: str, timeout: float) -> None:
    with closing(connect(path, mode, timeout)) as db:
        if schema.version(db) > len(schema.MIGRATIONS):
            raise StoreUnusable(
                f"POLLER_STORE: {path} was written by a newer version of this program;"
                " use that version, or another file"
            )
        if not schema.is_own_database(db):
            raise StoreUnusable(
                f"POLLER_STORE: {path} is the database of another program; use another file"
            )


def configure(db: sqlite3.Connection, folder: Path) -> bool:
    """Set up a connection and migrate its database; return whether the database is new."""
    number = schema.version(db)
    for setting in SETTINGS:
        db.execute(f"PRAGMA {setting}")
    is_old = 0 < number < len(schema.MIGRATIONS)
    if is_old:
        _use_temporary_files(db, folder)
    schema.migrate(db)
    if is_old:
        _use_temporary_files(db, None)
    return number == 0


def _use_temporary_files(db: sqlite3.Connection, folder: Path | None) -> None:
    """Make SQLite sort in files of a folder, or in memory again.

    New indexes of millions of rows need hundreds of MiB. The files have no names. A build of SQLite
    without this deprecated pragma would look for another folder.
    """
    name = str(folder or "").replace("'", "''")
    db.execute(f"PRAGMA temp_store_directory = '{name}'")
    is_set = db.execute("PRAGMA temp_store_directory").fetchone() is not None
    db.execute(f"PRAGMA temp_store = {'FILE' if is_set else 'MEMORY'}")
