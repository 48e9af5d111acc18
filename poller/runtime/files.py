"""Reads of regular files: a pipe or a device may hang, or never end."""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content of a regular file, and its status after that. Raises OSError."""
    # Without O_NONBLOCK, opening a pipe waits for its other end.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(), os.fstat(file.fileno())
