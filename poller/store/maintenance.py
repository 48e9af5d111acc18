"""The upkeep of the store while it is in use: what waits, what is past its time, what is lost."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import anyio
import structlog

from poller.core.errors import StoreUnavailable
from poller.core.outbox import SinkState
from poller.runtime.clock import Clock
from poller.store import Store

HOUSE_AFTER: Final = 30.0
"""Seconds in which the file of jobs is surely read: what is watched must not be forgotten."""
PRUNE_EVERY: Final = 3_600.0
STORE_LOOK: Final = 10.0

log = structlog.get_logger()


async def keep_house(
    store: Store,
    clock: Clock,
    watched: Callable[[], Collection[str]],
    pruned: Callable[[], Awaitable[None]],
) -> None:
    """Say what waits from before, and forget what is past its time, every hour."""
    await anyio.sleep(HOUSE_AFTER)
    while True:
        try:
            for sink in await store.sinks():
                tell_backlog(sink)
            await store.prune(clock.steady(), watched())
            await pruned()
        except StoreUnavailable as error:
            log.error("store.unavailable", error=str(error))
        await anyio.sleep(PRUNE_EVERY)


async def mind_store(store: Store, start_over: Callable[[], Awaitable[None]]) -> None:
    """Begin again when a damaged database was replaced: what it knew has to be seen anew."""
    instance = store.instance
    while True:
        await anyio.sleep(STORE_LOOK)
        if store.instance != instance:
            instance = store.instance
            await start_over()


def tell_backlog(sink: SinkState) -> None:
    """Log what a sink has not got, if there is anything."""
    if not sink.is_configured and sink.pending:
        log.warning("sink.parked", sink=sink.name, pending=sink.pending)
    elif sink.is_disabled:
        advice = f"put its receiver right, then sutro-poller sinks enable {sink.name}"
        log.warning("sink.disabled", sink=sink.name, dead=sink.dead, advice=advice)
    elif sink.pending or sink.dead:
        log.info("sink.backlog", sink=sink.name, pending=sink.pending, dead=sink.dead)
