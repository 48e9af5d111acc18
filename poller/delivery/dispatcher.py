"""The dispatcher: one worker per sink sends what is due, and outcomes are written in groups.

Every delivery has one owner: the worker that claimed it. A delivery whose outcome was not written,
after a crash for example, stays pending in the store and is sent again under the same event id.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import anyio
import structlog

from poller.core.counters import Counters
from poller.core.errors import StoreUnavailable
from poller.core.events import DaemonEventType, Event, EventOrigin, daemon_event
from poller.core.formatting import fix_receiver
from poller.core.outbox import Delivery, Outcome
from poller.core.pacing import Random
from poller.core.retry import RETRY_DELAYS
from poller.delivery.digests import Digests
from poller.delivery.worker import SinkWorker
from poller.runtime.clock import Clock
from poller.runtime.liveness import HEARTBEAT_INTERVAL, HeartbeatRegistry
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.redaction import Secrets
from poller.runtime.retrying import log_store_error, until_available
from poller.runtime.wakeup import Wakeup
from poller.sinks import Sink
from poller.store import Store

GROUP_OUTCOMES: Final = 64
"""Outcomes that are written at once."""
GROUP_SECONDS: Final = 0.02
"""Seconds that an outcome waits for others to be written with."""
STORE_RETRY_INTERVAL: Final = 1.0
LAST_WRITE_TIMEOUT: Final = 1.0

log = structlog.get_logger()


class Dispatcher:
    """Run all workers. `close` ends `run` once the sends under way have ended.

    `woken` is notified whenever events were recorded.
    """

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        store: Store,
        *,
        origin: EventOrigin,
        clock: Clock,
        random: Random,
        secrets: Secrets,
        counters: Counters | None = None,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self.heartbeats = HeartbeatRegistry(clock.steady)
        self._heartbeat = self.heartbeats.add("outcomes")
        self.sinks = sinks
        self._store, self._origin, self._clock = store, origin, clock
        self._throttle = LogThrottle(clock.steady)
        self._outcomes: list[tuple[SinkWorker, Delivery, Outcome]] = []
        self.woken, self._group_begun, self._group_full = Wakeup(), Wakeup(), Wakeup()
        self._counters = counters = counters or Counters()
        self._times_disabled: dict[str, int] = {}
        counters.add_sinks(sinks)
        self._workers = {
            name: SinkWorker(
                name=name,
                sink=sink,
                store=store,
                clock=clock,
                random=random,
                secrets=secrets,
                counters=counters,
                heartbeat=self.heartbeats.add(f"sink {name}"),
                digests=Digests(sink=name, store=store, origin=origin, clock=clock),
                acknowledge=self._acknowledge,
                disable_sink=self._disable_sink,
                retry_delays=retry_delays,
            )
            for name, sink in sinks.items()
        }

    async def run(self) -> None:
        """Send what is due until `close`."""
        try:
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._write_groups, name="outcomes")
                async with anyio.create_task_group() as workers:
                    for worker in self._workers.values():
                        workers.start_soon(worker.run, name=f"sink {worker.name}")
                writing.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(LAST_WRITE_TIMEOUT, shield=True):
                try:
                    await self._settle()
                except StoreUnavailable as error:
                    self._log_store_error(error)

    def wake(self) -> None:
        """Read the store again: something may be due."""
        for worker in self._workers.values():
            worker.wake()
        self.woken.notify()

    def send_digests(self) -> None:
        """Send the digests of what waits for them now."""
        for worker in self._workers.values():
            worker.digests.expedite()
            worker.wake()

    def close(self) -> None:
        """Begin no further sends."""
        for worker in self._workers.values():
            worker.close()

    def _acknowledge(self, worker: SinkWorker, delivery: Delivery, outcome: Outcome) -> None:
        self._outcomes.append((worker, delivery, outcome))
        self._group_begun.notify()
        if len(self._outcomes) >= GROUP_OUTCOMES:
            self._group_full.notify()

    async def _write_groups(self) -> None:
        """Write in one transaction all outcomes that come within 20 ms, or 64 of them."""
        while True:
            self._heartbeat.beat()
            if not self._outcomes:
                await self._group_begun.wait(HEARTBEAT_INTERVAL)
                continue
            if len(self._outcomes) < GROUP_OUTCOMES:
                await self._group_full.wait(GROUP_SECONDS)
            await self._write_group()

    async def _write_group(self) -> None:
        """Write the outcomes at hand. They are kept until then: the sends have happened."""
        await until_available(
            self._settle,
            on_error=self._log_store_error,
            interval=STORE_RETRY_INTERVAL,
            beat=self._heartbeat.beat,
        )

    async def _settle(self) -> None:
        group = self._outcomes[:]
        if group:
            await self._store.settle([outcome for _, _, outcome in group])
        del self._outcomes[: len(group)]
        for worker, delivery, _ in group:
            worker.release(delivery)

    async def _disable_sink(self, sink: str, reason: str) -> None:
        """Disable a sink for good, and report that to the other sinks."""
        advice = fix_receiver(f"sinks enable {sink}")
        log.error("sink.disabled", sink=sink, error=reason, advice=advice)
        await until_available(
            partial(self._record_disabled, sink, reason),
            on_error=self._log_store_error,
            interval=STORE_RETRY_INTERVAL,
            beat=self._workers[sink].heartbeat.beat,
        )
        self.wake()

    def _log_store_error(self, error: StoreUnavailable) -> None:
        log_store_error(self._throttle, error, outcomes=len(self._outcomes))

    async def _record_disabled(self, sink: str, reason: str) -> None:
        def announce(occurrence: int) -> Event:
            return daemon_event(
                DaemonEventType.SINK_DISABLED,
                self._origin,
                self._clock.now(),
                instance=f"{self._store.database_id} {sink}",  # each sink is counted by itself
                occurrence=occurrence,
                detail={"sink": sink, "reason": reason},
            )

        occurrence = await self._store.disable_sink(sink, reason, announce)
        if self._times_disabled.get(sink) != occurrence:  # several sends may get the same 410
            self._times_disabled[sink] = occurrence
            self._counters.events[DaemonEventType.SINK_DISABLED] += 1
