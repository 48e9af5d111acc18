"""What the door leads to: the parts of the daemon that a request may speak of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import anyio
from aiohttp import web
from anyio.to_thread import run_sync

from poller.api.problems import Problem
from poller.config import Config
from poller.core.counters import Counters
from poller.delivery.dispatcher import Dispatcher
from poller.polling.watcher import Watcher
from poller.polling.watchlist import PersistentAdditions, Watchlist
from poller.runtime.address import ListenAddress
from poller.runtime.clock import Clock
from poller.status import DaemonStatus
from poller.store import Store
from poller.store.admin import StoreAdmin

T = TypeVar("T")


@dataclass(slots=True)
class Broadcast:
    """Take `next` before you look at what it announces, then wait for it."""

    next: anyio.Event = field(default_factory=anyio.Event)

    def notify(self) -> None:
        """Wake all who wait."""
        self.next.set()
        self.next = anyio.Event()


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """What is there once the store is open and the loops run."""

    admin: StoreAdmin
    additions: PersistentAdditions
    watcher: Watcher
    dispatcher: Dispatcher


@dataclass(slots=True, kw_only=True)
class ApiContext:
    """The daemon as the door sees it. Its `bell` rings when events were recorded."""

    address: ListenAddress
    config: Config
    counters: Counters
    status: DaemonStatus
    watchlist: Watchlist
    clock: Clock
    closing: anyio.Event = field(default_factory=anyio.Event)
    events_recorded: Broadcast = field(default_factory=Broadcast)
    busy: set[object] = field(default_factory=set)
    streams: int = 0
    _daemon: RunningDaemon | None = field(default=None, init=False)
    _disk: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        """Keep those who look things up from starving the store, which writes beside them."""
        self._disk = anyio.CapacityLimiter(CONCURRENT_QUERIES)

    def attach(
        self,
        store: Store,
        additions: PersistentAdditions,
        watcher: Watcher,
        dispatcher: Dispatcher,
    ) -> None:
        """Lead to all that works."""
        self._daemon = RunningDaemon(store.admin(), additions, watcher, dispatcher)

    def detach(self) -> None:
        """Lead to it no more."""
        self._daemon = None
        self.closing.set()
        self.events_recorded.notify()

    @property
    def daemon(self) -> RunningDaemon:
        """All that works. Raises Problem while it does not."""
        if self._daemon is None:
            raise Problem("not-ready", "; ".join(self.status.health.reasons))
        return self._daemon

    async def query(self, look: Callable[[StoreAdmin], T]) -> T:
        """Look something up in the database, or change it. Raises Problem and StoreError."""
        admin = self.daemon.admin
        return await run_sync(lambda: look(admin), limiter=self._disk)


CONCURRENT_QUERIES: Final = 2
CONTEXT: Final = web.AppKey("CONTEXT", ApiContext)
