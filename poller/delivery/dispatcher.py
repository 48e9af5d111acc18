"""Loop 2: one lane per sink sends what is due, and their outcomes are written in groups.

Every delivery has one owner: the lane that has claimed it. Whatever ends before its outcome is
written, a crash too, leaves it pending in the store, to be sent again under the same id.
"""

from collections.abc import Mapping
from typing import Final

import anyio
import structlog

from poller.core.counters import Counters
from poller.core.errors import StoreUnavailable
from poller.core.events import DaemonEventType, EventOrigin, daemon_event
from poller.core.outbox import Delivery, Outcome, WriteBatch
from poller.core.pacing import Random
from poller.delivery.worker import SinkWorker
from poller.runtime.clock import Clock
from poller.runtime.liveness import HEARTBEAT_INTERVAL, HeartbeatRegistry
from poller.runtime.log_throttle import LogThrottle
from poller.sinks import Sink
from poller.store import Store

GROUP_OUTCOMES: Final = 64
GROUP_SECONDS: Final = 0.02
STORE_RETRY: Final = 1.0
LAST_WRITE_SECONDS: Final = 1.0

log = structlog.get_logger()


class Dispatcher:
    """Run every lane. `close` ends `run` when what is under way has ended; a cancel ends it now."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        store: Store,
        *,
        origin: EventOrigin,
        clock: Clock,
        random: Random,
        counts: Counters | None = None,
    ) -> None:
        counts = counts or Counters()
        self.heartbeats = HeartbeatRegistry(clock.steady)
        self._heartbeat = self.heartbeats.add("outcomes")
        self.sinks = sinks
        self._store = store
        self._origin = origin
        self._clock = clock
        self._throttle = LogThrottle(clock.steady)
        self._group: list[tuple[SinkWorker, Delivery, Outcome]] = []
        self._begun = anyio.Event()
        self._full = anyio.Event()
        self._workers = {
            name: SinkWorker(
                name,
                sink,
                store,
                clock=clock,
                random=random,
                acknowledge=self._acknowledge,
                switch_off=self._disable_sink,
                counts=counts,
            )
            for name, sink in sinks.items()
        }
        for name, worker in self._workers.items():
            self.heartbeats.include(f"sink {name}", worker.heartbeat)

    async def run(self) -> None:
        """Send what is due until `close`."""
        try:
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._write_groups, name="outcomes")
                async with anyio.create_task_group() as workers:
                    for worker in self._workers.values():
                        workers.start_soon(worker.run, name=f"lane {worker.name}")
                writing.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(LAST_WRITE_SECONDS, shield=True):
                await self._write_group()

    def wake(self) -> None:
        """Say that the store may have something new to send."""
        for worker in self._workers.values():
            worker.wake()

    def close(self) -> None:
        """Begin no further sends."""
        for worker in self._workers.values():
            worker.close()

    def _acknowledge(self, worker: SinkWorker, delivery: Delivery, outcome: Outcome) -> None:
        self._group.append((worker, delivery, outcome))
        self._count_group()

    def _count_group(self) -> None:
        if self._group:
            self._begun.set()
        if len(self._group) >= GROUP_OUTCOMES:
            self._full.set()

    async def _write_groups(self) -> None:
        """Write outcomes in one transaction for all that come within 20 ms, or 64 of them."""
        while True:
            self._heartbeat.beat()
            with anyio.move_on_after(HEARTBEAT_INTERVAL):
                await self._begun.wait()
            if not self._group:
                continue
            with anyio.move_on_after(GROUP_SECONDS):
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
            self._log_store_error(error)
            return False
        del self._group[: len(group)]
        for worker, delivery, _ in group:
            worker.release(delivery)
        self._begun, self._full = anyio.Event(), anyio.Event()
        self._count_group()
        return True

    async def _disable_sink(self, sink: str, reason: str) -> None:
        """Disable a sink for good and tell the others."""
        advice = f"put its receiver right, then sutro-poller sinks enable {sink}"
        log.error("sink.disabled", sink=sink, error=reason, advice=advice)
        while True:
            self._workers[sink].heartbeat.beat()
            try:
                await self._record_disabled(sink, reason)
            except StoreUnavailable as error:
                self._log_store_error(error)
                await anyio.sleep(STORE_RETRY)
            else:
                break
        self.wake()

    def _log_store_error(self, error: StoreUnavailable) -> None:
        if occurrences := self._throttle.should_log(str(error)):
            log.error(
                "store.unavailable",
                outcomes=len(self._group),
                error=str(error),
                occurrences=occurrences,
            )

    async def _record_disabled(self, sink: str, reason: str) -> None:
        occurrence = await self._store.disable_sink(sink, reason)
        event = daemon_event(
            DaemonEventType.SINK_DISABLED,
            self._origin,
            self._clock.now(),
            instance=f"{self._store.database_id} {sink}",  # each sink has a count of its own
            occurrence=occurrence,
            detail={"sink": sink, "reason": reason},
        )
        await self._store.write(WriteBatch(events=[event]))
