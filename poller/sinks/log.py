"""The `log` sink: one line on stdout per event, at every log level."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from poller.core.errors import DeliveryError
from poller.core.events import DaemonEventType, Event
from poller.core.jobs import format_rfc3339
from poller.core.outbox import Delivery
from poller.core.state import JobEventType
from poller.runtime.clock import Clock
from poller.runtime.console import ConsoleRenderer
from poller.runtime.log_line import render_line
from poller.runtime.stdout import NonBlockingStdout
from poller.settings.base import Reloadable, SinkSettings
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.text import format_details, job_label

LEVELS: Final[Mapping[str, str]] = {
    JobEventType.FAILED: "error",
    JobEventType.MISSING: "warning",
    JobEventType.UNRECOGNISED: "warning",
    JobEventType.OVERDUE: "warning",
    JobEventType.COST_OVER_ESTIMATE: "warning",
    DaemonEventType.BUDGET_CROSSED: "warning",
    DaemonEventType.AUTH_FAILED: "error",
    DaemonEventType.SINK_DISABLED: "error",
}
"""The level of an event's line; `info` for the others."""


class LogSettings(SinkSettings):
    """The settings of the log sink."""


@dataclass(frozen=True, slots=True)
class LogSink:
    """Write each event as one JSON line: its type, ID and time, then the data of its body.

    A line begins like every other log line, so that log shippers treat it as one. On a console a
    line is a summary for people.
    """

    output: NonBlockingStdout
    console: ConsoleRenderer | None = None
    clock: Clock = field(default_factory=Clock)

    async def send(self, delivery: Delivery) -> None:
        """Write one line, and wait for that: the reader of stdout may be slow."""
        event = delivery.event
        now = self.clock.now()
        line = _text(event, now, self.console) if self.console else _json(event, now)
        try:
            await asyncio.wrap_future(self.output.submit(f"{line}\n"))
        except OSError as error:
            raise DeliveryError(f"cannot write to stdout: {error.strerror}") from None


def _text(event: Event, now: datetime, console: ConsoleRenderer) -> str:
    job, details = event.data.get("job"), format_details(event.data)
    text = f"{job_label(job)}  {details}" if job else details
    return console.line(now, LEVELS.get(event.type, "info"), event.type, text)


def _json(event: Event, now: datetime) -> str:
    head = {
        "timestamp": format_rfc3339(now),
        "level": LEVELS.get(event.type, "info"),
        "event": event.type,
        "event_id": event.id,
        "occurred_at": format_rfc3339(event.occurred_at),
    }
    return render_line(head | event.data)


@asynccontextmanager
async def open_sink(
    _settings: Reloadable[LogSettings], _context: SinkContext
) -> AsyncIterator[Sink]:
    """Open the log sink on stdout; its lines share the queue of log lines if there is one."""
    from poller.runtime.logging import console  # noqa: PLC0415 - slow, and only to send

    output = (
        sys.stdout if isinstance(sys.stdout, NonBlockingStdout) else NonBlockingStdout(sys.stdout)
    )
    yield LogSink(output, console())


KIND = SinkKind(LogSettings, open_sink, wants_daemon_events=lambda _settings: True)
