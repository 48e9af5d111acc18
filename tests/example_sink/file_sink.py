"""The `file` sink: appends each event to POLLER_FILE_PATH, one JSON object a line."""

from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from poller.core.errors import DeliveryError
from poller.settings.base import SinkSettings, setting
from poller.sinks import SinkKind


class FileSink(SinkSettings):
    path: Path = setting(..., "The file that events are appended to")

    async def send(self, delivery):
        try:
            async with await anyio.open_file(self.path, "ab") as file:
                await file.write(delivery.event.body + b"\n")
        except OSError as error:
            raise DeliveryError(f"POLLER_FILE_PATH: {error.strerror}") from None


@asynccontextmanager
async def connect(settings, outbound):
    yield settings.value


KIND = SinkKind(FileSink, connect)
