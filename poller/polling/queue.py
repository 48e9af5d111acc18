"""When each job is due: numbers and a heap, never a sleep.

Times are seconds of one monotonic clock, which the caller reads.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

DUE_SOON_SHARE: Final = 0.5
"""The share of its interval after which a job is polled if that costs no request."""


class Priority(Enum):
    """The priorities of jobs, highest first, by what their polls are for."""

    SETTLING = "the fields of an end that is to be announced in seconds"
    USUAL = "a change"
    LATE = "the fields of an end that was announced without them"


@dataclass(slots=True)
class _Entry:
    due: float
    last_poll_at: float
    is_deferred: bool
    is_single: bool
    priority: Priority

    def overdue(self, now: float) -> float:
        """Return the time since the last poll in units of the interval: 1 when due."""
        return (now - self.last_poll_at) / (self.due - self.last_poll_at or 1e-3)

    def is_due_soon(self, now: float) -> bool:
        """Return whether half of the interval has passed, and the job may be polled with others."""
        return not self.is_single and self.overdue(now) >= DUE_SOON_SHARE


@dataclass(slots=True)
class PollQueue:
    """The jobs that wait for their next poll.

    A job that is taken is away until it is put again, or restored.
    Of the jobs of one priority that are due, the one that is latest in units of its own interval
    goes first. When more jobs are due than requests are allowed, that stretches all intervals by
    one factor, which is the least total lag for the rate. Settling jobs and usual ones take turns,
    and late ones come when no other is due: none of them can hold up the ends of the others.
    """

    _entries: dict[str, _Entry] = field(default_factory=dict)
    _taken: dict[str, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, str]] = field(default_factory=list)
    _due: dict[Priority, dict[str, None]] = field(
        default_factory=lambda: {priority: {} for priority in Priority}
    )
    _ranked: dict[Priority, list[str]] = field(
        default_factory=lambda: {priority: [] for priority in Priority}
    )
    _last_priority: Priority = Priority.LATE
    lateness_ratio: float = 1.0
    """How late `due_job` found the last due job, in units of its interval; 1 is on time."""

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._entries)

    def __contains__(self, job_id: str) -> bool:
        """Return whether a job waits: it was put, and is not taken."""
        return job_id in self._entries

    def put(
        self,
        job_id: str,
        *,
        due: float,
        now: float,
        is_deferred: bool = False,
        is_single: bool = False,
        priority: Priority = Priority.USUAL,
    ) -> None:
        """Schedule a job, in place of what was scheduled for it.

        `is_deferred`: a request for this job will probably fail, so it is a bad probe.
        `is_single`: only a request for this job alone serves.
        """
        self.drop(job_id)
        self._enter(job_id, _Entry(due, now, is_deferred, is_single, priority))

    def take(self, job_ids: Iterable[str]) -> None:
        """Take jobs away to poll them; those that do not wait stay as they are."""
        for job_id in job_ids:
            if entry := self._entries.get(job_id):
                self.drop(job_id)
                self._taken[job_id] = entry
                self._last_priority = entry.priority
                ranked = self._ranked[entry.priority]
                if ranked and ranked[-1] == job_id:
                    ranked.pop()

    def restore(self, job_ids: Iterable[str]) -> None:
        """Schedule taken jobs as they were before, except those that were put again or dropped."""
        for job_id in job_ids:
            if entry := self._taken.pop(job_id, None):
                self._enter(job_id, entry)

    def drop(self, job_id: str) -> None:
        """Forget a job, if it is there."""
        self._taken.pop(job_id, None)
        if entry := self._entries.pop(job_id, None):
            self._due[entry.priority].pop(job_id, None)

    def next_due(self) -> float | None:
        """Return when the next job is due, or was; None for an empty queue."""
        for due in self._due.values():
            if due:
                return self._entries[next(iter(due))].due
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due_job(self, now: float) -> str | None:
        """Return the most overdue job of those whose turn it is, or None when none is due."""
        self._collect(now)
        priority = self._next_priority()
        if priority is None:
            return None
        due, ranked = self._due[priority], self._ranked[priority]
        while ranked and ranked[-1] not in due:
            ranked.pop()
        if not ranked:
            ranked = self._ranked[priority] = self._rank(due, now)
        job_id = ranked[-1]
        entry = self._entries[job_id]
        # A first poll has no interval that could be stretched.
        if priority is Priority.USUAL and entry.due > entry.last_poll_at:
            self.lateness_ratio = entry.overdue(now)
        return job_id

    def probe_job(self) -> str | None:
        """Return the best job for a probe, due or not: not a deferred one, if there is another.

        Of those the one that was not polled for longest, so that all have their turn.
        """
        entries = self._entries
        return min(
            entries,
            key=lambda job_id: (entries[job_id].is_deferred, entries[job_id].last_poll_at),
            default=None,
        )

    def is_due_soon(self, job_id: str, now: float) -> bool:
        """Return whether a job waits, and may be polled with others now."""
        entry = self._entries.get(job_id)
        return entry is not None and entry.is_due_soon(now)

    def is_batchable(self, job_id: str) -> bool:
        """Return whether a job, waiting or taken, may be polled with others at all."""
        entry = self._entries.get(job_id) or self._taken.get(job_id)
        return entry is not None and not entry.is_single

    def expedite(self, job_id: str, now: float) -> None:
        """Make a waiting job due now, unless it is already."""
        entry = self._entries.get(job_id)
        if entry and entry.due > now:
            self.drop(job_id)
            self._enter(job_id, replace(entry, due=now))

    def _enter(self, job_id: str, entry: _Entry) -> None:
        self._entries[job_id] = entry
        heapq.heappush(self._heap, (entry.due, job_id))

    def _collect(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, job_id = heapq.heappop(self._heap)
            if (entry := self._entries.get(job_id)) and entry.due == due:
                self._due[entry.priority][job_id] = None

    def _next_priority(self) -> Priority | None:
        priorities = [priority for priority in Priority if self._due[priority]]
        if (
            priorities[:2] == [Priority.SETTLING, Priority.USUAL]
            and self._last_priority is Priority.SETTLING
        ):
            return Priority.USUAL
        return priorities[0] if priorities else None

    def _rank(self, due: Iterable[str], now: float) -> list[str]:
        """Rank the most overdue sixteenth: to rank all for each request would be quadratic."""
        overdue = {job_id: self._entries[job_id].overdue(now) for job_id in due}
        most_overdue = heapq.nlargest(1 + len(overdue) // 16, overdue, key=overdue.__getitem__)
        return list(reversed(most_overdue))  # the next one is popped from the end

    def _drop_stale(self) -> None:
        """Drop from the heap's top what was taken or put again."""
        while self._heap:
            due, job_id = self._heap[0]
            entry = self._entries.get(job_id)
            if entry and entry.due == due:
                return
            heapq.heappop(self._heap)
