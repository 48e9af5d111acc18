"""Fakes of an API, a source, a sink and a failing store, and the parts that run on them."""

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from poller.core.errors import NotFound, PollError, StoreUnavailable
from poller.core.events import EVENT_TYPES, Event, EventOrigin
from poller.core.jobs import Job
from poller.core.outbox import Delivery
from poller.core.pacing import PollPolicy
from poller.core.poll_queue import PollQueue
from poller.core.routing import Route
from poller.core.state import LifecyclePolicy
from poller.delivery.dispatcher import Dispatcher
from poller.polling.tracker import JobTracker
from poller.polling.watcher import Watcher
from poller.runtime.clock import Clock
from poller.sinks import Sink
from poller.sinks.testing import FakeSink
from poller.store import Store
from poller.store.admin import StoreAdmin
from poller.store.memory import MemoryStore
from poller.store.rows import read_delivery
from poller.sutro.client import no_known_jobs
from poller.sutro.list_planner import ListPlanner
from poller.sutro.port import Known, Observation, PollRequest
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.support.builders import FINAL, REASON, a_job
from tests.support.virtual_time import virtual_clock

HOOK = "hook"
ORIGIN = EventOrigin(deployment="api.example")
Answer = Job | PollError | Callable[[], Job | PollError]


def half() -> float:
    """Return the middle of the range: no jitter of intervals."""
    return 0.5


def ended(job_id: str = "job-1", status: str = "SUCCEEDED", **fields: Any) -> Job:
    """Return an ended job with all that the API adds to it."""
    reason = REASON if status == "FAILED" else {}
    return a_job(status, job_id=job_id, **(FINAL | reason | fields))


def running(job_id: str = "job-1", **fields: Any) -> Job:
    """Return a running job."""
    return a_job("RUNNING", job_id=job_id, **fields)


