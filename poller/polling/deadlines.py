"""Decides about jobs when time alone has passed, whether or not the API responds."""

from collections.abc import Awaitable, Callable, Sequence

from poller.core.state import Signal
from poller.polling.scheduler import PollScheduler
from poller.runtime.liveness import Heartbeat
from poller.sutro.port import Observation

Ingest = Callable[[Sequence[Observation]], Awaitable[None]]


async def keep_deadlines(scheduler: PollScheduler, heartbeat: Heartbeat, ingest: Ingest) -> None:
    """End the settling of jobs in time."""
    while True:
        heartbeat.beat()
        if job_ids := await scheduler.wait_for_deadlines():
            now = scheduler.now()
            await ingest([Observation(job_id, now, Signal.TIMER) for job_id in job_ids])
