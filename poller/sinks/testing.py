"""Help for tests of sinks: sample deliveries, a sink opened from texts, and a fake sink."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.detection_lag import Detection
from poller.core.events import EventOrigin, job_event
from poller.core.job_status import JobStatus
from poller.core.outbox import Delivery
from poller.core.parsing import parse_job
from poller.core.state import EventDraft, JobEventType
from poller.runtime.http_client import OutboundSettings
from poller.settings.base import RawSettings, Reloadable, env_prefix
from poller.settings.sources import EnvSources
from poller.sinks import Sink, SinkKind

__all__ = ["FakeSink", "open_sink", "sample_delivery"]

SAMPLE_JOB: Final = {
    "job_id": "job-12345",
    "status": "SUCCEEDED",
    "model": "llama-3.3-70b",
    "name": "Product review sentiment",
    "datetime_created": "2024-01-15T10:30:00Z",
    "datetime_started": "2024-01-15T10:30:15Z",
    "datetime_completed": "2024-01-15T10:32:15Z",
    "input_tokens": 15_420,
    "output_tokens": 8_230,
    "num_rows": 50,
    "job_cost": 0.0234,
}
SAMPLE_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    JobEventType.STARTED: {
        "status": "RUNNING",
        "datetime_completed": None,
        "output_tokens": None,
        "job_cost": None,
    },
    JobEventType.FAILED: {
        "status": "FAILED",
        "failure_reason": {"message": "The model returned no output for 3 rows."},
    },
    JobEventType.CANCELLED: {"status": "CANCELLED"},
}
"""Fields of the sample job that differ from those of a succeeded job, by event type."""
DETECTED_AT: Final = datetime(2024, 1, 15, 10, 32, 17, tzinfo=UTC)


def sample_delivery(event_type: str = "job.succeeded", **job_fields: Any) -> Delivery:
    """Return a delivery of a realistic event of a job. `job_fields` are those of a job object."""
    kind = JobEventType(event_type)
    job = parse_job({**SAMPLE_JOB, **SAMPLE_CHANGES.get(kind, {}), **job_fields})
    draft = EventDraft(
        type=kind, job_id=job.job_id, job=job, previous_status=JobStatus.RUNNING, sequence=2
    )
    detection = Detection(detected_at=DETECTED_AT.timestamp())
    event = job_event(draft, EventOrigin(deployment="api.sutro.sh"), DETECTED_AT, detection)
    return Delivery(id=1, sink="test", event=event, created_at=DETECTED_AT.timestamp())


@asynccontextmanager
async def open_sink(kind: SinkKind, **settings: str) -> AsyncIterator[Sink]:
    """Open a sink with settings as texts, as its environment variables hold them.

    `path="/events"` is POLLER_TEST_PATH. Raises ConfigError for settings that are wrong.
    """
    prefix = env_prefix("test")
    environ = {f"{prefix}{name.upper()}": text for name, text in settings.items()}
    values = RawSettings.of(kind.settings, prefix, EnvSources(environ=environ)).build()
    async with kind.open(Reloadable(values), OutboundSettings()) as sink:
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
