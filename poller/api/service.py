"""Where the daemon's door is, or would be: what serves is not imported where nothing is served."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poller.config import Config
from poller.core.counters import Counts
from poller.delivery.dispatcher import Dispatcher
from poller.polling.watcher import Watcher
from poller.polling.watchlist import Additions, Watchlist
from poller.runtime.address import Address
from poller.runtime.clock import Clock
from poller.status import Vitals

if TYPE_CHECKING:
    from poller.api.context import Premises


@dataclass(slots=True, kw_only=True)
class Doorway:
    """The door of one daemon, if it has one."""

    config: Config
    clock: Clock
    counts: Counts
    vitals: Vitals
    watchlist: Watchlist
    premises: "Premises | None" = field(default=None, init=False)

    def open(self) -> AbstractAsyncContextManager[None]:
        """Give what serves while its block runs. Raises ConfigError where it cannot."""
        address = Address.parse(self.config.settings.listen)
        if address.is_off:
            return nullcontext()
        from poller.api.context import Premises  # noqa: PLC0415
        from poller.api.server import door  # noqa: PLC0415

        self.premises = Premises(
            address=address,
            config=self.config,
            clock=self.clock,
            counts=self.counts,
            vitals=self.vitals,
            watchlist=self.watchlist,
        )
        return door(self.premises)

    def begin(self, additions: Additions, watcher: Watcher, dispatcher: Dispatcher) -> None:
        """Lead to all that works."""
        if self.premises:
            self.premises.begin(additions, watcher, dispatcher)

    def end(self) -> None:
        """Lead to it no more."""
        if self.premises:
            self.premises.end()

    def waker(self, dispatcher: Dispatcher) -> Callable[[], None]:
        """Give what is called when events were recorded: those who listen hear of it too."""
        premises = self.premises
        if premises is None:
            return dispatcher.wake

        def wake() -> None:
            dispatcher.wake()
            premises.bell.ring()

        return wake
