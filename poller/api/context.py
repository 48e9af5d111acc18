"""The parts of the running daemon that a request may read or change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from secrets import token_bytes
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import anyio
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
from poller.store.admin import StoreAdmin

CONCURRENT_QUERIES: Final = 2
"""Queries that may run at once, so that they do not slow down the store, which writes."""

MAX_BUSY_REQUESTS: Final = 80
"""Requests that may be handled at once, besides probes, metrics and the version."""

P = ParamSpec("P")
T = TypeVar("T")


class RunningDaemon(NamedTuple):
    """The parts that exist only while the store is open and the loops run."""

    admin: StoreAdmin
    additions: PersistentAdditions
    watcher: Watcher
    dispatcher: Dispatcher


@dataclass(slots=True, kw_only=True)
class ApiContext:
    """The daemon as the API sees it.

    `limit_unread` closes connections whose clients leave too much unread. `session_key` is for the
    cookies of this process. `messages` are the results of actions, by a random name.
    """

    config: Config
    clock: Clock
    counters: Counters
    status: DaemonStatus
    watchlist: Watchlist
    limit_unread: Callable[[], None] = field(default=lambda: None, init=False)
    busy_connections: set[object] = field(default_factory=set, init=False)
    streams: int = field(default=0, init=False)
    session_key: bytes = field(default_factory=partial(token_bytes, 32), init=False, repr=False)
    messages: dict[str, str] = field(default_factory=dict, init=False)
    _daemon: RunningDaemon | None = field(default=None, init=False)
    _query_limiter: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(CONCURRENT_QUERIES), init=False
    )

    @property
    def address(self) -> ListenAddress:
        """The address of the HTTP API."""
        return self.config.settings.listen

    def attach(self, daemon: RunningDaemon) -> None:
        """Serve requests that need the store and the loops from now on."""
        self._daemon = daemon

    def detach(self) -> None:
        """Reject such requests from now on, and end the streams."""
        daemon, self._daemon = self._daemon, None
        if daemon:
            daemon.dispatcher.woken.notify()

    @contextmanager
    def busy(self, connection: object) -> Iterator[None]:
        """Keep a connection from being closed to make room. Raises Problem if too many are busy."""
        if len(self.busy_connections) >= MAX_BUSY_REQUESTS:
            detail = f"at most {MAX_BUSY_REQUESTS} requests are handled at once"
            raise Problem("overloaded", detail)
        self.busy_connections.add(connection)
        try:
            yield
        finally:
            self.busy_connections.discard(connection)

    @property
    def daemon(self) -> RunningDaemon:
        """The parts that run. Raises Problem while the daemon starts or stops."""
        if self._daemon is None:
            raise Problem("not-ready", "; ".join(self.status.health.reasons))
        return self._daemon

    async def query(
        self, run: Callable[Concatenate[StoreAdmin, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Read or change the database in a thread. Raises Problem and StoreError."""
        admin = self.daemon.admin
        async with self._query_limiter:
            self.limit_unread()
            call = partial(run, admin, *args, **kwargs)
            # The threads of the default limiter may all hang in other calls.
            return await run_sync(call, limiter=anyio.CapacityLimiter(1))
