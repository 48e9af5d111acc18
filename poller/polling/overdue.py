"""Looks for jobs that have been queued, or have run, for too long. It sends no request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import anyio

from poller.core.overdue_rule import OverdueRule
from poller.polling.deadlines import Ingest
from poller.polling.scheduler import PollScheduler
from poller.polling.tracker import JobTracker
from poller.runtime.liveness import Heartbeat
from poller.sutro.port import Observation

CHECK_INTERVAL: Final = 15.0
"""Seconds between two checks of a job, or more where there are many."""
PORTION_JOBS: Final = 500
"""Jobs that are checked at once: a few milliseconds."""
PORTION_INTERVAL: Final = 1.0
"""Seconds between two portions: all jobs of a large account are checked within minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueWatch:
    """Checks all watched jobs, a portion at a time. `clock_skew` is the API's clock minus ours."""

    tracker: JobTracker
    scheduler: PollScheduler
    clock_skew: Callable[[], float]
    heartbeat: Heartbeat

    async def run(self, ingest: Ingest) -> None:
        """Pass each job that is overdue to `ingest`, again and again."""
        rule = OverdueRule(self.tracker.rules.overdue, self.tracker.history)
        while not rule.is_off:
            job_ids = iter([*self.tracker])
            while portion := [*islice(job_ids, PORTION_JOBS)]:
                self.heartbeat.beat()
                if found := self._overdue(rule, portion):
                    await ingest(found)
                await anyio.sleep(PORTION_INTERVAL)
            self.heartbeat.beat()
            await anyio.sleep(CHECK_INTERVAL)

    def _overdue(self, rule: OverdueRule, job_ids: Sequence[str]) -> list[Observation]:
        now, clock_skew = self.scheduler.now(), self.clock_skew()
        found = []
        for job_id in job_ids:
            if job_id in self.scheduler and job_id in self.tracker:
                state, seen_at = self.tracker[job_id], self.scheduler.last_seen_at(job_id)
                overdue = rule.check(state, now=now, seen_at=seen_at, clock_skew=clock_skew)
                if overdue:
                    found.append(Observation(job_id, now, overdue))
        return found
