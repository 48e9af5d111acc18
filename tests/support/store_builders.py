"""Builders for tests of the store: a manual clock, states, events, outcomes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from resource import getrlimit, setrlimit
from typing import Any

from poller.core.events import Event
from poller.core.outbox import Delivery, DeliveryStatus, Outcome
from poller.core.routing import Route
from poller.core.state import JobState, Phase
from poller.store import Store
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore

NOON = 1_705_320_000.0
DAY = 86_400.0
HOOK, LOG = "webhook", "log"
ROUTES = {
    HOOK: Route(types=frozenset({"job.succeeded", "job.failed"})),
    LOG: Route(types=frozenset({"job.started", "job.failed"})),
}

AnyStore = SqliteStore | MemoryStore


class ManualClock:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Advance the clock, and return the new time."""
        self.now += seconds
        return self.now


def a_store(path: Path, now: ManualClock, **changes: Any) -> SqliteStore:
    """Return a store on disk that is not open."""
    options = {"routes": ROUTES, "deployment": "api.sutro.sh"} | changes
    return SqliteStore(path, now=now, **options)


def a_state(job_id: str = "job-1", **fields: Any) -> JobState:
    """Return the state of a watched job."""
    return JobState(**({"job_id": job_id, "phase": Phase.ACTIVE, "since": NOON} | fields))


def an_event(name: str = "1", subject: str = "job-1", **fields: Any) -> Event:
    """Return an event for the webhook alone."""
    values = {
        "id": f"evt_{name}",
        "type": "job.succeeded",
        "subject": subject,
        "occurred_at": datetime(2024, 1, 15, 10, 32, 15, tzinfo=UTC),
        "body": f'{{"n":"{name}","data":{{}}}}'.encode(),
    }
    return Event(**(values | fields))


def delivered(delivery: Delivery) -> Outcome:
    """Return the outcome of a successful attempt."""
    return Outcome(delivery_id=delivery.id, status=DeliveryStatus.DELIVERED)


def deferred(delivery: Delivery, due: float, reason: str = "HTTP 503") -> Outcome:
    """Return the outcome of a failed attempt that is retried."""
    return Outcome(delivery_id=delivery.id, status=DeliveryStatus.PENDING, due=due, reason=reason)


def dead(delivery: Delivery, reason: str = "HTTP 400") -> Outcome:
    """Return the outcome of a failed attempt that is not retried."""
    return Outcome(delivery_id=delivery.id, status=DeliveryStatus.DEAD, reason=reason)


async def reopen(store: AnyStore) -> None:
    """Close and reopen a store, as a restart does; a memory store keeps its contents."""
    await store.__aexit__(None, None, None)
    await store.__aenter__()


async def due(store: Store, now: float, sink: str = HOOK, **options: Any) -> list[Delivery]:
    """Return the deliveries that are due at a sink."""
    return await store.due_deliveries(sink, now, **({"limit": 10} | options))


async def event_ids(store: Store, now: float, sink: str = HOOK, **options: Any) -> list[str]:
    """Return the ids of the events that are due at a sink."""
    return [delivery.event.id for delivery in await due(store, now, sink, **options)]


@contextmanager
def limited(resource: int, maximum: int) -> Iterator[None]:
    """Limit a resource of this process while the block runs."""
    soft, hard = getrlimit(resource)
    setrlimit(resource, (maximum, hard))
    try:
        yield
    finally:
        setrlimit(resource, (soft, hard))
