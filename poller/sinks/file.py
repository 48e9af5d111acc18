"""The `file` sink: appends each event to a file, one JSON object per line."""

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter, to_thread

from poller.core.errors import DeliveryError
from poller.core.outbox import Delivery
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.sinks import Sink, SinkContext, SinkKind

MIN_MAX_BYTES: Final = 65_536
"""A smaller file would be replaced every few events, and some events are 20 kB."""
OLD_SUFFIX: Final = ".1"
# Without O_NONBLOCK, opening a pipe waits for its reader.
FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileSettings(SinkSettings):
    """The settings of a file sink."""

    path: Path = setting(..., "File that events are appended to, one line of JSON for each")
    max_bytes: int | None = setting(
        None, "Size at which the file is renamed and begun anew; empty is never", ge=MIN_MAX_BYTES
    )


@dataclass(frozen=True, slots=True)
class FileSink:
    """Append events; a thread does it, one event at a time, since a disk may hang."""

    settings: Reloadable[FileSettings]
    writing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    async def send(self, delivery: Delivery) -> None:
        """Append one line; return when it is on the disk. Raises DeliveryError."""
        path, max_bytes = self.settings.value.path, self.settings.value.max_bytes
        line = delivery.event.body + b"\n"
        try:
            await to_thread.run_sync(append, path, line, max_bytes, limiter=self.writing)
        except OSError as error:
            raise DeliveryError(f"cannot append to {path}: {error.strerror}") from None


def append(path: Path, line: bytes, max_bytes: int | None) -> None:
    """Append a line with one write, and wait until it is on the disk. Raises OSError."""
    with _opened(path) as file:
        size = os.fstat(file).st_size
        is_full = max_bytes is not None and size > 0 and size + len(line) > max_bytes
        if not is_full:
            _write(file, line, size)
            ...
