"""One worker per sink: which delivery is sent next, how many at once, and each one's outcome.

A worker claims the subject (the job) of a delivery from the moment it is read until its outcome
is written, so that the events of one job reach one sink in order, one after the other.
"""

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import anyio
import structlog

from poller.core.circuit_breaker import CircuitBreaker
from poller.core.counters import Counters
from poller.core.errors import DeliveryError, StoreUnavailable
from poller.core.outbox import Delivery, DeliveryStatus, Outcome
from poller.core.pacing import Random
from poller.core.retry import (
    MAX_DELIVERY_AGE,
    MAX_REJECTIONS,
    RETRY_DELAYS,
    retry_delay,
)
from poller.delivery.attempt import HANG_REASON, attempt
from poller.delivery.digests import Digests
from poller.delivery.failures import dead_letter, log_expired, log_retry
from poller.runtime.clock import Clock
from poller.runtime.liveness import HEARTBEAT_INTERVAL, Heartbeat
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.redaction import Secrets
from poller.runtime.retrying import log_store_error
from poller.runtime.wakeup import Wakeup
from poller.sinks import MAX_CONCURRENCY, Sink
from poller.store import Store

PREFETCHED_DELIVERIES: Final = 64
STORE_POLL_INTERVAL: Final = 5.0
"""Seconds after which a worker reads the store without a wake-up: other processes write to it."""

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True, eq=False)
class SinkWorker:
    """Send the deliveries of one sink.

    `acknowledge` accepts an outcome, to be written soon after; `disable_sink` is awaited when the
    receiver is gone for good.
    """

    name: str
    sink: Sink
    store: Store
    clock: Clock
    random: Random
    secrets: Secrets
    counters: Counters
    heartbeat: Heartbeat
    digests: Digests
    acknowledge: Callable[["SinkWorker", Delivery, Outcome], None]
    disable_sink: Callable[[str, str], Awaitable[None]]
    retry_delays: Sequence[float] = RETRY_DELAYS
    _concurrency: int = field(init=False)
    _breaker: CircuitBreaker = field(init=False)
    _is_back: bool = field(default=False, init=False)
    _may_expire: bool = field(default=False, init=False)
    _ready: deque[Delivery] = field(default_factory=deque, init=False)
    _claimed: set[str] = field(default_factory=set, init=False)
    _sending: int = field(default=0, init=False)
    _hung: set[int] = field(default_factory=set, init=False)
    _retries: list[float] = field(default_factory=list, init=False)
    _throttle: LogThrottle = field(init=False)
    _log: structlog.typing.FilteringBoundLogger = field(init=False)
    _next_lock: anyio.Lock = field(init=False)
    _changed: Wakeup = field(default_factory=Wakeup, init=False)
    _is_closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Start at full width, with nothing read."""
        self._concurrency = getattr(self.sink, "concurrency", MAX_CONCURRENCY)
        self._breaker = CircuitBreaker(self._concurrency)
        self._throttle = LogThrottle(self.clock.steady)
        self._log = log.bind(sink=self.name)
        self._next_lock = anyio.Lock(fast_acquire=True)

    async def run(self) -> None:
        """Send until `close`, then return when the sends under way have ended."""
        await self._judge_past()
        self.counters.open_circuits[self.name] = self._breaker.is_open
        async with anyio.create_task_group() as senders:
            for number in range(self._concurrency):
                senders.start_soon(self._send_loop, name=f"send {self.name} {number}")

    def wake(self) -> None:
        """Read the store again."""
        self._changed.notify()

    def close(self) -> None:
        """Begin no further sends."""
        self._is_closed = True
        self.wake()

    def release(self, delivery: Delivery) -> None:
        """Release the claim on a delivery's subject: the outcome is written."""
        self._claimed.discard(delivery.event.subject)
        self._may_expire = self._breaker.is_failing
        self.wake()

    async def _judge_past(self) -> None:
        """Probe first if the sink failed in an earlier process, or if deliveries were deferred.

        Their retries may be hours away: a probe finds out soon whether the outage is over.
        """
        self.heartbeat.beat()
        now = self.clock.steady()
        try:
            backlogs = {backlog.name: backlog for backlog in await self.store.backlogs()}
        except StoreUnavailable:
            self._breaker.half_open(now, was_failing=True)
            return
        backlog = backlogs.get(self.name)
        was_failing = backlog is not None and backlog.failing_since is not None
        if was_failing or (backlog and (backlog.last_due or 0.0) > now):
            self._breaker.half_open(now, was_failing=was_failing)

    async def _send_loop(self) -> None:
        while (delivery := await self._next_delivery()) is not None:
            outcome = await self._attempt(delivery)
            self.counters.open_circuits[self.name] = self._breaker.is_open
            self._sending -= 1
            self.acknowledge(self, delivery, outcome)
            self.wake()

    async def _next_delivery(self) -> Delivery | None:
        """Wait for a delivery that may be sent; return None once closed. One sender waits here."""
        async with self._next_lock:
            while not self._is_closed:
                self.heartbeat.beat()
                seen = self._changed.count
                if self._may_expire:
                    await self._expire(beat=self.heartbeat.beat)
                if not self._ready and self._delay() <= 0.0:
                    await self._prefetch()
                delay = self._delay()  # an attempt may have failed while the store was read
                if self._ready and delay <= 0.0 and not self._is_closed:
                    self._sending += 1
                    self.heartbeat.pause()  # until the next sender waits here, if any is free
                    return self._ready.popleft()
                if 0.0 < delay < math.inf:
                    self._release_prefetched()
                wait = min(delay or self._until_due(), HEARTBEAT_INTERVAL)
                await self._changed.wait(wait, since=seen)
        return None

    def _delay(self) -> float:
        """Return the seconds until a delivery may be sent. One that hangs holds up no probe."""
        return self._breaker.delay(self.clock.steady(), self._sending - len(self._hung))

    async def _prefetch(self) -> None:
        try:
            await self.digests.gather()
            if self._is_back:
                self._is_back = await self.store.expedite(self.name, self.clock.steady())
            self._ready.extend(await self._read())
        except StoreUnavailable as error:
            log_store_error(self._throttle, error, sink=self.name)

    async def _expire(self, *, beat: Callable[[], None]) -> None:
        """Make dead letters, in portions, of what is older than the sink may fail."""
        self._may_expire, total = False, 0
        try:
            while portion := await self.store.dead_letter_expired(self.name):
                beat()
                total += portion
                if self._is_closed:
                    break
        except StoreUnavailable as error:
            log_store_error(self._throttle, error, sink=self.name)
        finally:
            if total:
                log_expired(self._log, self.name, total)

    async def _read(self) -> list[Delivery]:
        """Read and claim what is due; for a probe, one delivery that may not be due yet."""
        is_probe = self._breaker.is_open
        deliveries = await self.store.due_deliveries(
            self.name,
            self.clock.steady(),
            limit=1 if is_probe else PREFETCHED_DELIVERIES,
            busy=self._claimed,
            early=is_probe,
        )
        self._claimed.update(delivery.event.subject for delivery in deliveries)
        return deliveries

    def _until_due(self) -> float:
        """Return the seconds until the next retry is due, at most STORE_POLL_INTERVAL."""
        now = self.clock.steady()
        while self._retries and self._retries[0] <= now:
            heapq.heappop(self._retries)
        next_retry = self._retries[0] if self._retries else math.inf
        return min(next_retry - now, STORE_POLL_INTERVAL)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        is_probe = self._breaker.is_open
        if not delivery.is_intact:
            return dead_letter(self._log, delivery, "its stored body is damaged")
        started_at = self.clock.steady()
        if not delivery.attempts and not delivery.is_replay:
            self.counters.record_first_attempt(self.name, delivery.event, started_at)
        on_hang = partial(self._record_hang, delivery)
        error = await attempt(self.sink, delivery, secrets=self.secrets, on_hang=on_hang)
        self._hung.discard(delivery.id)
        seconds = self.clock.steady() - started_at
        self.counters.record_attempt(self.name, error, seconds=seconds)
        if error:
            return await self._handle_failure(delivery, error, is_probe=is_probe)
        self._recover()
        self._breaker.forget(delivery.event.id)
        if delivery.attempts:
            self._log.info("delivery.succeeded", event_id=delivery.event.id)
        return Outcome(
            delivery_id=delivery.id, status=DeliveryStatus.DELIVERED, is_sink_fault=False
        )

    async def _record_hang(self, delivery: Delivery) -> None:
        """Record that the sink fails: its calls may all hang, so that none has an outcome."""
        self._hung.add(delivery.id)
        self.wake()
        try:
            await self.store.record_hang(self.name, HANG_REASON)
        except StoreUnavailable as error:
            log_store_error(self._throttle, error, sink=self.name)
        await self._expire(beat=lambda: None)  # perhaps no sender is left that beats again

    async def _handle_failure(
        self, delivery: Delivery, error: DeliveryError, *, is_probe: bool
    ) -> Outcome:
        if error.is_gone:
            self._release_prefetched()
            await self.disable_sink(self.name, error.reason)
            # That has made it dead. Should the sink be enabled before this is settled, it is sent.
            outcome = dead_letter(self._log, delivery, error.reason)
            return replace(outcome, status=DeliveryStatus.PENDING, due=self.clock.steady())
        now = self.clock.steady()
        is_sink_fault = self._judge_sink(delivery, error, now, is_probe=is_probe)
        failures = delivery.attempts + 1
        rejections = delivery.rejections + 1 if error.is_rejected else 0
        # Age proves nothing: the daemon may have been down, or its clock wrong.
        is_expired = delivery.failing_seconds >= MAX_DELIVERY_AGE
        if error.is_permanent or is_expired or rejections >= MAX_REJECTIONS:
            self._breaker.forget(delivery.event.id)
            return dead_letter(self._log, delivery, error.reason, is_sink_fault=is_sink_fault)
        limit = self._breaker.retry_limit(error, delivery.event.id)
        due = now + retry_delay(
            rejections or failures, error, self.random, self.retry_delays, limit=limit
        )
        heapq.heappush(self._retries, due)
        log_retry(self._log, delivery, error.reason, retry_in=due - now)
        return Outcome(
            delivery_id=delivery.id,
            status=DeliveryStatus.PENDING,
            due=due,
            reason=error.reason,
            is_sink_fault=is_sink_fault,
            rejections=rejections,
        )

    def _judge_sink(
        self, delivery: Delivery, error: DeliveryError, now: float, *, is_probe: bool
    ) -> bool | None:
        """Open or close the circuit breaker; return whether the sink is at fault, if that shows."""
        if self._breaker.is_sink_fault(error, delivery.event.id):
            if self._breaker.record_failure(now, error, is_probe=is_probe):
                self._log.warning("sink.unavailable", error=error.reason)
            return True
        if error.is_suspect:
            return None
        self._recover()
        return False

    def _recover(self) -> None:
        if self._breaker.record_success():
            self._is_back = True
            self._log.info("sink.recovered")

    def _release_prefetched(self) -> None:
        """Release deliveries that were read ahead, to be read again: they may have changed."""
        self._claimed.difference_update(delivery.event.subject for delivery in self._ready)
        self._ready.clear()
