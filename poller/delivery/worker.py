"""The way to one sink: what may go, how many at once, and what becomes of each attempt.

A lane claims a delivery's subject (the job) from the moment that it is read until its outcome is
written, so that the events of one job reach one sink in order, one after the other.
"""

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog

from poller.core.counters import Counters
from poller.core.errors import DeliveryError, StoreUnavailable
from poller.core.outbox import Delivery, DeliveryStatus, Outcome
from poller.core.pacing import Random
from poller.core.retry import FAILURE_THRESHOLD, MAX_DELIVERY_AGE, CircuitBreaker, retry_delay
from poller.delivery.attempt import SEND_TIMEOUT
from poller.runtime.clock import Clock
from poller.runtime.liveness import HEARTBEAT_INTERVAL, STALL_TIMEOUT, Heartbeat
from poller.runtime.log_throttle import LogThrottle
from poller.sinks import Sink
from poller.store import Store

CONCURRENT_SENDS: Final = 16
PREFETCHED_DELIVERIES: Final = 64
STORE_POLL_INTERVAL: Final = 5.0
"""Seconds after which a lane looks into the store unasked: other processes write to it too."""

log = structlog.get_logger()


class SinkWorker:
    """Send the deliveries of one sink.

    `acknowledge` takes an outcome and has it written some time later; `switch_off` is called when
    the receiver wants nothing any more.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        store: Store,
        *,
        clock: Clock,
        random: Random,
        acknowledge: Callable[["SinkWorker", Delivery, Outcome], None],
        switch_off: Callable[[str, str], Awaitable[None]],
        counts: Counters,
    ) -> None:
        self.name = name
        self.heartbeat = Heartbeat(clock.steady)
        self._counters = counts
        self._sink = sink
        self._store = store
        self._now = clock.steady
        self._random = random
        self._acknowledge = acknowledge
        self._disable_sink = switch_off
        self._breaker = CircuitBreaker(CONCURRENT_SENDS)
        self._is_back = False
        self._ready: deque[Delivery] = deque()
        self._claimed: set[str] = set()
        self._sending = 0
        self._throttle = LogThrottle(self._now)
        self._retries: list[float] = []
        self._front = anyio.Lock(fast_acquire=True)
        self._changed = anyio.Event()
        self._is_closed = False

    async def run(self) -> None:
        """Send until `close`, then return when what is under way has ended."""
        if await self._is_put_off():
            self._breaker.half_open(self._now())
        async with anyio.create_task_group() as senders:
            for number in range(CONCURRENT_SENDS):
                senders.start_soon(self._send_loop, name=f"send {self.name} {number}")
        if not self._is_closed:  # better a crash that is seen than a lane that is silent for ever
            raise RuntimeError(f"the sink {self.name} cancelled its own lane")

    def wake(self) -> None:
        """Look into the store again."""
        self._changed.set()

    def close(self) -> None:
        """Begin no further sends."""
        self._is_closed = True
        self.wake()

    def release(self, delivery: Delivery) -> None:
        """Let the next event of the same subject go: this one's outcome is written."""
        self._claimed.discard(delivery.event.subject)
        self.wake()

    async def _is_put_off(self) -> bool:
        """Tell whether deliveries were put off before this process.

        That may have been in an outage, hours ago: only a probe tells soon that it is over.
        """
        self.heartbeat.beat()
        try:
            sinks = await self._store.backlogs()
        except StoreUnavailable:
            return True
        return any(it.name == self.name and (it.last_due or 0.0) > self._now() for it in sinks)

    async def _send_loop(self) -> None:
        while (delivery := await self._next_delivery()) is not None:
            outcome = await self._attempt(delivery)
            self._sending -= 1
            self._acknowledge(self, delivery, outcome)
            self.wake()

    async def _next_delivery(self) -> Delivery | None:
        """Wait for a delivery that may go; None once the lane is closed. One sender waits."""
        async with self._front:
            while not self._is_closed:
                self.heartbeat.beat()
                changed = self._changed = anyio.Event()
                if not self._ready and self._wait() <= 0.0:
                    await self._prefetch()
                wait = self._wait()  # anew: reading took time, in which an attempt may have failed
                if self._ready and wait <= 0.0 and not self._is_closed:
                    self._sending += 1
                    self.heartbeat.beat(
                        SEND_TIMEOUT + STALL_TIMEOUT
                    )  # until the next one waits here
                    return self._ready.popleft()
                if 0.0 < wait < math.inf:
                    self._release_prefetched()
                with anyio.move_on_after(min(wait or self._until_due(), HEARTBEAT_INTERVAL)):
                    await changed.wait()
        return None

    def _wait(self) -> float:
        return self._breaker.delay(self._now(), self._sending)

    async def _prefetch(self) -> None:
        try:
            if self._is_back:
                await self._store.expedite(self.name, self._now())
                self._is_back = False
            self._ready.extend(await self._read())
        except StoreUnavailable as error:
            if occurrences := self._throttle.should_log(str(error)):
                log.error(
                    "store.unavailable", sink=self.name, error=str(error), occurrences=occurrences
                )

    async def _read(self) -> list[Delivery]:
        """Read ahead and claim; for a probe, one delivery whose turn it is, due or not."""
        is_probe = self._breaker.is_open
        found = await self._store.due_deliveries(
            self.name,
            self._now(),
            limit=1 if is_probe else PREFETCHED_DELIVERIES,
            busy=self._claimed,
            early=is_probe,
        )
        self._claimed.update(delivery.event.subject for delivery in found)
        return found

    def _until_due(self) -> float:
        """Say when to look into the store: when a delivery falls due, or soon in any case."""
        now = self._now()
        while self._retries and self._retries[0] <= now:
            heapq.heappop(self._retries)
        return (
            min(self._retries[0] - now, STORE_POLL_INTERVAL)
            if self._retries
            else STORE_POLL_INTERVAL
        )

    async def _attempt(self, delivery: Delivery) -> Outcome:
        """Send once. Whatever the sink raises is its own affair and ends here."""
        is_probe = self._breaker.is_open
        if not delivery.is_intact:
            return self._dead_letter(delivery, "its stored body is damaged")
        try:
            with anyio.fail_after(SEND_TIMEOUT):
                await self._sink.send(delivery)
        except DeliveryError as error:
            return await self._handle_failure(delivery, error, is_probe=is_probe)
        except Exception as error:  # a plugin's bug must not stop the other lanes
            log.exception("sink.crashed", sink=self.name)
            reason = f"the sink raised {type(error).__name__}"
            return await self._handle_failure(delivery, DeliveryError(reason), is_probe=is_probe)
        self._counters.record_attempt(self.name, None)
        self._recover()
        if delivery.attempts:
            log.info("delivery.succeeded", sink=self.name, event_id=delivery.event.id)
        return Outcome(delivery_id=delivery.id, status=DeliveryStatus.DELIVERED)

    async def _handle_failure(
        self, delivery: Delivery, error: DeliveryError, *, is_probe: bool
    ) -> Outcome:
        self._counters.record_attempt(self.name, error)
        if error.is_gone:
            self._release_prefetched()
            await self._disable_sink(self.name, error.reason)
            return self._dead_letter(delivery, error.reason)
        now = self._now()
        if not error.is_sink_fault:
            self._recover()
        elif self._breaker.record_failure(now, error, is_probe=is_probe):
            log.warning("sink.unavailable", sink=self.name, error=error.reason)
        failures = delivery.attempts + 1
        # Its age alone proves little: the daemon may have been down, or its clock wrong.
        is_old = now - delivery.created_at >= MAX_DELIVERY_AGE and failures >= FAILURE_THRESHOLD
        if error.is_permanent or is_old:
            return self._dead_letter(delivery, error.reason)
        due = now + retry_delay(failures, error, self._random)
        heapq.heappush(self._retries, due)
        if failures & (failures - 1) == 0:
            wait = round(due - now, 1)
            self._log("delivery.failed", delivery, error.reason, attempt=failures, retry_in=wait)
        return Outcome(
            delivery_id=delivery.id, status=DeliveryStatus.PENDING, due=due, reason=error.reason
        )

    def _recover(self) -> None:
        if self._breaker.record_success():
            self._is_back = True
            log.info("sink.recovered", sink=self.name)

    def _release_prefetched(self) -> None:
        """Let what was read ahead be read again: nobody knows how it stands by then."""
        self._claimed.difference_update(delivery.event.subject for delivery in self._ready)
        self._ready.clear()

    def _dead_letter(self, delivery: Delivery, reason: str) -> Outcome:
        attempt, advice = delivery.attempts + 1, "sutro-poller dead ls, then replay or drop"
        self._log("delivery.dead_lettered", delivery, reason, attempt=attempt, advice=advice)
        return Outcome(delivery_id=delivery.id, status=DeliveryStatus.DEAD, reason=reason)

    def _log(self, name: str, delivery: Delivery, reason: str, **keys: float | str) -> None:
        log.warning(
            name,
            sink=self.name,
            event_id=delivery.event.id,
            event_type=delivery.event.type,
            subject=delivery.event.subject,
            error=reason,
            **keys,
        )
