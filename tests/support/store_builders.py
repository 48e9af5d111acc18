"""What the tests of the store talk about: a clock set by hand, states, events, outcomes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from resource import getrlimit, setrlimit
from typing import Any

from poller.core.events import Event
from poller.core.outbox import Delivery, DeliveryStatus, Outcome
from poller.core.state import JobState, Phase
from poller.store import Store
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore

NOON = 1_705_320_000.0
DAY = 86_400.0
HOOK, LOG = "webhook", "log"
ROUTES = {
    HOOK: frozenset({"job.succeeded", "job.failed"}),
    LOG: frozenset({"job.started", "job.failed"}),
}

AnyStore = SqliteStore | MemoryStore


class Hands:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Say what time it is."""
        return self.now

    def turn(self, seconds: float) -> float:
        """Let so many seconds pass, and say what time it is then."""
        self.now += seconds
        return self.now


def a_store(path: Path, now: Hands, **changes: Any) -> SqliteStore:
    """Make a store on disk that nobody has opened."""
    options = {"routes": ROUTES, "deployment": "api.sutro.sh"} | changes
    return SqliteStore(path, now=now, **options)


def a_state(job_id: str = "job-1", **fields: Any) -> JobState:
    """Give the state of a job that is watched."""
    return JobState(**({"job_id": job_id, "phase": Phase.ACTIVE, "since": NOON} | fields))


def an_event(name: str = "1", subject: str = "job-1", **fields: Any) -> Event:
    """Give an event that goes to the webhook alone."""
    values = {
        "id": f"evt_{name}",
        "type": "job.succeeded",
        "subject": subject,
        "occurred_at": datetime(2024, 1, 15, 10, 32, 15, tzinfo=UTC),
        "body": f'{{"n":"{name}"}}'.encode(),
    }
    return Event(**(values | fields))


def delivered(delivery: Delivery) -> Outcome:
    """Give the outcome of an attempt that worked."""
    return Outcome(delivery_id=delivery.id, status=DeliveryStatus.DELIVERED)


def postponed(delivery: Delivery, due: float, reason: str = "HTTP 503") -> Outcome:
    """Give the outcome of an attempt that failed and will be made again."""
    return Outcome(delivery_id=delivery.id, status=DeliveryStatus.PENDING, due=due, reason=reason)


def buried(delivery: Delivery, reason: str = "HTTP 400") -> Outcome:
    """Give the outcome of an attempt after which there is no other."""
    return Outcome(delivery_id=delivery.id, status=DeliveryStatus.DEAD, reason=reason)


async def reopen(store: AnyStore) -> None:
    """Close a store and open it again, as a restart does; what is in memory stays there."""
    await store.__aexit__(None, None, None)
    await store.__aenter__()


async def due(store: Store, now: float, sink: str = HOOK, **options: Any) -> list[Delivery]:
    """Read what is due at a sink."""
    return await store.due_deliveries(sink, now, **({"limit": 10} | options))


async def event_ids(store: Store, now: float, sink: str = HOOK, **options: Any) -> list[str]:
    """Read the ids of the events that are due at a sink."""
    return [delivery.event.id for delivery in await due(store, now, sink, **options)]


@contextmanager
def limited(resource: int, most: int) -> Iterator[None]:
    """Let the system refuse this process more of something."""
    soft, hard = getrlimit(resource)
    setrlimit(resource, (most, hard))
    try:
        yield
    finally:
        setrlimit(resource, (soft, hard))
