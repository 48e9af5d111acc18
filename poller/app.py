"""What starts, and in which order it stops: the nesting of the scopes is the order."""

import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from poller import __version__
from poller.api.service import Doorway
from poller.config import Config
from poller.core.counters import Counts
from poller.core.errors import StoreUnavailable
from poller.core.lifecycle import Rules
from poller.delivery.dispatcher import Dispatcher
from poller.polling.completion import until_done
from poller.polling.discovery import Discovery, Filter
from poller.polling.tracker import Ledger
from poller.polling.watcher import Watcher
from poller.polling.watchlist import Additions, Watchlist
from poller.runtime.clock import Clock
from poller.runtime.http import Http
from poller.runtime.log_throttle import Repeats
from poller.runtime.systemd import Supervisor
from poller.sinks.redacting import DiscreetSink
from poller.status import Vitals
from poller.store import Store
from poller.store.maintenance import keep_house, mind_store
from poller.sutro.list_planner import Listing
from poller.sutro.rate_limit import Budget
from poller.sutro.source import SutroSource
from poller.wiring import egress, make_client, make_http, make_store, origin, pace

GRACE: Final = 6.0
"""Seconds that sends under way get to end after SIGTERM."""
STORE_RETRY: Final = 5.0

log = structlog.get_logger()


