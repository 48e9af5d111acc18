"""The `board` sink: appends each message to POLLER_BOARD_FILE, for people to read."""

from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from poller.sinks import DeliveryError, DigestSettings, SinkKind, describe, setting


class BoardSettings(DigestSettings):
    file: Path = setting(..., "The file that messages are appended to")


class BoardSink:
    def __init__(self, settings, context):
        self._settings = settings
        self._context = context

    async def send(self, delivery):
        message = describe(delivery.event, self._context.job_url)
        try:
            async with await anyio.open_file(self._settings.value.file, "a") as file:
                await file.write(f"{message.text}\n\n")
        except OSError as error:
            raise DeliveryError(f"POLLER_BOARD_FILE: {error.strerror}") from None


@asynccontextmanager
async def open_sink(settings, context):
    yield BoardSink(settings, context)


KIND = SinkKind(BoardSettings, open_sink, wants_daemon_events=lambda settings: True)
