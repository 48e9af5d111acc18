"""The upkeep of the store while it is in use: what waits, what is past its time, what is lost."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import anyio
import structlog

from poller.core.errors import StoreUnavailable
from poller.core.outbox import SinkBacklog
from poller.runtime.clock import Clock
from poller.store import Store

FIRST_SWEEP_DELAY: Final = 30.0
"""Seconds in which the file of jobs is surely read: what is watched must not be forgotten."""
SWEEP_INTERVAL: Final = 3_600.0
REPLACEMENT_CHECK_INTERVAL: Final = 10.0

log = structlog.get_logger()


async def run_retention(
    store: Store,
    clock: Clock,
    watched: Callable[[], Collection[str]],
    pruned: Callable[[], Awaitable[None]],
) -> None:
    """Say what waits from before, and forget what is past its time, every hour."""
    await anyio.sleep(FIRST_SWEEP_DELAY)
    while True:
        try:
            for sink in await store.backlogs():
                log_backlog(sink)
            await store.prune(clock.steady(), watched())
            await pruned()
        except StoreUnavailable as error:
            log.error("store.unavailable", error=str(error))
        await anyio.sleep(SWEEP_INTERVAL)


async def watch_for_replacement(store: Store, start_over: Callable[[], Awaitable[None]]) -> None:
    """Begin again when a damaged database was replaced: what it knew has to be seen anew."""
    instance = store.database_id
    while True:
        await anyio.sleep(REPLACEMENT_CHECK_INTERVAL)
        if store.database_id != instance:
            instance = store.database_id
            await start_over()


def log_backlog(sink: SinkBacklog) -> None:
    """Log what a sink has not got, if there is anything."""
    if not sink.is_configured and sink.pending:
        log.warning("sink.unconfigured", sink=sink.name, pending=sink.pending)
    elif sink.is_disabled:
        advice = f"put its receiver right, then sutro-poller sinks enable {sink.name}"
        log.warning("sink.disabled", sink=sink.name, dead=sink.dead, advice=advice)
    elif sink.pending or sink.dead:
        log.info("sink.backlog", sink=sink.name, pending=sink.pending, dead=sink.dead)
