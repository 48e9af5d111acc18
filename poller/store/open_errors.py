"""The errors of a database that the system does not open."""

import errno
from pathlib import Path
from typing import Final

from poller.core.errors import StoreUnavailable, StoreUnusable

TRANSIENT_ERRNOS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
"""Errors of the system that may end without an operator."""


def open_error(path: Path, error: OSError) -> StoreUnavailable | StoreUnusable:
    """Return the error of a database, or of its folder, that cannot be opened."""
    text = f"POLLER_STORE: {path}: {error.strerror}"
    if error.errno in TRANSIENT_ERRNOS:
        return StoreUnavailable(text)
    return StoreUnusable(f"{text}; use a file in a directory that this user can write to")
