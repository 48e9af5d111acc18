"""The `file` sink: appends each event to a file, one line of JSON for each."""

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter, to_thread

from poller.core.errors import DeliveryError
from poller.core.outbox import Delivery
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.sinks import Sink, SinkContext, SinkKind

MIN_MAX_BYTES: Final = 65_536
"""A smaller file would be replaced every few events: some have 20 kB."""
OLD_SUFFIX: Final = ".1"
# Without O_NONBLOCK, opening a pipe waits for its other end.
FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileSettings(SinkSettings):
    """The settings of a file sink."""

    path: Path = setting(..., "File that events are appended to, one line of JSON for each")
    max_bytes: int | None = setting(
        None,
        "Size from which on the file is renamed to PATH.1 and a new one begun; by default never",
        ge=MIN_MAX_BYTES,
    )


@dataclass(frozen=True, slots=True)
class FileSink:
    """Append each event in a thread, one after the other: a disk may hang."""

    settings: Reloadable[FileSettings]
    one_at_a_time: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    async def send(self, delivery: Delivery) -> None:
        """Append one line; return when it is on the disk. Raises DeliveryError."""
        path, max_bytes = self.settings.value.path, self.settings.value.max_bytes
        try:
            await to_thread.run_sync(
                append, path, delivery.event.line, max_bytes, limiter=self.one_at_a_time
            )
        except OSError as error:
            raise DeliveryError(f"cannot append to {path}: {error.strerror}") from None


def append(path: Path, line: bytes, max_bytes: int | None) -> None:
    """Append a line with one write, and wait until it is on the disk. Raises OSError."""
    if max_bytes is not None and _size(path) + len(line) > max_bytes:
        path.rename(path.with_name(path.name + OLD_SUFFIX))
    file = os.open(path, FLAGS, 0o666)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if not status.st_size:
            _sync_name(path)
        data = b"\n" + line if _is_cut_off(file, status.st_size) else line
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    finally:
        os.close(file)


def _size(path: Path) -> int:
    """Return the size of a file that can be renamed; 0 for all else."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _is_cut_off(file: int, size: int) -> bool:
    """Return whether the last line has no end: a crash or a full disk cut it off."""
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _sync_name(path: Path) -> None:
    """Wait until the name of a new file is on the disk."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@asynccontextmanager
async def open_sink(
    settings: Reloadable[FileSettings], _context: SinkContext
) -> AsyncIterator[Sink]:
    """Open a file sink. The file is opened for each event: others may move it away."""
    yield FileSink(settings)


KIND = SinkKind(FileSettings, open_sink)
