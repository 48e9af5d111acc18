"""What the door leads to: the parts of the daemon that a request may speak of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import anyio
from aiohttp import web
from anyio.to_thread import run_sync

from poller.api.problems import Problem
from poller.config import Config
from poller.core.counters import Counts
from poller.delivery.dispatcher import Dispatcher
from poller.polling.watcher import Watcher
from poller.polling.watchlist import Additions, Watchlist
from poller.runtime.address import Address
from poller.runtime.clock import Clock
from poller.settings.daemon import MEMORY
from poller.status import Vitals
from poller.store.admin import Desk

T = TypeVar("T")


@dataclass(slots=True)
class Bell:
    """Take `next` before you look at what it announces, then wait for it."""

    next: anyio.Event = field(default_factory=anyio.Event)

    def ring(self) -> None:
        """Wake all who wait."""
        self.next.set()
        self.next = anyio.Event()


@dataclass(frozen=True, slots=True)
class Work:
    """What is there once the store is open and the loops run; a store in memory has no desk."""

    desk: Desk | None
    additions: Additions
    watcher: Watcher
    dispatcher: Dispatcher


@dataclass(slots=True, kw_only=True)
class Premises:
    """The daemon as the door sees it. Its `bell` rings when events were recorded."""

    address: Address
    config: Config
    counts: Counts
    vitals: Vitals
    watchlist: Watchlist
    clock: Clock
    closing: anyio.Event = field(default_factory=anyio.Event)
    bell: Bell = field(default_factory=Bell)
    busy: set[object] = field(default_factory=set)
    listeners: int = 0
    _work: Work | None = field(default=None, init=False)
    _disk: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        """Keep those who look things up from starving the store, which writes beside them."""
        self._disk = anyio.CapacityLimiter(LOOKS_AT_ONCE)

    def begin(self, additions: Additions, watcher: Watcher, dispatcher: Dispatcher) -> None:
        """Lead to all that works."""
        store = self.config.settings.store
        desk = None if store == MEMORY else Desk(Path(store))
        self._work = Work(desk, additions, watcher, dispatcher)

    def end(self) -> None:
        """Lead to it no more."""
        self._work = None
        self.closing.set()
        self.bell.ring()

    @property
    def work(self) -> Work:
        """All that works. Raises Problem while it does not."""
        if self._work is None:
            raise Problem("not-ready", "; ".join(self.vitals.health.reasons))
        return self._work

    def sources(self, job_id: str) -> list[str]:
        """Say why a job is watched; nothing when it is not. Raises Problem."""
        found = [DISCOVERY] if self.work.watcher.roster.has_found(job_id) else []
        return [*self.watchlist.sources(job_id), *found]

    async def look(self, look: Callable[[Desk], T]) -> T:
        """Look something up in the database, or change it. Raises Problem and StoreError."""
        desk = self.work.desk
        if desk is None:
            raise Problem("in-memory", "set POLLER_STORE to a path")
        return await run_sync(lambda: look(desk), limiter=self._disk)


DISCOVERY: Final = "discovery"
LOOKS_AT_ONCE: Final = 2
PREMISES: Final = web.AppKey("PREMISES", Premises)
