"""Thousands of ids that are named at one time, while the budget of requests binds."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import anyio

from poller.core.events import Event
from poller.core.pacing import PollPolicy
from poller.polling.watcher import Watcher
from tests.fault_injection.list_world import SLACK_SECONDS, ListWorld, observed_at
from tests.fault_injection.unreliable_list import RIGHT_ROW, Row

UNLISTED: Final = Row(unlisted=0.0)
KINDS: Final = ("unknown", "ended", "running")
LONG: Final = 1e6
"""Seconds that a job runs which does not end in time."""


class BurstWorld(ListWorld):
    """A daemon that gets `burst` new ids: they are unknown to the API, or have ended, or run.

    Both those jobs and the ones that were watched before have to be polled.
    """

    pauses = (1.0, 60.0)

    def __init__(self, random: Random, kind: str, *, burst: int) -> None:
        super().__init__(random)
        self.policy = PollPolicy(maximum=30.0)
        self.per_minute = 120.0
        self.kind = kind
        self.burst_ids = [f"burst-{number}" for number in range(burst)]
        self.burst_at = 0.0
        round_seconds = self._round_seconds(burst)
        self.run_seconds = [share * round_seconds for share in (0.1, 0.3, 0.6, 1.0, 2.0)]

    async def _submit_jobs(self, watcher: Watcher) -> None:
        await super()._submit_jobs(watcher)
        now = self.burst_at = anyio.current_time()
        for job_id in self.burst_ids:
            if self.kind == "ended":
                self._create(job_id, now - LONG, now - LONG / 2, UNLISTED)
            elif self.kind == "running":
                self._create(job_id, now, now + LONG, RIGHT_ROW)
        self.site.watched_ids.update(self.burst_ids)
        await super()._submit_jobs(watcher)

    def _submit(self) -> str:
        """Create a job; after the burst it may wait for its first poll behind all new ids."""
        job_id = super()._submit()
        if self.burst_at:
            self.watched_from[job_id] = max(self.watched_from[job_id], self._burst_due)
        return job_id

    def _due(self, job_id: str) -> float:
        """Return when an end has to be reported: polls of new ids that run may come before.

        No budget allows less where no page shows them. One of them becomes known with every second
        request, and each that is known is polled once between two polls of another job.
        """
        due = super()._due(job_id)
        if self.kind != "running" or self.has_pages:
            return due
        begin = max(self.site.api.timelines[job_id].ended, self.watched_from[job_id])
        known_seconds = max(begin - self.burst_at, 0.0)
        return due + min(known_seconds, self._round_seconds(len(self.burst_ids)))

    @property
    def _overdue_at(self) -> float:
        return max(super()._overdue_at, self._burst_due)

    @property
    def _burst_due(self) -> float:
        """When each new id has to have been polled: every second request is for one of them."""
        return self.burst_at + SLACK_SECONDS + 2 * self._round_seconds(len(self.burst_ids))

    def _other_violations(self, events: Mapping[str, Sequence[Event]]) -> list[str]:
        """Return how many new ids had no poll in time, and events of old jobs."""
        old = {job_id: of_job for job_id, of_job in events.items() if job_id.startswith("old-")}
        if self.kind == "unknown":
            polled = {job_id for at, job_id in self.site.api.requests if at <= self._burst_due}
        else:
            polled = {
                job_id
                for job_id, (first, *_) in events.items()
                if observed_at(first) <= self._burst_due
            }
        late = len(self.burst_ids) - len(polled.intersection(self.burst_ids))
        found = [f"{late} of {len(self.burst_ids)} new ids were polled too late"] if late else []
        return found + super()._other_violations(old)
