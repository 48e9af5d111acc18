"""The `file` sink: appends each event to POLLER_FILE_PATH, one JSON object a line."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from poller.environment import SinkSettings, setting
from poller.errors import DeliveryError
from poller.sinks import SinkKind


class FileSettings(SinkSettings):
    path: Path = setting(..., "The file that events are appended to")


@dataclass
class FileSink:
    path: Path

    async def send(self, delivery):
        try:
            async with await anyio.open_file(self.path, "ab") as file:
                await file.write(delivery.event.body + b"\n")
        except OSError as error:
            raise DeliveryError(f"POLLER_FILE_PATH: {error.strerror}") from None


@asynccontextmanager
async def connect(settings, egress):
    yield FileSink(settings.value.path)


KIND = SinkKind(FileSettings, connect)
