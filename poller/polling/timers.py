"""The loops that decide about jobs because time has passed."""

from collections.abc import Callable

import anyio

from poller.polling.deadlines import Ingest, keep_deadlines
from poller.polling.overdue import OverdueWatch
from poller.polling.scheduler import PollScheduler
from poller.polling.tracker import JobTracker
from poller.runtime.liveness import HeartbeatRegistry


class Timers:
    """Ends the settling of jobs in time, and looks for overdue ones."""

    def __init__(
        self,
        tracker: JobTracker,
        scheduler: PollScheduler,
        clock_skew: Callable[[], float],
        heartbeats: HeartbeatRegistry,
    ) -> None:
        self._scheduler = scheduler
        self._deadlines = heartbeats.add("deadlines")
        self._overdue = OverdueWatch(
            tracker=tracker,
            scheduler=scheduler,
            clock_skew=clock_skew,
            heartbeat=heartbeats.add("overdue"),
        )

    async def run(self, ingest: Ingest) -> None:
        """Pass what time decides to `ingest`, until cancelled."""
        async with anyio.create_task_group() as loops:
            loops.start_soon(self._overdue.run, ingest, name="overdue")
            await keep_deadlines(self._scheduler, self._deadlines, ingest)