class FakeApi:
    """A fake API. `answers` has the response for each job; `trouble` fails all requests."""

    clock_skew = 0.0

    def __init__(self, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = {
            name.replace("_", "-"): answer for name, answer in answers.items()
        }
        self.trouble: PollError | None = None
        self.latency = 0.0
        self.asked: list[tuple[float, str]] = []
        self.known: list[Job | None] = []

    async def get_job(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return or raise the response that is set at the time of the request."""
        self.asked.append((anyio.current_time(), job_id))
        self.known.append(known(job_id))
        answer: Answer = self.trouble or self.answers.get(job_id) or NotFound("no such job")
        if self.latency:
            await anyio.sleep(self.latency)
        answer = answer() if callable(answer) else answer
        if isinstance(answer, PollError):
            raise answer
        return answer

    def times(self, job_id: str) -> list[float]:
        """Return the times of the requests for a job."""
        return [at for at, asked in self.asked if asked == job_id]


class FakeSource:
    """A source whose responses arrive when the test decides, in any order."""

    is_gated = False
    is_key_rejected = False
    is_key_accepted = True
    clock_skew = 0.0

    def __init__(self, clock: Clock) -> None:
        self.in_flight: list[tuple[str, anyio.Event, list[Observation]]] = []
        self._now = clock.steady

    async def plan(self, queue: PollQueue) -> PollRequest | None:
        """Return a request for a job that is due."""
        due = queue.due(self._now())
        return PollRequest((str(due),), partial(self._poll, str(due))) if due else None

    def forget(self, job_ids: Iterable[str]) -> None:
        """Forget nothing: no job is remembered."""

    async def _poll(self, job_id: str, _known: Known) -> Sequence[Observation]:
        done, answers = anyio.Event(), []
        self.in_flight.append((job_id, done, answers))
        await done.wait()
        return answers

    async def answer(
        self, result: Job | PollError, *, requested_at: float, from_list: bool = False
    ) -> None:
        """Complete the oldest request in flight with one observation."""
        job_id, done, answers = self.in_flight.pop(0)
        answers.append(Observation(job_id, requested_at, result, from_list=from_list))
        done.set()
        await settled()


class TimedSink(FakeSink):
    """A fake sink that also keeps when each attempt began and each event was delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.attempt_times: list[float] = []
        self.delivery_times: list[float] = []

    async def send(self, delivery: Delivery) -> None:
        """Record one delivery and its times, unless it is to fail."""
        self.attempt_times.append(anyio.current_time())
        await super().send(delivery)
        self.delivery_times.append(anyio.current_time())

    @property
    def attempted(self) -> list[tuple[float, Delivery]]:
        """All attempts, with their times."""
        return list(zip(self.attempt_times, self.attempts, strict=True))

    @property
    def received(self) -> list[tuple[float, Event]]:
        """All delivered events, with their times."""
        events = (delivery.event for delivery in self.delivered)
        return list(zip(self.delivery_times, events, strict=True))

    @property
    def types(self) -> list[str]:
        """The types of the delivered events, in order."""
        return [delivery.event.type for delivery in self.delivered]

    @property
    def ids(self) -> list[str]:
        """The ids of the delivered events, in order."""
        return [delivery.event.id for delivery in self.delivered]


class FailingStore:
    """A store whose verbs in `fails` raise at once; those in `lies` raise after they succeeded.

    Those in `hangs` never return.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.fails: set[str] = set()
        self.lies: set[str] = set()
        self.hangs: set[str] = set()
        self.calls: dict[str, list[float]] = defaultdict(list)
        self._last_error: str | None = None
        self._last_error_at = -math.inf

    @property
    def database_id(self) -> str:
        """The random id of the database."""
        return self.store.database_id

    @property
    def digest_sinks(self) -> Collection[str]:
        """The names of the sinks that get digests."""
        return self.store.digest_sinks

    @property
    def instance_key(self) -> bytes:
        """The key of the database."""
        return self.store.instance_key

    @property
    def last_error(self) -> str | None:
        """The text of the last error; None if the last verb succeeded."""
        return self._last_error

    @property
    def last_error_at(self) -> float:
        """When a verb last failed."""
        return self._last_error_at

    def admin(self) -> StoreAdmin:
        """Return the admin of the store, which never fails."""
        return self.store.admin()

    def interrupt_after(self, seconds: float) -> None:
        """Pass on the announcement of a stop."""
        self.store.interrupt_after(seconds)

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        """Return a verb of the store that fails or hangs as configured."""
        return partial(self._call, verb)

    async def _call(self, verb: str, *values: Any, **named: Any) -> Any:
        self.calls[verb].append(anyio.current_time())
        self._last_error = None
        if verb in self.hangs:
            await anyio.sleep_forever()
        if verb in self.fails:
            self._last_error, self._last_error_at = "the disk is full", virtual_clock().steady()
            raise StoreUnavailable(self._last_error)
        result = await getattr(self.store, verb)(*values, **named)
        if verb in self.lies:
            raise StoreUnavailable("the disk may have failed")
        return result


class SlowStore(FailingStore):
    """A store with one verb that takes a second, as if it opened a new database."""

    slow = ""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reached = anyio.Event()

    async def _call(self, verb: str, *values: Any, **named: Any) -> Any:
        if verb == self.slow:
            self.reached.set()
            await anyio.sleep(1.0)
        return await super()._call(verb, *values, **named)


def a_store(*sinks: str, types: frozenset[str] = EVENT_TYPES) -> MemoryStore:
    """Return a memory store whose sinks get every event type."""
    routes = dict.fromkeys(sinks or (HOOK,), Route(types=types))
    return MemoryStore(routes=routes, deployment="api.example", now=virtual_clock().steady)


RECORDED = """
SELECT deliveries.*, type, occurred_at, body, digest, follows
  FROM deliveries
  JOIN events ON events.id = event_id
 WHERE sink = :sink
 ORDER BY deliveries.id
"""


def recorded(store: Store, sink: str = HOOK) -> list[Event]:
    """Return the events that a memory store has for a sink, in the order of recording."""
    memory: MemoryStore = getattr(store, "store", store)
    rows = memory.transact(lambda db: db.execute(RECORDED, {"sink": sink}).fetchall())
    return [read_delivery(row).event for row in rows]


def recorded_types(store: Store) -> list[str]:
    """Return the types of the recorded events."""
    return [event.type for event in recorded(store)]


async def settled() -> None:
    """Wait until everything that takes no time has happened."""
    await anyio.sleep(0.001)


def a_watcher(source: Any, store: Store, clock: Clock, **changes: Any) -> Watcher:
    """Return a watcher that polls without jitter."""
    rules = changes.pop("rules", LifecyclePolicy())
    tracker = JobTracker(
        store,
        rules=rules,
        origin=changes.pop("origin", ORIGIN),
        clock=clock,
        wake=changes.pop("wake", lambda: None),
        counts=changes.pop("counts", None),
        budgets=changes.pop("budgets", None),
    )
    options: dict[str, Any] = {"policy": PollPolicy(), "concurrency": 16} | changes
    return Watcher(source, tracker, random=half, **options)


@asynccontextmanager
async def watching(
    api: FakeApi, store: Store, *job_ids: str, per_minute: float = 6_000.0, **changes: Any
) -> AsyncIterator[Watcher]:
    """Watch jobs of a fake API, through the real source and rate limiter, in the block."""
    clock = virtual_clock()
    rate_limiter = RateLimiter(per_minute=per_minute, now=clock.steady, random=half)
    source = SutroSource(
        api,
        rate_limiter,
        planner=ListPlanner(clock.steady, is_on=False),
        now=clock.steady,
        renew_key=changes.pop("renew_key", checkpoint),
    )
    watcher = a_watcher(source, store, clock, **changes)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(job_ids)
        yield watcher
        group.cancel_scope.cancel()


@asynccontextmanager
async def dispatching(
    store: Store, *, clock: Clock | None = None, secrets: Sequence[str] = (), **sinks: Sink
) -> AsyncIterator[Dispatcher]:
    """Deliver the events of a store while the block runs."""
    dispatcher = Dispatcher(
        {name.replace("_", "."): sink for name, sink in sinks.items()},
        store,
        origin=ORIGIN,
        clock=clock or virtual_clock(),
        random=half,
        secrets=lambda: secrets,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        yield dispatcher
        group.cancel_scope.cancel()
