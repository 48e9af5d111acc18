"""Wait until all jobs have ended, and their events are delivered or dead letters.

A job that is missing or unrecognised counts as ended: that was announced. An earlier process may
have polled another account, so this one polls the job once more. Fields that are still to come do
not hold up the end: the event of the job has been delivered, and says so.
"""

from typing import Final

import anyio

from poller.core.errors import StoreUnavailable
from poller.core.state import JobState, Phase
from poller.polling.tracker import JobTracker
from poller.polling.watchlist import Watchlist
from poller.store import Store

CHECK_INTERVAL: Final = 1.0


async def wait_until_complete(watchlist: Watchlist, tracker: JobTracker, store: Store) -> None:
    """Wait until nothing is left to do. While no job is named, there may be something."""
    while True:
        is_complete = _have_ended(watchlist, tracker) and await _is_delivered(store)
        if is_complete and _have_ended(watchlist, tracker):  # none was added meanwhile
            return
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
