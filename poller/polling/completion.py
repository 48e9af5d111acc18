"""When there is nothing more to do: every job has ended, and every event is out or given up.

A job that is missing counts as ended: that was told. A final cost that is still to come does not
hold up the end: its event has gone out, and says so.
"""

from typing import Final

import anyio

from poller.core.errors import StoreUnavailable
from poller.core.state import Phase
from poller.polling.tracker import JobTracker
from poller.polling.watchlist import Watchlist
from poller.store import Store

CHECK_INTERVAL: Final = 1.0
TERMINAL_PHASES: Final = frozenset({Phase.DONE, Phase.MISSING})


async def wait_until_complete(watchlist: Watchlist, tracker: JobTracker, store: Store) -> None:
    """Return once nothing is left to do; while no job is known at all there may be something."""
    while True:
        is_over = _have_ended(watchlist, tracker) and await _is_delivered(store)
        if is_over and _have_ended(watchlist, tracker):  # none was added meanwhile
            return
        await anyio.sleep(CHECK_INTERVAL)


def _have_ended(watchlist: Watchlist, tracker: JobTracker) -> bool:
    job_ids = watchlist.job_ids
    is_known = bool(job_ids) and watchlist.is_read and tracker.is_recorded
    return is_known and all(
        it in tracker and tracker[it].phase in TERMINAL_PHASES for it in job_ids
    )


async def _is_delivered(store: Store) -> bool:
    try:
        sinks = await store.backlogs()
    except StoreUnavailable:
        return False
    # What is parked for a sink that is not configured any more is sent by nobody.
    return not any(it.pending for it in sinks if it.is_configured)
