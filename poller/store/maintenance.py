"""Maintenance of the store while the daemon runs: backlog reports, retention, replacement."""

import math
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Final

import anyio
import structlog

from poller.core.errors import StoreUnavailable
from poller.core.formatting import fix_receiver
from poller.core.outbox import DAY, Pruned, SinkBacklog, WriteBatch
from poller.runtime.clock import Clock
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.store import Store

FIRST_SWEEP_DELAY: Final = 30.0
"""Seconds until the jobs file has been read: the rows of watched jobs must not be deleted."""
SWEEP_INTERVAL: Final = 3_600.0
MIN_SWEEP_DISTANCE: Final = 3_500.0
"""Seconds since the last sweep by the wall clock: the interval, less what NTP may correct."""
SWEPT_AT_FLAG: Final = "swept_at"
"""The flag that has the time of the last sweep, in seconds since 1970."""
REPLACEMENT_CHECK_INTERVAL: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Deletes rows past their retention.

    A row is deleted when it is too old by both clocks: either may have started wrong. Another clock
    may confirm the steady one: `is_clock_right`. The rows of jobs that are `watched` are kept.
    """

    store: Store
    clock: Clock
    watched: Callable[[], Collection[str]]
    is_clock_right: Callable[[], bool]
    _lock: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def sweep(self) -> None:
        """Delete them if the last sweep was an hour ago."""
        async with self._lock:
            if await self._is_due(self.clock.wall()):
                await self.store.prune(min(self.clock.steady(), self.clock.wall()), self.watched())
                await _mark_sweep(self.store, self.clock.wall())

    async def _is_due(self, now: float) -> bool:
        """Return whether the last sweep was an hour ago.

        If it was more than a day ago, the daemon was off or the clock was set. Unless the clock is
        confirmed, the time of the sweep becomes now then, and the clock must stay right for an hour
        before anything is deleted: a daemon that never runs for so long would delete nothing.
        """
        swept_at = _parse_seconds((await self.store.get_flags()).get(SWEPT_AT_FLAG, ""))
        if abs(now - swept_at) <= DAY:
            return now - swept_at >= MIN_SWEEP_DISTANCE
        if self.is_clock_right():
            return True
        await _mark_sweep(self.store, now)
        return False


async def run_retention(sweeper: Sweeper, on_pruned: Callable[[], Awaitable[None]]) -> None:
    """Log the backlogs, and delete rows past their retention, every hour."""
    throttle = LogThrottle(sweeper.clock.steady)

    async def sweep() -> None:
        for backlog in await sweeper.store.backlogs():
            log_backlog(backlog)
        await sweeper.sweep()
        await on_pruned()

    await anyio.sleep(FIRST_SWEEP_DELAY)
    while True:
        await until_available(
            sweep,
            on_error=lambda error: log_store_error(throttle, error),
            interval=SWEEP_INTERVAL,
        )
        await anyio.sleep(SWEEP_INTERVAL)


def _parse_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -math.inf


async def _mark_sweep(store: Store, now: float) -> None:
    await store.write(WriteBatch(flags={SWEPT_AT_FLAG: f"{now:.0f}"}))


async def watch_for_replacement(store: Store, resync: Callable[[], Awaitable[None]]) -> None:
    """Call `resync` whenever a damaged database was replaced by a new one, which is empty.

    The store checks its files at each call, and this makes one even while nothing else happens.
    """
    database_id = store.database_id
    while True:
        await anyio.sleep(REPLACEMENT_CHECK_INTERVAL)
        with suppress(StoreUnavailable):
            await store.get_flags()
        if store.database_id != database_id:
            database_id = store.database_id
            await resync()


def log_pruned(pruned: Pruned) -> None:
    """Log how many rows were deleted, by kind; dead letters are a loss, and a warning."""
    counts = {name: count for name, count in asdict(pruned).items() if count}
    if pruned.dead_letters or pruned.unconfigured:
        log.warning("store.pruned", **counts)
    elif counts:
        log.info("store.pruned", **counts)


def log_backlog(backlog: SinkBacklog) -> None:
    """Log the backlog of a sink, unless it is empty."""
    if not backlog.is_configured and backlog.pending:
        log.warning("sink.unconfigured", sink=backlog.name, pending=backlog.pending)
    elif backlog.is_disabled:
        advice = fix_receiver(f"sinks enable {backlog.name}")
        log.warning("sink.disabled", sink=backlog.name, dead=backlog.dead, advice=advice)
    elif backlog.pending or backlog.dead:
        log.info("sink.backlog", sink=backlog.name, pending=backlog.pending, dead=backlog.dead)
