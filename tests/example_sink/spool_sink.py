"""The `spool` sink: writes each event to a file of its own in POLLER_SPOOL_FOLDER."""

from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from poller.sinks import DeliveryError, SinkKind, SinkSettings, setting


class SpoolSettings(SinkSettings):
    folder: Path = setting(..., "The folder that gets a file for each event")


class SpoolSink:
    def __init__(self, settings):
        self._settings = settings

    async def send(self, delivery):
        folder = anyio.Path(self._settings.value.folder)
        part = folder / f"{delivery.event.id}.part"
        try:
            await part.write_bytes(delivery.event.body)
            await part.rename(part.with_suffix(".json"))
        except OSError as error:
            raise DeliveryError(f"POLLER_SPOOL_FOLDER: {error.strerror}") from None


@asynccontextmanager
async def open_sink(settings, context):
    yield SpoolSink(settings)


KIND = SinkKind(SpoolSettings, open_sink)
