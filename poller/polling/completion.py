"""When there is nothing more to do: every job has ended, and every event is out or given up.

A job that is missing counts as ended: that was told. A final cost that is still to come does not
hold up the end: its event has gone out, and says so.
"""

from typing import Final

import anyio

from poller.core.errors import StoreUnavailable
from poller.core.state import Phase
from poller.polling.tracker import Ledger
from poller.polling.watchlist import Watchlist
from poller.store import Store

LOOK_EVERY: Final = 1.0
OVER: Final = frozenset({Phase.DONE, Phase.MISSING})


async def until_done(watchlist: Watchlist, ledger: Ledger, store: Store) -> None:
    """Return once nothing is left to do; while no job is known at all there may be something."""
    while True:
        is_over = _have_ended(watchlist, ledger) and await _is_delivered(store)
        if is_over and _have_ended(watchlist, ledger):  # none was added meanwhile
            return
        await anyio.sleep(LOOK_EVERY)


def _have_ended(watchlist: Watchlist, ledger: Ledger) -> bool:
    job_ids = watchlist.job_ids
    is_known = bool(job_ids) and watchlist.is_read and ledger.is_recorded
    return is_known and all(it in ledger and ledger[it].phase in OVER for it in job_ids)


async def _is_delivered(store: Store) -> bool:
    try:
        sinks = await store.sinks()
    except StoreUnavailable:
        return False
    # What is parked for a sink that is not configured any more is sent by nobody.
    return not any(it.pending for it in sinks if it.is_configured)
