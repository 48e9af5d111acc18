"""The `file` sink: appends each event to POLLER_FILE_PATH, one JSON object per line."""

from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from poller.sinks import DeliveryError, SinkKind, SinkSettings, setting


class FileSettings(SinkSettings):
    path: Path = setting(..., "The file that events are appended to")


class FileSink:
    def __init__(self, settings):
        self._settings = settings

    async def send(self, delivery):
        path = self._settings.value.path
        try:
            async with await anyio.open_file(path, "ab") as file:
                await file.write(delivery.event.body + b"\n")
        except OSError as error:
            raise DeliveryError(f"POLLER_FILE_PATH: {error.strerror}") from None


@asynccontextmanager
async def open_sink(settings, context):
    yield FileSink(settings)


KIND = SinkKind(FileSettings, open_sink)
