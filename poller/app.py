"""The daemon: what starts, and in which order it stops, which is the nesting of the scopes."""

import math
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from poller import __version__
from poller.advice import warnings
from poller.api.context import ApiContext, RunningDaemon
from poller.config import Config
from poller.core.counters import Counters
from poller.core.errors import StoreUnavailable
from poller.delivery.dispatcher import Dispatcher
from poller.polling.discovery import Discovery
from poller.polling.exit_when_done import stop_when_done
from poller.polling.watcher import Watcher
from poller.polling.watchlist import PersistentAdditions, Watchlist
from poller.runtime.clock import Clock
from poller.runtime.http_client import HttpClient
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.runtime.systemd import SystemdNotifier
from poller.runtime.wakeup import Wakeup
from poller.status import DaemonStatus
from poller.store import Store
from poller.store.maintenance import Sweeper, run_retention, watch_for_replacement
from poller.sutro.source import SutroSource
from poller.wiring import (
    SecretFiles,
    build_client,
    build_daily_report,
    build_discovery,
    build_heartbeat,
    build_http,
    build_rate_limiter,
    build_source,
    build_store,
    build_tracker,
    open_sink,
)

SHUTDOWN_GRACE: Final = 6.0
"""Seconds that deliveries in flight get to end after SIGTERM."""
STORE_GRACE: Final = 6.5
"""Seconds after SIGTERM in which their outcomes are recorded: another process may be writing."""

log = structlog.get_logger()


