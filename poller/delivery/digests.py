"""The digests of one sink: when they are gathered, and made of events."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from poller.core.events import Event, EventOrigin, digest_event
from poller.runtime.clock import Clock
from poller.store import Store


@dataclass(slots=True, kw_only=True)
class Digests:
    """Gather the digests of a sink, if it gets any."""

    sink: str
    store: Store
    origin: EventOrigin
    clock: Clock
    _is_early: bool = field(default=False, init=False)

    async def gather(self) -> None:
        """Record a digest if one is due. Raises StoreUnavailable."""
        if self.sink in self.store.digest_sinks:
            early, self._is_early = self._is_early, False
            await self.store.gather_digest(self.sink, self._make, early=early)

    def expedite(self) -> None:
        """Gather what is there the next time, as if it were due."""
        self._is_early = True

    def _make(self, events: Sequence[Event]) -> Event:
        return digest_event(events, self.origin, self.clock.now(), sink=self.sink)