@dataclass(slots=True)
class App:
    """The daemon. `run` returns after SIGTERM or SIGINT, or when all is done if it is to end then.

    What `counts` and `vitals` hold is as of now.
    """

    config: Config
    clock: Clock = field(default_factory=Clock)
    random: Callable[[], float] = random.random
    new_store: Callable[[Config, Clock], Store] = make_store
    supervisor: Supervisor = field(default_factory=Supervisor)
    counts: Counts = field(default_factory=Counts, init=False)
    vitals: Vitals = field(init=False)
    _until_stop: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _watchlist: Watchlist = field(init=False)
    _budget: Budget = field(init=False)
    _doorway: Doorway = field(init=False)

    def __post_init__(self) -> None:
        """Make what SIGHUP speaks to: it may come before anything else is there."""
        settings = self.config.settings
        self._watchlist = Watchlist(settings.job_ids, settings.jobs_file)
        self._budget = Budget(
            per_minute=settings.requests_per_minute,
            now=self.clock.steady,
            random=self.random,
            counts=self.counts,
        )
        self.vitals = Vitals(self._budget, self.clock.steady)
        self._doorway = Doorway(
            config=self.config,
            clock=self.clock,
            counts=self.counts,
            vitals=self.vitals,
            watchlist=self._watchlist,
        )

    async def run(self) -> None:
        """Watch and deliver until told to stop.

        Raises, alone or in a group, ConfigError where it cannot listen, StoreLocked or StoreRefused
        when the store cannot be used.
        """
        async with anyio.create_task_group() as everything:
            await everything.start(self._heed_signals, everything.cancel_scope)
            await self.serve()
            everything.cancel_scope.cancel()
        log.info("poller.stopped")

    async def serve(self) -> None:
        """Start, watch until `stop`, then let what is being sent end."""
        async with (
            AsyncExitStack() as stack,
            self._doorway.open(),  # it closes before what it leads to
            anyio.create_task_group() as delivering,
        ):
            dispatcher = None
            with self._until_stop:
                store = await self._open_store(stack)
                self._tell_start()
                dispatcher = await self._make_dispatcher(stack, store)
                delivering.start_soon(dispatcher.run, name="dispatcher")
                await self._watch(stack, store, dispatcher)
            self.vitals.end()
            self._doorway.end()
            if dispatcher:
                dispatcher.close()  # no new sends; the lanes return when theirs have ended
            delivering.cancel_scope.deadline = anyio.current_time() + GRACE

    def _tell_start(self) -> None:
        settings = self.config.settings
        log.info(
            "poller.started",
            version=__version__,
            api=settings.api_url,
            store=settings.store,
            sinks=",".join(sink.name for sink in self.config.sinks),
        )

    def stop(self) -> None:
        """Begin to stop: no new looks and no new sends."""
        log.info("poller.stopping")
        self.supervisor.stopping()
        self._until_stop.cancel()

    def reload(self) -> None:
        """Read the jobs file and the secret files again, and try a refused key at once."""
        with self.supervisor.reloading():
            problems = self.config.refresh()
            for problem in problems:
                log.error("reload.refused", error=problem)
            log.info("poller.reloaded", problems=len(problems))
            self._watchlist.reload()
            self._budget.retry()

    async def _heed_signals(
        self, everything: anyio.CancelScope, *, task_status: TaskStatus[None]
    ) -> None:
        """Stop at the first SIGTERM or SIGINT, at once at the second, reload at SIGHUP."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    self.reload()
                elif self._until_stop.cancel_called:
                    everything.cancel()
                else:
                    self.stop()

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        """Open the store; a full or failing disk is waited for, since it may heal."""
        while True:
            try:
                store = await stack.enter_async_context(self.new_store(self.config, self.clock))
            except StoreUnavailable as error:
                log.error("store.unavailable", error=str(error))
                self.vitals.await_store(str(error))
                self.supervisor.status(await self.vitals.line())
                await anyio.sleep(STORE_RETRY)
            else:
                return store

    async def _make_dispatcher(self, stack: AsyncExitStack, store: Store) -> Dispatcher:
        way_out = egress(self.config)
        sinks = {
            it.name: DiscreetSink(
                await stack.enter_async_context(it.kind.connect(it.live, way_out)),
                self.config.secrets,
            )
            for it in self.config.sinks
        }
        return Dispatcher(
            sinks,
            store,
            origin=origin(self.config),
            clock=self.clock,
            random=self.random,
            counts=self.counts,
        )

    async def _watch(self, stack: AsyncExitStack, store: Store, dispatcher: Dispatcher) -> None:
        http = await stack.enter_async_context(make_http(self.config))
        source = self._make_source(http)
        discovery = self._make_discovery(source, store)
        watcher = self._make_watcher(source, store, self._doorway.waker(dispatcher))
        if discovery:
            await watcher.discover(discovery.admits)
        additions = Additions(store, self._watchlist)
        await additions.load(Repeats(self.clock.steady))
        async with anyio.create_task_group() as watching:
            watching.start_soon(
                keep_house,
                store,
                self.clock,
                lambda: self._watchlist.job_ids,
                additions.reconcile,
                name="house",
            )
            anew = partial(self._start_over, watcher, additions, discovery)
            watching.start_soon(mind_store, store, anew, name="store")
            watching.start_soon(self._watchlist.run, watcher.watch, name="watchlist")
            if discovery:
                watching.start_soon(discovery.run, watcher.take_in, name="discovery")
            watching.start_soon(watcher.run, name="watcher")
            if self.config.settings.exit_when_done:
                watching.start_soon(self._stop_when_done, watcher, store, name="finish")
            self.vitals.begin(store, watcher, dispatcher)
            self._doorway.begin(additions, watcher, dispatcher)
            watching.start_soon(
                self.supervisor.attend,
                lambda: self.vitals.health.stalled,
                self.vitals.line,
                name="supervisor",
            )

    async def _start_over(
        self, watcher: Watcher, additions: Additions, discovery: Discovery | None
    ) -> None:
        """Take all in anew, and write down again what the store that was replaced knew."""
        await watcher.start_over()
        if discovery:
            discovery.start_over()
        with suppress(StoreUnavailable):  # within the hour it is tried again
            await additions.reconcile()

    async def _stop_when_done(self, watcher: Watcher, store: Store) -> None:
        await until_done(self._watchlist, watcher.roster.ledger, store)
        log.info("poller.done", jobs=len(self._watchlist.job_ids))
        self.stop()

    def _make_source(self, http: Http) -> SutroSource:
        now = self.clock.steady
        return SutroSource(
            make_client(self.config, http, self.clock, self.counts),
            self._budget,
            listing=Listing(now, is_on=self.config.settings.listing != "off"),
            now=now,
            renew_key=self._renew_key,
        )

    def _make_discovery(self, source: SutroSource, store: Store) -> Discovery | None:
        settings = self.config.settings
        if not settings.discover:
            return None
        return Discovery(
            source,
            store,
            wanted=Filter(
                name=settings.discover_name,
                model=settings.discover_model,
                lifetime=settings.discover_since,
            ),
            every=settings.discover_interval,
            clock=self.clock,
            random=self.random,
        )

    def _make_watcher(self, source: SutroSource, store: Store, wake: Callable[[], None]) -> Watcher:
        settings = self.config.settings
        rules = Rules(settings.settle_timeout, settings.not_found_grace)
        ledger = Ledger(
            store,
            rules=rules,
            origin=origin(self.config),
            clock=self.clock,
            wake=wake,
            counts=self.counts,
        )
        return Watcher(
            source,
            ledger,
            policy=pace(settings),
            rules=rules,
            clock=self.clock,
            random=self.random,
            concurrency=settings.concurrency,
        )

    def _renew_key(self) -> None:
        """Read the secret files again before a refused key is tried once more."""
        for problem in self.config.refresh():
            log.warning("reload.refused", error=problem)
