"""Help for tests of sinks: sample deliveries, a sink opened from texts, and a fake sink."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.events import EventOrigin
from poller.core.outbox import Delivery
from poller.settings.base import RawSettings, Reloadable, env_prefix
from poller.settings.sources import EnvSources
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.samples import sample_event

__all__ = ["FakeSink", "open_sink", "sample_delivery"]

DETECTED_AT: Final = datetime(2024, 1, 15, 10, 32, 17, tzinfo=UTC)


def sample_delivery(event_type: str = "job.succeeded", **job_fields: Any) -> Delivery:
    """Return a delivery of a realistic event of a job. `job_fields` are those of a job object."""
    origin = EventOrigin(deployment="api.sutro.sh")
    event = sample_event(event_type, origin, DETECTED_AT, **job_fields)
    return Delivery(id=1, sink="test", event=event, created_at=DETECTED_AT.timestamp())


@asynccontextmanager
async def open_sink(kind: SinkKind, **settings: str) -> AsyncIterator[Sink]:
    """Open a sink with settings as texts, as its environment variables hold them.

    `path="/events"` is POLLER_TEST_PATH. Raises ConfigError for settings that are wrong.
    """
    prefix = env_prefix("test")
    environ = {f"{prefix}{name.upper()}": text for name, text in settings.items()}
    values = RawSettings.of(kind.settings, prefix, EnvSources(environ=environ)).build()
    async with kind.open(Reloadable(values), SinkContext()) as sink:
        yield sink


class FakeSink:
    """A sink that records deliveries.

    `attempts` are all deliveries that were sent, `delivered` those that succeeded. While `failure`
    is an exception, each attempt raises it; a function is awaited with the delivery instead.
    """

    def __init__(self) -> None:
        self.attempts: list[Delivery] = []
        self.delivered: list[Delivery] = []
        self.failure: BaseException | Callable[[Delivery], Awaitable[None]] | None = None

    async def send(self, delivery: Delivery) -> None:
        """Record one delivery, unless it is to fail."""
        self.attempts.append(delivery)
        if isinstance(self.failure, BaseException):
            raise self.failure
        if self.failure:
            await self.failure(delivery)
        self.delivered.append(delivery)
