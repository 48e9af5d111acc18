"""Loads how long the jobs took that ended before this process was started."""

from functools import partial

from poller.core.duration_history import DurationHistory
from poller.core.durations import PastJob
from poller.core.errors import StoreUnavailable
from poller.runtime.retrying import until_available
from poller.store import Store
from poller.store.past_jobs import EndCursor


async def load_history(history: DurationHistory, store: Store) -> None:
    """Add the newest ended jobs of a store to a history, which is complete after the last one.

    They are read in portions, and again while the store is unavailable, which others report.
    """
    older: list[PastJob] = []
    after: EndCursor | None = EndCursor()
    while after is not None:
        portion = await until_available(partial(store.past_jobs, after), on_error=_ignore)
        older += portion.jobs
        after = portion.after
    history.add_older(older)


def _ignore(_error: StoreUnavailable) -> None:
    """Leave the report to those that write."""
