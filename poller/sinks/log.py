"""The `log` sink: one JSON line on stdout for each event, whatever the log level is."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.to_thread import run_sync

from poller.environment import Live, SinkSettings
from poller.errors import DeliveryError
from poller.http import Egress
from poller.jobs import rfc3339
from poller.sinks import Sink, SinkKind
from poller.store import Delivery


class LogSettings(SinkSettings):
    """The variables of the log sink: the event types it takes."""


@dataclass(frozen=True, slots=True)
class LogSink:
    """Write each event as one line: its type, id and time, then the data of its body."""

    write: structlog.WriteLogger
    _one_at_a_time: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))

    async def send(self, delivery: Delivery) -> None:
        """Write one line off the loop: whoever reads it may be slow."""
        event = delivery.event
        head = {
            "event": event.type,
            "event_id": event.id,
            "occurred_at": rfc3339(event.occurred_at),
        }
        line = json.dumps(head | event.data)
        try:
            await run_sync(self.write.msg, line, limiter=self._one_at_a_time)
        except OSError as error:
            raise DeliveryError(f"stdout takes no line: {error.strerror}") from None


@asynccontextmanager
async def connect(_settings: Live[LogSettings], _egress: Egress) -> AsyncIterator[Sink]:
    """Open the log sink on stdout, behind the lock that the log itself writes under."""
    yield LogSink(structlog.WriteLogger(sys.stdout))


KIND = SinkKind(LogSettings, connect, is_read_by_people=lambda _found: True)
