"""The Python API for other asyncio programs: watch jobs, or wait for them."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from os import environ
from typing import Final

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from poller.config import Config, load
from poller.core.errors import PollError
from poller.core.events import Event
from poller.core.jobs import JOB_ID_RULE, is_job_id
from poller.core.outbox import WriteBatch
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult, JobWaiter, WaitOptions
from poller.runtime.clock import Clock
from poller.runtime.http_client import HttpClient
from poller.runtime.logging import log_to_stdlib
from poller.store import Store
from poller.store.memory import MemoryStore
from poller.wiring import build_client, build_http, build_waiter

JOB_EVENT_TYPES: Final = frozenset(JobEventType)

log = structlog.get_logger()


async def wait(
    job_ids: str | Iterable[str], settings: Mapping[str, str] | None = None
) -> dict[str, JobResult]:
    """Wait until all jobs have ended, and return how each one ended; missing is an end too.

    `settings` has the variables of the documented settings by name, such as SUTRO_API_KEY; without
    it they are read from the environment. A job is missing once the API has returned 404 for 60
    seconds (or POLLER_NOT_FOUND_GRACE, if that is shorter). Cancel the call to stop waiting, for
    example with `asyncio.timeout`.

    Timeouts, rate limits and errors of the API are retried without end. Raises ConfigError for
    settings that are wrong, ValueError for an invalid job id, Unauthorized when the API rejects the
    key, WrongEndpoint when SUTRO_API_URL is not the Sutro API, and another PollError when the API
    rejects the requests for a job.
    """
    ids, config, clock = _job_ids(job_ids), _load(settings), Clock()
    store = MemoryStore(routes={}, deployment=config.origin.deployment, now=clock.steady)
    async with build_http(config) as http:
        waiter = _build(config, http, clock, store)
        await waiter.run(ids)
    return {result.job_id: result for result in waiter.results}


@asynccontextmanager
async def watch(
    job_ids: str | Iterable[str], settings: Mapping[str, str] | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    """Watch jobs while an `async with` block runs, and yield an iterator of their events.

    The iterator has all events of the jobs in the order in which they are detected, under the ids
    that the daemon gives them. It ends when all jobs have ended or are missing. Leaving the block
    stops the polling. Settings, retries and errors are those of `wait`; errors of the settings
    and ids are raised on entry, Unauthorized and WrongEndpoint by the iterator.
    """
    ids, config, clock = _job_ids(job_ids), _load(settings), Clock()
    sender, receiver = anyio.create_memory_object_stream[Event](math.inf)
    store = _Recorder(config, clock, sender)
    failures: list[PollError] = []

    async def run() -> None:
        with sender:
            try:
                await waiter.run(ids)
            except PollError as error:
                failures.append(error)

    raised: Exception | None = None
    async with (
        build_http(config) as http,
        receiver,
        aclosing(_events(receiver, failures)) as events,
    ):
        waiter = _build(config, http, clock, store)
        async with anyio.create_task_group() as group:
            group.start_soon(run, name="watch")
            try:
                yield events
            except Exception as error:  # noqa: BLE001 - else the group would wrap it
                raised = error
            group.cancel_scope.cancel()
    if raised:
        raise raised


async def _events(
    receiver: MemoryObjectReceiveStream[Event], failures: Sequence[PollError]
) -> AsyncGenerator[Event, None]:
    async for event in receiver:
        yield event
    for failure in failures:
        raise failure


class _Recorder(MemoryStore):
    """A store in memory that also sends each event of a job to a stream."""

    def __init__(self, config: Config, clock: Clock, events: MemoryObjectSendStream[Event]) -> None:
        super().__init__(routes={}, deployment=config.origin.deployment, now=clock.steady)
        self._events = events

    async def write(self, batch: WriteBatch) -> list[Event]:
        collisions = await super().write(batch)
        for event in batch.events:
            if event.type in JOB_EVENT_TYPES:
                self._events.send_nowait(event)
        return collisions


class _LogListener:
    """Logs problems of a wait; its progress is not shown."""

    def report(self, text: str) -> None:
        """Log one problem."""
        log.warning("polling.failed", error=text)

    def update(self, results: Sequence[JobResult]) -> None:
        """Do nothing."""


def _build(config: Config, http: HttpClient, clock: Clock, store: Store) -> JobWaiter:
    client = build_client(config, http, clock)
    return build_waiter(
        config, client, clock, store=store, listener=_LogListener(), options=WaitOptions()
    )


def _load(settings: Mapping[str, str] | None) -> Config:
    if not structlog.is_configured():
        log_to_stdlib()
    config = load(environ if settings is None else settings, for_run=False, is_delivering=False)
    config.key()  # raises when there is none
    return config


def _job_ids(job_ids: str | Iterable[str]) -> tuple[str, ...]:
    """Return each id once. Raises ValueError for one that is no job id."""
    ids = (job_ids,) if isinstance(job_ids, str) else tuple(dict.fromkeys(job_ids))
    for job_id in ids:
        if not is_job_id(job_id):
            raise ValueError(f"{job_id[:64]!r}: {JOB_ID_RULE}")
    return ids
