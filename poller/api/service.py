"""Where the daemon's door is, or would be: what serves is not imported where nothing is served."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poller.config import Config
from poller.core.counters import Counters
from poller.delivery.dispatcher import Dispatcher
from poller.polling.watcher import Watcher
from poller.polling.watchlist import PersistentAdditions, Watchlist
from poller.runtime.address import ListenAddress
from poller.runtime.clock import Clock
from poller.status import DaemonStatus
from poller.store import Store

if TYPE_CHECKING:
    from poller.api.context import ApiContext


@dataclass(slots=True, kw_only=True)
class ApiService:
    """The door of one daemon, if it has one."""

    config: Config
    clock: Clock
    counters: Counters
    status: DaemonStatus
    watchlist: Watchlist
    context: "ApiContext | None" = field(default=None, init=False)

    def open(self) -> AbstractAsyncContextManager[None]:
        """Give what serves while its block runs. Raises ConfigError where it cannot."""
        address = ListenAddress.parse(self.config.settings.listen)
        if address.is_off:
            return nullcontext()
        from poller.api.context import ApiContext  # noqa: PLC0415
        from poller.api.server import serve  # noqa: PLC0415

        self.context = ApiContext(
            address=address,
            config=self.config,
            clock=self.clock,
            counters=self.counters,
            status=self.status,
            watchlist=self.watchlist,
        )
        return serve(self.context)

    def attach(
        self,
        store: Store,
        additions: PersistentAdditions,
        watcher: Watcher,
        dispatcher: Dispatcher,
    ) -> None:
        """Lead to all that works."""
        if self.context:
            self.context.attach(store, additions, watcher, dispatcher)

    def detach(self) -> None:
        """Lead to it no more."""
        if self.context:
            self.context.detach()

    def waker(self, dispatcher: Dispatcher) -> Callable[[], None]:
        """Give what is called when events were recorded: those who listen hear of it too."""
        context = self.context
        if context is None:
            return dispatcher.wake

        def wake() -> None:
            dispatcher.wake()
            context.events_recorded.notify()

        return wake
