"""Loop 2: one lane per sink sends what is due, and their outcomes are written in groups.

Every delivery has one owner: the lane that has claimed it. Whatever ends before its outcome is
written, a crash too, leaves it pending in the store, to be sent again under the same id.
"""

from collections.abc import Mapping
from typing import Final

import anyio
import structlog

from poller.core.counters import Counts
from poller.core.errors import StoreUnavailable
from poller.core.events import Origin, PollerEvent, poller_event
from poller.core.outbox import Batch, Delivery, Outcome
from poller.core.pacing import Random
from poller.delivery.worker import Lane
from poller.runtime.clock import Clock
from poller.runtime.liveness import BEAT, Pulses
from poller.runtime.log_throttle import Repeats
from poller.sinks import Sink
from poller.store import Store

GROUP: Final = 64
GROUP_WAIT: Final = 0.02
STORE_RETRY: Final = 1.0
LAST_WRITE: Final = 1.0

log = structlog.get_logger()


class Dispatcher:
    """Run every lane. `close` ends `run` when what is under way has ended; a cancel ends it now."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        store: Store,
        *,
        origin: Origin,
        clock: Clock,
        random: Random,
        counts: Counts | None = None,
    ) -> None:
        counts = counts or Counts()
        self.pulses = Pulses(clock.steady)
        self._writing = self.pulses.add("outcomes")
        self.sinks = sinks
        self._store = store
        self._origin = origin
        self._clock = clock
        self._repeats = Repeats(clock.steady)
        self._group: list[tuple[Lane, Delivery, Outcome]] = []
        self._begun = anyio.Event()
        self._full = anyio.Event()
        self._lanes = {
            name: Lane(
                name,
                sink,
                store,
                clock=clock,
                random=random,
                acknowledge=self._acknowledge,
                switch_off=self._switch_off,
                counts=counts,
            )
            for name, sink in sinks.items()
        }
        for name, lane in self._lanes.items():
            self.pulses.include(f"sink {name}", lane.pulse)

    async def run(self) -> None:
        """Send what is due until `close`."""
        try:
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._write_groups, name="outcomes")
                async with anyio.create_task_group() as lanes:
                    for lane in self._lanes.values():
                        lanes.start_soon(lane.run, name=f"lane {lane.name}")
                writing.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(LAST_WRITE, shield=True):
                await self._write_group()

    def wake(self) -> None:
        """Say that the store may have something new to send."""
        for lane in self._lanes.values():
            lane.wake()

    def close(self) -> None:
        """Begin no further sends."""
        for lane in self._lanes.values():
            lane.close()

    def _acknowledge(self, lane: Lane, delivery: Delivery, outcome: Outcome) -> None:
        self._group.append((lane, delivery, outcome))
        self._count_group()

    def _count_group(self) -> None:
        if self._group:
            self._begun.set()
        if len(self._group) >= GROUP:
            self._full.set()

    async def _write_groups(self) -> None:
        """Write outcomes in one transaction for all that come within 20 ms, or 64 of them."""
        while True:
            self._writing.beat()
            with anyio.move_on_after(BEAT):
                await self._begun.wait()
            if not self._group:
                continue
            with anyio.move_on_after(GROUP_WAIT):
                await self._full.wait()
            if not await self._write_group():
                await anyio.sleep(STORE_RETRY)

    async def _write_group(self) -> bool:
        """Write the outcomes at hand. They are kept until that has worked: they have happened."""
        group = self._group[:]
        try:
            if group:
                await self._store.settle([outcome for _, _, outcome in group])
        except StoreUnavailable as error:
            self._tell(error)
            return False
        del self._group[: len(group)]
        for lane, delivery, _ in group:
            lane.release(delivery)
        self._begun, self._full = anyio.Event(), anyio.Event()
        self._count_group()
        return True

    async def _switch_off(self, sink: str, reason: str) -> None:
        """Disable a sink for good and tell the others."""
        advice = f"put its receiver right, then sutro-poller sinks enable {sink}"
        log.error("sink.disabled", sink=sink, error=reason, advice=advice)
        while True:
            self._lanes[sink].pulse.beat()
            try:
                await self._record_disabled(sink, reason)
            except StoreUnavailable as error:
                self._tell(error)
                await anyio.sleep(STORE_RETRY)
            else:
                break
        self.wake()

    def _tell(self, error: StoreUnavailable) -> None:
        if times := self._repeats.count(str(error)):
            log.error("store.unavailable", outcomes=len(self._group), error=str(error), times=times)

    async def _record_disabled(self, sink: str, reason: str) -> None:
        occurrence = await self._store.disable(sink, reason)
        event = poller_event(
            PollerEvent.SINK_DISABLED,
            self._origin,
            self._clock.now(),
            instance=f"{self._store.instance} {sink}",  # each sink has a count of its own
            occurrence=occurrence,
            detail={"sink": sink, "reason": reason},
        )
        await self._store.record(Batch(events=[event]))
