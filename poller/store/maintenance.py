"""Maintenance of the store while the daemon runs: backlog reports, retention, replacement."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import anyio
import structlog

from poller.core.outbox import SinkBacklog
from poller.runtime.clock import Clock
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.store import Store

FIRST_SWEEP_DELAY: Final = 30.0
"""Seconds until the jobs file has been read: the rows of watched jobs must not be deleted."""
SWEEP_INTERVAL: Final = 3_600.0
REPLACEMENT_CHECK_INTERVAL: Final = 10.0

log = structlog.get_logger()


async def run_retention(
    store: Store,
    clock: Clock,
    watched: Callable[[], Collection[str]],
    on_pruned: Callable[[], Awaitable[None]],
) -> None:
    """Log the backlogs, and delete rows past their retention, every hour."""
    throttle = LogThrottle(clock.steady)

    async def sweep() -> None:
        for backlog in await store.backlogs():
            log_backlog(backlog)
        await store.prune(clock.steady(), watched())
        await on_pruned()

    await anyio.sleep(FIRST_SWEEP_DELAY)
    while True:
        await until_available(
            sweep,
            on_error=lambda error: log_store_error(throttle, error),
            interval=SWEEP_INTERVAL,
        )
        await anyio.sleep(SWEEP_INTERVAL)


async def watch_for_replacement(store: Store, resync: Callable[[], Awaitable[None]]) -> None:
    """Call `resync` whenever a damaged database was replaced by a new one, which is empty."""
    database_id = store.database_id
    while True:
        await anyio.sleep(REPLACEMENT_CHECK_INTERVAL)
        if store.database_id != database_id:
            database_id = store.database_id
            await resync()


def log_backlog(backlog: SinkBacklog) -> None:
    """Log the backlog of a sink, unless it is empty."""
    if not backlog.is_configured and backlog.pending:
        log.warning("sink.unconfigured", sink=backlog.name, pending=backlog.pending)
    elif backlog.is_disabled:
        advice = f"fix its receiver, then run `sutro-poller sinks enable {backlog.name}`"
        log.warning("sink.disabled", sink=backlog.name, dead=backlog.dead, advice=advice)
    elif backlog.pending or backlog.dead:
        log.info("sink.backlog", sink=backlog.name, pending=backlog.pending, dead=backlog.dead)