@dataclass(slots=True)
class App:
    """The daemon.

    `run` returns after `stop`, and with `exit_when_done` when everything is done.
    `counters` and `status` are always current.
    """

    config: Config
    clock: Clock = field(default_factory=Clock)
    random: Callable[[], float] = random.random
    new_store: Callable[[Config, Clock], Store] = build_store
    notifier: SystemdNotifier = field(default_factory=SystemdNotifier)
    counters: Counters = field(default_factory=Counters, init=False)
    status: DaemonStatus = field(init=False)
    _until_stop: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _watchlist: Watchlist = field(init=False)
    _api: ApiContext = field(init=False)
    _store: Store | None = field(default=None, init=False)
    _stopped_at: float = field(default=math.inf, init=False)
    _retries: list[Callable[[], None]] = field(default_factory=list, init=False)
    _reloads: Wakeup = field(default_factory=Wakeup, init=False)
    _secret_files: SecretFiles = field(init=False)

    def __post_init__(self) -> None:
        """Build the parts that SIGHUP needs: it may arrive before the store is open."""
        settings = self.config.settings
        self._watchlist = Watchlist(settings.job_ids, settings.jobs_file)
        rate_limiter = build_rate_limiter(self.config, self.clock, self.random, self.counters)
        self._secret_files = SecretFiles(self.config)
        self.status = DaemonStatus(
            rate_limiter,
            self.clock.steady,
            self.counters,
            lambda: self._secret_files.is_failing or self._watchlist.is_file_failing,
        )
        self._api = ApiContext(
            config=self.config,
            clock=self.clock,
            counters=self.counters,
            status=self.status,
            watchlist=self._watchlist,
        )

    async def run(self) -> None:
        """Watch and deliver until `stop`.

        Raises, alone or in a group, ConfigError if the HTTP API cannot listen, StoreLocked or
        StoreUnusable if the store cannot be used.
        """
        await self.serve()
        log.info("poller.stopped")

    async def serve(self) -> None:
        """Start, watch until `stop`, then wait for deliveries in flight."""
        async with (
            AsyncExitStack() as stack,
            self._serve_api(),  # it closes before the parts that it serves
            anyio.create_task_group() as delivering,
        ):
            dispatcher = None
            with self._until_stop:
                async with anyio.create_task_group() as reloading:
                    reloading.start_soon(self._reload_when_asked, name="reload")
                    store = await self._open_store(stack)
                    log.info(
                        "poller.started",
                        version=__version__,
                        api=self.config.settings.api_url,
                        store=self.config.settings.store,
                        sinks=",".join(sink.name for sink in self.config.sinks),
                    )
                    for warning in warnings(self.config):
                        log.warning("config.warning", advice=warning)
                    dispatcher = await self._make_dispatcher(stack, store)
                    delivering.start_soon(dispatcher.run, name="dispatcher")
                    await self._watch(stack, store, dispatcher)
            self.status.detach()
            self._api.detach()
            if dispatcher:
                dispatcher.close()  # no new sends; workers return when theirs have ended
            delivering.cancel_scope.deadline = self._stopped_at + SHUTDOWN_GRACE

    def stop(self) -> None:
        """Start to stop: no new polls and no new sends."""
        log.info("poller.stopping")
        self.notifier.stopping()
        self._stopped_at = anyio.current_time()
        if self._store:
            self._store.interrupt_after(STORE_GRACE)
        self._until_stop.cancel()

    def reload(self) -> None:
        """Read the jobs file and the secret files again, and retry what failed at the API."""
        self._reloads.notify()

    async def _reload_when_asked(self) -> None:
        since = 0
        while True:
            await self._reloads.wait(since=since)
            since = self._reloads.count
            with self.notifier.reloading():
                problems = await self._secret_files.reload()
                for problem in problems:
                    log.error("reload.failed", error=problem)
                log.info("poller.reloaded", problems=len(problems))
                for retry in (self._watchlist.reload, *self._retries):
                    retry()
            await anyio.sleep(1.0)  # the next one counts for all signals since

    def _serve_api(self) -> AbstractAsyncContextManager[None]:
        """Return a context that serves the HTTP API and metrics, if enabled. Raises ConfigError."""
        if self._api.address.is_off and self.config.settings.metrics_listen.is_off:
            return nullcontext()
        from poller.api.server import serve  # noqa: PLC0415 - 4 MiB, only where it is enabled

        return serve(self._api)

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        """Open the store; wait while the disk is full or fails, since it may recover."""
        throttle = LogThrottle(self.clock.steady)

        def report(error: StoreUnavailable) -> None:
            log_store_error(throttle, error)
            self.status.open_error = str(error)
            self.notifier.status(self.status.startup_line)

        async def enter() -> Store:
            self._store = self.new_store(self.config, self.clock)
            return await stack.enter_async_context(self._store)

        async with anyio.create_task_group() as opening:
            opening.start_soon(self.notifier.extend_start, name="systemd start")
            store = await until_available(enter, on_error=report)
            opening.cancel_scope.cancel()
        return store

    async def _make_dispatcher(self, stack: AsyncExitStack, store: Store) -> Dispatcher:
        sinks = {sink.name: await open_sink(self.config, sink, stack) for sink in self.config.sinks}
        return Dispatcher(
            sinks,
            store,
            origin=self.config.origin,
            clock=self.clock,
            random=self.random,
            secrets=self.config.secrets,
            counters=self.counters,
            retry_delays=self.config.settings.retry_schedule,
        )

    async def _watch(self, stack: AsyncExitStack, store: Store, dispatcher: Dispatcher) -> None:
        source = self._make_source(await stack.enter_async_context(build_http(self.config)))
        discovery = build_discovery(self.config, source, store, self.clock, self.random)
        self._retries = [source.retry, *([discovery.retry] if discovery else [])]
        watcher = self._make_watcher(source, store, dispatcher.wake)
        if discovery:
            await watcher.discover(discovery.admits)
        additions = PersistentAdditions(store, self._watchlist)
        await additions.load(LogThrottle(self.clock.steady))
        sweeper = Sweeper(
            store=store,
            clock=self.clock,
            watched=lambda: self._watchlist.watched_ids,
            is_clock_right=lambda: source.is_clock_right,
        )
        async with anyio.create_task_group() as watching:
            watching.start_soon(run_retention, sweeper, additions.sync_with_store, name="retention")
            resync = partial(self._resync, watcher, additions, discovery)
            watching.start_soon(watch_for_replacement, store, resync, name="store")
            watching.start_soon(self._watchlist.run, watcher.watch, name="watchlist")
            if discovery:
                watching.start_soon(discovery.run, watcher.ingest, name="discovery")
            watching.start_soon(watcher.run, name="watcher")
            if self.config.settings.exit_when_done:
                done = partial(stop_when_done, self._watchlist, watcher.tracker, sweeper)
                send_digests = dispatcher.send_digests
                watching.start_soon(done, send_digests, self.stop, name="completion")
            self.status.attach(store, watcher, dispatcher.heartbeats, discovery)
            self._api.attach(RunningDaemon(store.admin(), additions, watcher, dispatcher))
            watching.start_soon(
                self.notifier.run, self.status.stalled, self.status.summary_line, name="systemd"
            )
            self._start_reports(watching, store, dispatcher.wake)

    def _start_reports(self, tasks: TaskGroup, store: Store, wake: Callable[[], None]) -> None:
        """Start what reports at fixed times: the heartbeat and the daily report."""
        heartbeat = build_heartbeat(self.config, self.clock, self.status)
        tasks.start_soon(heartbeat.run, name="heartbeat")
        reporter = build_daily_report(
            self.config, self.clock, store, self._watchlist, wake=wake, counters=self.counters
        )
        tasks.start_soon(reporter.run, name="daily report")

    async def _resync(
        self, watcher: Watcher, additions: PersistentAdditions, discovery: Discovery | None
    ) -> None:
        """Record again, in a store that replaces a damaged one, the watched and the added jobs."""
        await watcher.resync()
        if discovery:
            discovery.rescan()
        with suppress(StoreUnavailable):  # retention tries again within the hour
            await additions.sync_with_store()

    def _make_source(self, http: HttpClient) -> SutroSource:
        return build_source(
            self.config,
            build_client(self.config, http, self.clock, self.counters),
            self.status.rate_limiter,
            self.clock,
            secrets=self._secret_files,
            on_reload_error=lambda problem: log.warning("reload.failed", error=problem),
        )

    def _make_watcher(self, source: SutroSource, store: Store, wake: Callable[[], None]) -> Watcher:
        tracker = build_tracker(self.config, store, self.clock, wake=wake, counts=self.counters)
        watcher = Watcher(
            source,
            tracker,
            policy=self.config.poll_policy,
            random=self.random,
            concurrency=self.config.settings.concurrency,
        )
        self._watchlist.discovered = watcher.discovered
        return watcher
