"""When to look: numbers and a heap, never a sleep.

Times are seconds of one monotonic clock, which the caller reads.
"""

import heapq
from dataclasses import dataclass, field, replace

DUE_SOON_SHARE = 0.5
"""The share of its interval after which a job is looked at if that costs no request."""


@dataclass(slots=True)
class _Entry:
    due: float
    last_poll_at: float
    is_deferred: bool
    is_single: bool

    def overdue(self, now: float) -> float:
        """Time since the last look in units of the interval: 1 when due, more when late."""
        return (now - self.last_poll_at) / (self.due - self.last_poll_at or 1e-3)

    def is_due_soon(self, now: float) -> bool:
        """Whether half of the interval has passed, and a look may be shared with others."""
        return not self.is_single and self.overdue(now) >= DUE_SOON_SHARE


@dataclass(slots=True)
class PollQueue:
    """Who is due when. A job that was taken is away until it is put again, or put back.

    Of the jobs that are due, the one that is latest in units of its own interval goes first. When
    there are more of them than requests, that is one common stretch of all intervals, which is
    the least total lag for the rate.
    """

    _entries: dict[str, _Entry] = field(default_factory=dict)
    _taken: dict[str, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, str]] = field(default_factory=list)
    _due: dict[str, None] = field(default_factory=dict)
    _front: list[str] = field(default_factory=list)
    lateness_ratio: float = 1.0
    """How late the last due job was taken, in units of its interval; 1 is on time."""

    def __len__(self) -> int:
        """Count the jobs that are scheduled and not away."""
        return len(self._entries)

    def __contains__(self, job_id: str) -> bool:
        """Tell whether a job is scheduled and not away."""
        return job_id in self._entries

    def put(
        self,
        job_id: str,
        *,
        due: float,
        now: float,
        is_put_off: bool = False,
        is_single: bool = False,
    ) -> None:
        """Schedule a job, in place of what was scheduled for it.

        `is_put_off`: it will hardly answer, so it is no good for trying out whether the API does.
        `is_single`: only a look at this job alone serves.
        """
        self._taken.pop(job_id, None)
        self._due.pop(job_id, None)
        self._enter(job_id, _Entry(due, now, is_put_off, is_single))

    def restore(self, job_id: str) -> None:
        """Schedule a job that was taken as it was before, unless it was put anew or dropped."""
        if entry := self._taken.pop(job_id, None):
            self._enter(job_id, entry)

    def drop(self, job_id: str) -> None:
        """Forget a job, if it is there."""
        self._entries.pop(job_id, None)
        self._taken.pop(job_id, None)
        self._due.pop(job_id, None)

    def next_due(self) -> float | None:
        """Say when the next job falls due, or fell due; None when there is none."""
        if self._due:
            return self._entries[next(iter(self._due))].due
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> str | None:
        """Take the most overdue job away, or None when none is due."""
        self._collect(now)
        while self._front:
            job_id = self._front.pop()
            if job_id in self._due:
                return self._take(job_id, now)
        if not self._due:
            return None
        # Ranking all of a long queue for every request would be quadratic: rank a part at once.
        overdue = {it: self._entries[it].overdue(now) for it in self._due}
        rank = heapq.nlargest(1 + len(overdue) // 16, overdue, key=overdue.__getitem__)
        self._front = rank[:0:-1]
        return self._take(rank[0], now)

    def pop_probe(self) -> str | None:
        """Take the best job for a trial request, due or not: one that is not put off.

        Of those the one that was not looked at for longest, so that all have their turn.
        """
        if not self._entries:
            return None
        job_id = min(
            self._entries,
            key=lambda it: (self._entries[it].is_deferred, self._entries[it].last_poll_at),
        )
        return self._away(job_id)

    def is_due_soon(self, job_id: str, now: float) -> bool:
        """Tell whether a job may share a look that is made now."""
        entry = self._entries.get(job_id)
        return entry is not None and entry.is_due_soon(now)

    def is_batchable(self, job_id: str) -> bool:
        """Tell whether a job, taken or not, may share the look of another at all."""
        entry = self._entries.get(job_id) or self._taken.get(job_id)
        return entry is not None and not entry.is_single

    def pop_also(self, job_id: str) -> None:
        """Take a job away that shares the look of another."""
        if entry := self._entries.get(job_id):
            self.drop(job_id)
            self._taken[job_id] = entry

    def expedite(self, job_id: str, now: float) -> None:
        """Make a scheduled job due now, unless it is already."""
        entry = self._entries.get(job_id)
        if entry and entry.due > now:
            self.drop(job_id)
            self._enter(job_id, replace(entry, due=now))

    def _enter(self, job_id: str, entry: _Entry) -> None:
        self._entries[job_id] = entry
        heapq.heappush(self._heap, (entry.due, job_id))

    def _take(self, job_id: str, now: float) -> str:
        entry = self._entries[job_id]
        if entry.due > entry.last_poll_at:  # a first look has no interval that could be stretched
            self.lateness_ratio = entry.overdue(now)
        return self._away(job_id)

    def _away(self, job_id: str) -> str:
        self.pop_also(job_id)
        return job_id

    def _collect(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, job_id = heapq.heappop(self._heap)
            if (entry := self._entries.get(job_id)) and entry.due == due:
                self._due[job_id] = None

    def _drop_stale(self) -> None:
        """Drop from the top what was taken or put anew."""
        while self._heap:
            due, job_id = self._heap[0]
            entry = self._entries.get(job_id)
            if entry and entry.due == due:
                return
            heapq.heappop(self._heap)
