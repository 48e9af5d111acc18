"""Builds the parts of the daemon and of other commands from the configuration."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from poller.config import Config, SinkConfig
from poller.core.budgets import Budgets
from poller.core.counters import Counters
from poller.core.errors import ConfigError
from poller.core.pacing import Random
from poller.runtime.bounded_read import READ_TIMEOUT, BoundedRead
from poller.runtime.clock import Clock
from poller.runtime.heartbeat import TIMEOUT, HeartbeatSender
from poller.runtime.http_client import HttpClient
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.redaction import safe_line
from poller.settings.sources import MEMORY
from poller.sinks import Sink
from poller.store import Store
from poller.store.open_errors import open_error
from poller.store.sqlite import SqliteStore
from poller.sutro.client import SutroClient
from poller.sutro.list_planner import ListPlanner
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource

if TYPE_CHECKING:  # the daemon has no waiter, and `wait` has no status
    from poller.polling.discovery import Discovery
    from poller.polling.tracker import JobTracker
    from poller.polling.waiter import JobWaiter, ProgressListener, WaitOptions
    from poller.polling.watchlist import Watchlist
    from poller.status import DaemonStatus
    from poller.store.daily_report import DailyReporter

log = structlog.get_logger()


def build_http(config: Config) -> HttpClient:
    """Return the HTTP client that all requests to the API share."""
    settings = config.settings
    return HttpClient(config.outbound, timeout=settings.request_timeout, limit=settings.concurrency)


def build_heartbeat(config: Config, clock: Clock, status: "DaemonStatus") -> HeartbeatSender:
    """Return the sender of heartbeats, with a connection of its own."""
    outbound = replace(config.outbound, url_name="POLLER_HEARTBEAT_URL")
    return HeartbeatSender(
        url=lambda: config.settings.heartbeat_url,
        interval=config.settings.heartbeat_interval,
        http=HttpClient(outbound, timeout=TIMEOUT, limit=1),
        blockers=status.blockers,
        outage=status.outage,
        throttle=LogThrottle(clock.steady),
    )


def build_daily_report(
    config: Config,
    clock: Clock,
    store: Store,
    watchlist: "Watchlist",
    *,
    wake: Callable[[], None],
    counters: Counters,
) -> "DailyReporter":
    """Return what records the daily report."""
    from poller.store.daily_report import DailyReporter  # noqa: PLC0415 - only for `run`

    return DailyReporter(
        at=config.settings.daily_report,
        store=store,
        origin=config.origin,
        clock=clock,
        watched=lambda: watchlist.watched_ids,
        wake=wake,
        counters=counters,
    )


def build_discovery(
    config: Config, source: SutroSource, store: Store, clock: Clock, random: Random
) -> "Discovery | None":
    """Return what discovers the jobs of the account, if that is enabled."""
    from poller.polling.discovery import (  # noqa: PLC0415 - only for `run`
        Discovery,
        DiscoveryFilter,
    )

    settings = config.settings
    if not settings.discover:
        return None
    return Discovery(
        source,
        store,
        deployment=config.origin.deployment,
        job_filter=DiscoveryFilter(
            name=settings.discover_name,
            model=settings.discover_model,
            max_age=settings.discover_max_age,
        ),
        interval=settings.discover_interval,
        clock=clock,
        random=random,
    )


def build_client(
    config: Config, http: HttpClient, clock: Clock, counts: Counters | None = None
) -> SutroClient:
    """Return the client of the configured API."""
    base = config.settings.api_url
    return SutroClient(http, base=base, key=config.key, now=clock.steady, counts=counts)


def build_rate_limiter(
    config: Config, clock: Clock, random: Random, counts: Counters | None = None
) -> RateLimiter:
    """Return the rate limiter of all requests to the API."""
    per_minute = config.settings.requests_per_minute
    return RateLimiter(per_minute=per_minute, now=clock.steady, random=random, counts=counts)


class SecretFiles:
    """The secret files of a configuration, which may be on a disk that hangs."""

    def __init__(self, config: Config) -> None:
        self._read = BoundedRead(config.reload_secrets)
        self.is_failing = False

    async def reload(self) -> tuple[str, ...]:
        """Read the files again; on any error keep all old values, and return the errors."""
        try:
            problems = await self._read()
        except TimeoutError:
            problems = (f"reading the secret files takes longer than {READ_TIMEOUT:g} s",)
        except OSError as error:  # no thread to read them in
            problems = (f"the secret files cannot be read: {error.strerror}",)
        self.is_failing = bool(problems)
        return problems


def build_source(
    config: Config,
    client: SutroClient,
    rate_limiter: RateLimiter,
    clock: Clock,
    *,
    secrets: SecretFiles,
    on_reload_error: Callable[[str], object],
) -> SutroSource:
    """Return the source of observations.

    It reads the secret files again before a rejected API key is retried, and passes each error to
    `on_reload_error`.
    """

    async def renew_key() -> None:
        for problem in await secrets.reload():
            on_reload_error(problem)

    return SutroSource(
        client,
        rate_limiter,
        planner=ListPlanner(clock.steady, is_on=config.settings.list_pages != "off"),
        now=clock.steady,
        renew_key=renew_key,
    )


def build_waiter(
    config: Config,
    client: SutroClient,
    clock: Clock,
    *,
    store: Store,
    listener: "ProgressListener",
    options: "WaitOptions",
) -> "JobWaiter":
    """Return a waiter, which records the events of its jobs in `store`."""
    from poller.polling.waiter import JobWaiter  # noqa: PLC0415 - only for `wait`

    rate_limiter = build_rate_limiter(config, clock, random.random)
    return JobWaiter(
        source=build_source(
            config,
            client,
            rate_limiter,
            clock,
            secrets=SecretFiles(config),
            on_reload_error=listener.report,
        ),
        store=store,
        origin=config.origin,
        listener=listener,
        clock=clock,
        options=options,
        policy=config.poll_policy,
        rules=config.lifecycle_policy,
        concurrency=config.settings.concurrency,
    )


def build_budgets(config: Config) -> Budgets:
    """Return the budgets that are set."""
    return Budgets(config.settings.budgets, config.origin)


def build_tracker(
    config: Config, store: Store, clock: Clock, *, wake: Callable[[], None], counts: Counters
) -> "JobTracker":
    """Return what keeps the states of the watched jobs."""
    from poller.polling.tracker import JobTracker  # noqa: PLC0415 - `wait` has one of its own

    return JobTracker(
        store,
        rules=config.lifecycle_policy,
        origin=config.origin,
        clock=clock,
        wake=wake,
        counts=counts,
        budgets=build_budgets(config),
    )


def build_store(config: Config, clock: Clock) -> Store:
    """Return the configured store, not opened yet."""
    settings = config.settings
    if config.is_default("POLLER_STORE"):
        # Only the default folder is created: a mistyped path must not start an empty database.
        path = Path(settings.store)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise open_error(path, error) from None
    if settings.store == MEMORY:
        from poller.store.memory import MemoryStore  # noqa: PLC0415 - seldom used

        log.warning("store.not_persistent", error="undelivered events are lost at a restart")
        return MemoryStore(
            routes=config.routes,
            deployment=config.origin.deployment,
            now=clock.steady,
            retention=config.retention,
        )
    return SqliteStore(
        Path(settings.store),
        routes=config.routes,
        deployment=config.origin.deployment,
        now=clock.steady,
        retention=config.retention,
        allow_network=settings.allow_network_store,
    )


async def open_sink(config: Config, sink: SinkConfig, stack: AsyncExitStack) -> Sink:
    """Open a sink until the stack closes it. Raises ConfigError if its code fails in any way."""
    try:
        context = sink.kind.open(sink.reloadable, config.context_of(sink.name))
        opened = await context.__aenter__()
    except ConfigError:
        raise
    except BaseException as error:
        if _is_cancelled():
            raise
        reason = safe_line(f"{type(error).__name__}: {error}", config.secrets)
        raise ConfigError(f"POLLER_SINKS: sink {sink.name!r} cannot be opened: {reason}") from None
    stack.push_async_exit(partial(_close_sink, sink.name, context))
    return opened


async def _close_sink(name: str, context: AbstractAsyncContextManager[Sink], *error: Any) -> None:
    """Close a sink; log what it raises, since its bug must not change how the daemon ends."""
    try:
        await context.__aexit__(*error)
    except (Exception, SystemExit, asyncio.CancelledError) as failure:
        if isinstance(failure, asyncio.CancelledError) and _is_cancelled():
            raise
        log.exception("sink.crashed", sink=name)


def _is_cancelled() -> bool:
    """Return whether this task is being cancelled: otherwise a sink has cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
