"""What starts, and in which order it stops: the nesting of the scopes is the order."""

import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import structlog
from anyio.abc import TaskStatus

from poller import __version__
from poller.clock import Clock
from poller.configuration import Config
from poller.discovery import Discovery, Filter
from poller.dispatcher import Dispatcher
from poller.errors import StoreUnavailable
from poller.events import Origin
from poller.house import keep_house, mind_store
from poller.http import Egress, Http
from poller.ledger import Ledger
from poller.lifecycle import Rules
from poller.places import DEFAULT
from poller.schedule import PollPolicy
from poller.settings import MEMORY, Settings
from poller.sinks.discreet import DiscreetSink
from poller.store import Store
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from poller.sutro.budget import Budget
from poller.sutro.client import SutroClient
from poller.sutro.listing import Listing
from poller.sutro.source import SutroSource
from poller.systemd import Supervisor
from poller.vitals import Vitals
from poller.watcher import Watcher
from poller.watchlist import Watchlist

GRACE: Final = 6.0
"""Seconds that sends under way get to end after SIGTERM."""
STORE_RETRY: Final = 5.0

log = structlog.get_logger()


def make_client(config: Config, http: Http, clock: Clock) -> SutroClient:
    """Make the client of the configured API."""
    return SutroClient(http, base=config.settings.api_url, key=config.key, now=clock.steady)


def make_http(config: Config) -> Http:
    """Make the session that all requests to the API share."""
    settings = config.settings
    return Http(egress(config), timeout=settings.request_timeout, limit=settings.concurrency)


def egress(config: Config) -> Egress:
    """Say how requests leave this machine."""
    ca_file = config.settings.ca_file
    return Egress(ca_file=str(ca_file) if ca_file else None, proxy_for=config.proxy_for)


def pace(settings: Settings) -> PollPolicy:
    """Say how often a job is looked at."""
    return PollPolicy(
        minimum=settings.min_interval,
        maximum=settings.max_interval,
        factor=settings.interval_factor,
    )


def origin(config: Config) -> Origin:
    """Say where events come from."""
    settings = config.settings
    return Origin(deployment=urlsplit(settings.api_url).netloc, namespace=settings.namespace)


def make_store(config: Config, clock: Clock) -> Store:
    """Make the configured store, not opened yet."""
    settings = config.settings
    routes = {sink.name: sink.events for sink in config.sinks}
    deployment = urlsplit(settings.api_url).netloc
    if config.found["POLLER_STORE"].origin == DEFAULT:
        # Only the default's folder is made: a path that was mistyped must not begin a new life.
        Path(settings.store).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.store == MEMORY:
        log.warning("store.in_memory", error="a restart forgets what was not delivered")
        return MemoryStore(routes=routes, deployment=deployment, now=clock.steady)
    return SqliteStore(
        Path(settings.store),
        routes=routes,
        deployment=deployment,
        now=clock.steady,
        allow_network=settings.allow_network_store,
    )


@dataclass(slots=True)
class App:
    """The daemon. `run` returns after SIGTERM or SIGINT, and for no other reason."""

    config: Config
    clock: Clock = field(default_factory=Clock)
    random: Callable[[], float] = random.random
    new_store: Callable[[Config, Clock], Store] = make_store
    supervisor: Supervisor = field(default_factory=Supervisor)
    _until_stop: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _watchlist: Watchlist = field(init=False)
    _budget: Budget = field(init=False)
    vitals: Vitals = field(init=False)

    def __post_init__(self) -> None:
        """Make what SIGHUP speaks to: it may come before anything else is there."""
        settings = self.config.settings
        self._watchlist = Watchlist(settings.job_ids, settings.jobs_file)
        self._budget = Budget(
            per_minute=settings.requests_per_minute, now=self.clock.steady, random=self.random
        )
        self.vitals = Vitals(self._budget)

    async def run(self) -> None:
        """Watch and deliver until told to stop.

        Raises StoreLocked or StoreRefused, alone or in a group, when the store cannot be used.
        """
        async with anyio.create_task_group() as everything:
            await everything.start(self._heed_signals, everything.cancel_scope)
            await self.serve()
            everything.cancel_scope.cancel()
        log.info("poller.stopped")

    async def serve(self) -> None:
        """Start, watch until `stop`, then let what is being sent end."""
        async with AsyncExitStack() as stack, anyio.create_task_group() as delivering:
            dispatcher = None
            with self._until_stop:
                store = await self._open_store(stack)
                self._tell_start()
                dispatcher = await self._make_dispatcher(stack, store)
                delivering.start_soon(dispatcher.run, name="dispatcher")
                await self._watch(stack, store, dispatcher)
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
            sinks, store, origin=origin(self.config), clock=self.clock, random=self.random
        )

    async def _watch(self, stack: AsyncExitStack, store: Store, dispatcher: Dispatcher) -> None:
        http = await stack.enter_async_context(make_http(self.config))
        source = self._make_source(http)
        discovery = self._make_discovery(source, store)
        watcher = self._make_watcher(source, store, dispatcher.wake)
        if discovery:
            await watcher.discover(discovery.admits)
        async with anyio.create_task_group() as watching:
            watching.start_soon(
                keep_house, store, self.clock, lambda: self._watchlist.job_ids, name="house"
            )
            watching.start_soon(mind_store, store, watcher.start_over, name="store")
            watching.start_soon(self._watchlist.run, watcher.watch, name="watchlist")
            if discovery:
                watching.start_soon(discovery.run, watcher.take_in, name="discovery")
            watching.start_soon(watcher.run, name="watcher")
            self.vitals.begin(store, watcher, dispatcher)
            watching.start_soon(self.supervisor.attend, self.vitals, name="supervisor")

    def _make_source(self, http: Http) -> SutroSource:
        now = self.clock.steady
        return SutroSource(
            make_client(self.config, http, self.clock),
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
        return Watcher(
            source,
            Ledger(store, rules=rules, origin=origin(self.config), clock=self.clock, wake=wake),
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
