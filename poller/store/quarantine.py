"""Damaged databases are renamed, so that an operator can inspect them."""

import glob
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from poller.core.errors import StoreUnavailable
from poller.store.files import sibling

KEPT: Final = 2
"""Number of damaged databases that are kept: each may be as large as the disk allows."""

SUFFIXES: Final = ("", "-wal", "-shm")

log = structlog.get_logger()


def quarantine(path: Path, error: Exception) -> None:
    """Rename a damaged database, and delete all but the newest two. Raises StoreUnavailable."""
    target = sibling(path, f".corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    log.error("store.corrupt", path=str(path), quarantine=str(target), error=str(error))
    try:
        for suffix in SUFFIXES:
            part = sibling(path, suffix)
            if not suffix or part.exists():
                part.rename(sibling(target, suffix))
    except OSError as failure:
        text = f"{path} is damaged and cannot be renamed: {failure.strerror}"
        raise StoreUnavailable(text) from failure
    for old in sorted(path.parent.glob(f"{glob.escape(path.name)}.corrupt-*Z"))[:-KEPT]:
        log.warning("store.quarantine_deleted", path=str(old))
        for suffix in SUFFIXES:
            with suppress(OSError):
                sibling(old, suffix).unlink()
