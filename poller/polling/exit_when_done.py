"""Stop once all jobs have ended, and their events are delivered or dead letters.

A job that is missing or unrecognised counts as ended: that was announced. An earlier process may
have polled another account, so this one polls the job once more. Fields that are still to come do
not hold up the end: the event of the job has been delivered, and says so.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
import structlog

from poller.core.errors import StoreUnavailable
from poller.core.state import JobState, Phase
from poller.polling.tracker import JobTracker
from poller.polling.watchlist import Watchlist
from poller.store import Store
from poller.store.maintenance import Sweeper

CHECK_INTERVAL: Final = 1.0

log = structlog.get_logger()


async def stop_when_done(
    watchlist: Watchlist,
    tracker: JobTracker,
    sweeper: Sweeper,
    send_digests: Callable[[], None],
    stop: Callable[[], None],
) -> None:
    """Call `stop` once nothing is left to do."""
    await wait_until_complete(watchlist, tracker, sweeper.store, send_digests)
    log.info("poller.completed", jobs=len(watchlist.job_ids))
    with suppress(StoreUnavailable):
        await sweeper.sweep()  # short runs would never delete anything
    stop()


async def wait_until_complete(
    watchlist: Watchlist, tracker: JobTracker, store: Store, send_digests: Callable[[], None]
) -> None:
    """Wait until nothing is left to do. While no job is named, there may be something.

    Once all jobs have ended, nothing more comes into a digest: `send_digests` is called then.
    """
    while True:
        if _have_ended(watchlist, tracker):
            is_delivered = await _is_delivered(store)
            if is_delivered and _have_ended(watchlist, tracker):  # none was added meanwhile
                return
            send_digests()
        await anyio.sleep(CHECK_INTERVAL)


def _have_ended(watchlist: Watchlist, tracker: JobTracker) -> bool:
    job_ids = watchlist.job_ids
    is_known = bool(job_ids) and watchlist.is_read and tracker.is_recorded
    return (
        is_known
        and tracker.unconfirmed.isdisjoint(job_ids)
        and all(job_id in tracker and _has_ended(tracker[job_id]) for job_id in job_ids)
    )


def _has_ended(state: JobState) -> bool:
    return state.phase is Phase.DONE or state.is_given_up


async def _is_delivered(store: Store) -> bool:
    try:
        sinks = await store.backlogs()
    except StoreUnavailable:
        return False
    # Nothing is delivered to a sink that is disabled, or not configured any more.
    return not any(sink.pending for sink in sinks if sink.is_configured and not sink.is_disabled)
