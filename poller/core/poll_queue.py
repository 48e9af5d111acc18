"""When which poll is due, in seconds of one clock: a GET of one job, or a page that shows many."""

import math
from collections.abc import Collection, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from poller.core.pacing import PollPolicy
from poller.core.poll_order import PollOrder, Priority
from poller.core.poll_page import PollPage, WaitingJob


@dataclass(slots=True)
class PollQueue:
    """The jobs that wait for their next poll, each alone or with others on a page.

    A job is due after its own interval. The jobs that only a change matters of are polled together
    where a page shows them: the page is due when the sum of their weights, each times the square of
    the seconds since its last poll, reaches 1. That sum is the lag that may have piled up unseen,
    in units of what a request is worth. A page that shows nothing new changes three numbers, and
    no job. Of what is due, the request with the largest sum goes first.

    What is taken is away until it is put again, restored or released.
    """

    policy: PollPolicy = field(default_factory=PollPolicy)
    _jobs: dict[str, WaitingJob] = field(default_factory=dict)
    _taken: dict[str, WaitingJob] = field(default_factory=dict)
    _pages: dict[Hashable, PollPage] = field(default_factory=dict)
    _changed: dict[PollPage, None] = field(default_factory=dict)
    _order: PollOrder = field(default_factory=PollOrder)
    _lateness: dict[Priority, float] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        """Return whether a job waits: it was put, and is not taken."""
        return job_id in self._jobs

    @property
    def lateness_ratio(self) -> float:
        """How late the last poll was, in units of its interval; 1 is on time."""
        return max(self._lateness.values(), default=1.0)

    # Single jobs.

    def put(
        self,
        job_id: str,
        *,
        due: float,
        now: float,
        is_deferred: bool = False,
        is_single: bool = False,
        priority: Priority = Priority.USUAL,
        began_at: float | None = None,
        confirm_at: float = math.inf,
    ) -> None:
        """Schedule a job, in place of what was scheduled for it.

        `is_deferred`: a request for this job will probably fail, so it is a bad probe.
        `is_single`: only a request for this job alone serves.
        `began_at`: when its phase began, for a job of which only a change matters. Where a page
        shows it, it is in the sum of that page, and alone only at `confirm_at`.
        """
        page = old.page if (old := self._leave(job_id)) else None
        job = WaitingJob(due, now, is_deferred, is_single, priority, began_at, confirm_at, page)
        self._enter(job_id, job)

    def take(self, job_ids: Collection[str], page: Hashable = None) -> None:
        """Take jobs, and a page, away to poll them; what does not wait stays as it is."""
        for job_id in job_ids:
            self._order.take(job_id)
            self._take(job_id)
        if found := self._pages.get(page):
            (self._order.discard if job_ids else self._order.take)(found)
            found.taken = list(found.riders)
            for job_id in found.taken:
                self._take(job_id)

    def restore(self, job_ids: Iterable[str]) -> None:
        """Schedule taken jobs as they were before, except those that were put again or dropped."""
        for job_id in job_ids:
            if job := self._taken.pop(job_id, None):
                self._enter(job_id, job)

    def drop(self, job_id: str) -> None:
        """Forget a job, if it is there."""
        if job := self._leave(job_id):
            self._place(job, None)
        self._order.discard(job_id)

    def expedite(self, job_id: str, now: float) -> None:
        """Make a waiting job due now, unless it is already."""
        job = self._jobs.get(job_id)
        if job and self._order.due_at(job_id) > now:
            self._leave(job_id)
            job.due, job.began_at = now, None
            self._enter(job_id, job)

    def probe_job(self) -> str | None:
        """Return the best job for a probe, due or not: not a deferred one, if there is another.

        Of those the one that was not polled for longest, so that all have their turn.
        """

        def rank(job_id: str) -> tuple[bool, float]:
            return self._jobs[job_id].is_deferred, self.polled_at(job_id)

        return min(self._jobs, key=rank, default=None)

    def is_batchable(self, job_id: str) -> bool:
        """Return whether a job, waiting or taken, may be polled with others at all."""
        return (job := self._find(job_id)) is not None and not job.is_single

    def is_away(self, job_id: str) -> bool:
        """Return whether a job is away, not only its page."""
        return job_id in self._taken

    def is_waiting(self, job_id: str) -> bool:
        """Return whether a job waits, and may be polled with others."""
        return (job := self._jobs.get(job_id)) is not None and not job.is_single

    def polled_at(self, job_id: str) -> float:
        """Return when a job was last polled, alone or by its page; -inf if it is not here."""
        if (job := self._find(job_id)) is None:
            return -math.inf
        page = self._page_of(job_id)
        return max(job.polled_at, page.read_at) if page else job.polled_at

    # Pages.

    def show(
        self,
        page: Hashable,
        rows: Sequence[str],
        shown: Collection[str],
        *,
        requested_at: float,
        now: float,
    ) -> None:
        """Record that a page was read. It has these rows now, and the response has `shown` some."""
        found = self._pages.setdefault(page, PollPage(page))
        for job_id in rows:
            if (job := self._find(job_id)) and job.page is not found:
                self._move(job_id, job, found)
        if rows != found.rows:
            self._clear(found, set(found.rows).difference(rows))
            found.rows = rows
        self._prune(found)
        if found.members.keys() <= set(shown):
            found.requested_at = requested_at
            found.mark_read(self.policy, now)
        self._changed[found] = None

    def release(self, page: Hashable) -> None:
        """Schedule a taken page again, and those of its jobs that were not put again."""
        if (found := self._pages.get(page)) and found.taken is not None:
            taken, found.taken = found.taken, None
            self.restore(taken)
            self._changed[found] = None

    def dissolve(self, page: Hashable) -> None:
        """Schedule the jobs of a page alone: it cannot be read any more."""
        if found := self._pages.pop(page, None):
            self.restore(found.taken or ())
            self._clear(found, found.rows)
            self._changed.pop(found, None)
            self._order.discard(found)

    def is_in_sum(self, job_id: str) -> bool:
        """Return whether a job is polled by a page, and alone only to confirm that."""
        return self._page_of(job_id) is not None

    def members(self, page: Hashable) -> Container[str]:
        """Return the jobs in the sum of a page."""
        return found.members if (found := self._pages.get(page)) else ()

    def jobs_on(self, page: Hashable) -> list[str]:
        """Return the jobs that are polled by a page."""
        found = self._pages.get(page) or PollPage(page)
        return [*found.members, *found.riders, *(found.taken or ())]

    def requested_at(self, job_id: str) -> float:
        """Return when the page was last requested that has shown a job as it is known, or -inf."""
        return page.requested_at if (page := self._page_of(job_id)) else -math.inf

    # What is due.

    def next_due(self) -> float | None:
        """Return when the next poll is due, or was; None for an empty queue."""
        self._schedule_pages()
        return self._order.next_due()

    def due(self, now: float) -> Hashable | None:
        """Return what to poll now: a page, or the id of a job; None when nothing is due."""
        self._schedule_pages()
        key = self._order.first(now, lambda key: self._score(key, now))
        if not self._order.is_due(Priority.FIRST):
            self._lateness.pop(Priority.FIRST, None)
        if key is not None:
            self._measure_lateness(key, now)
        return key.key if isinstance(key, PollPage) else key

    def _score(self, key: Hashable, now: float) -> float:
        if isinstance(key, PollPage):
            return key.sum(now)
        job = self._jobs[str(key)]
        if job.began_at is None:
            return job.overdue(now) ** 2
        if job.sum_page:
            return now - job.confirm_at
        return self.policy.weight(job.polled_at - job.began_at) * (now - job.polled_at) ** 2

    def _measure_lateness(self, key: Hashable, now: float) -> None:
        priority = self._order.priority(key)
        poll = key if isinstance(key, PollPage) else self._jobs[str(key)]
        if priority is Priority.FIRST and isinstance(poll, WaitingJob):
            self._lateness[priority] = 1.0 + (now - poll.due) / self.policy.interval(0.0)
        elif priority is Priority.USUAL:
            self._lateness[priority] = poll.overdue(now)

    def _schedule_pages(self) -> None:
        for page in self._changed:
            if page.members and page.taken is None:
                page.weigh(self.policy)
                self._order.set(page, page.due, Priority.USUAL)
            else:
                self._order.discard(page)
        self._changed.clear()

    # Where jobs are.

    def _find(self, job_id: str) -> WaitingJob | None:
        return self._jobs.get(job_id) or self._taken.get(job_id)

    def _page_of(self, job_id: str) -> PollPage | None:
        return job.sum_page if (job := self._jobs.get(job_id)) else None

    def _enter(self, job_id: str, job: WaitingJob) -> None:
        self._jobs[job_id] = job
        if page := job.sum_page:
            page.members[job_id] = job
            self._reweigh(page)
            self._order.set(job_id, job.confirm_at, Priority.CONFIRM)
            return
        self._order.set(job_id, job.due, job.priority)
        if job.page and not job.is_single:
            job.page.riders[job_id] = job

    def _leave(self, job_id: str) -> WaitingJob | None:
        job = self._jobs.pop(job_id, None) or self._taken.pop(job_id, None)
        if job and (page := job.page):
            page.riders.pop(job_id, None)
            if page.members.pop(job_id, None):
                job.polled_at = max(job.polled_at, page.read_at)
                self._reweigh(page)
        return job

    def _reweigh(self, page: PollPage) -> None:
        page.is_weighed = False
        self._changed[page] = None

    def _take(self, job_id: str) -> None:
        if job := self._jobs.get(job_id):
            self._leave(job_id)
            self._order.discard(job_id)
            self._taken[job_id] = job

    def _prune(self, page: PollPage) -> None:
        if not page.placed and page.taken is None and self._pages.get(page.key) is page:
            del self._pages[page.key]

    def _clear(self, page: PollPage, job_ids: Iterable[str]) -> None:
        """Place those of these jobs on no page that are on this one."""
        for job_id in job_ids:
            if (job := self._find(job_id)) and job.page is page:
                self._move(job_id, job, None)

    def _place(self, job: WaitingJob, page: PollPage | None) -> None:
        """Record which page shows a job."""
        old, job.page = job.page, page
        if page:
            page.placed += 1
        if old:
            old.placed -= 1
            self._prune(old)

    def _move(self, job_id: str, job: WaitingJob, page: PollPage | None) -> None:
        """Place a job on a page, or on none: then it is due after an interval of its own."""
        if job_id in self._taken:
            self._place(job, page)
            return
        began_at = job.began_at if job.sum_page else None
        self._leave(job_id)
        if began_at is not None:
            job.due = job.polled_at + self.policy.interval(job.polled_at - began_at)
        self._place(job, page)
        self._enter(job_id, job)
