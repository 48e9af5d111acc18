"""When each watched job is polled next, and when its time to settle is over."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from poller.core.errors import PollError
from poller.core.jobs import Job
from poller.core.lifecycle import Effect
from poller.core.pacing import (
    POLL_RULES,
    NextPoll,
    PollPolicy,
    Random,
    confirmation_delay,
    is_failure,
    next_poll,
    poll_reason,
)
from poller.core.poll_queue import PollQueue
from poller.core.settling import settle_deadline
from poller.core.state import JobState, LifecyclePolicy, Phase
from poller.runtime.liveness import HEARTBEAT_INTERVAL
from poller.runtime.wakeup import Wakeup
from poller.sutro.page_view import PageView
from poller.sutro.port import Observation, PollRequest

DISTRUST_SECONDS: Final = 3_600.0
"""Seconds for which a job is polled alone once its row in the list was behind a GET twice."""

STALE_SECONDS: Final = 600.0
"""Seconds without a successful poll until a job is stale, or three of the longest intervals."""


@dataclass(slots=True)
class PollStatus:
    """How the polling of one job goes.

    `requested_at` is when the poll was begun that was applied last; `last_seen_at` that of the last
    one that showed the job, not at its end. `succeeded_at` is when a poll last succeeded, or when
    polling began. A page that shows the job as it is known changes none of these: `PollScheduler`
    has them with such pages. At `confirm_at` pages alone have shown the job for long. `is_doubted`:
    its row in the list is behind what is known, so only a GET of its own serves; after a row that
    `was_behind` before that GET too, that holds until `distrusted_until`.
    """

    succeeded_at: float
    confirm_at: float = math.inf
    requested_at: float = 0.0
    last_seen_at: float | None = None
    failures: int = 0
    is_deferred: bool = False
    is_doubted: bool = False
    was_behind: bool = False
    distrusted_until: float = -math.inf

    def is_alone(self, now: float) -> bool:
        """Return whether only a GET serves, since the row in the list is stale."""
        return self.is_doubted or now < self.distrusted_until


@dataclass(slots=True, kw_only=True)
class PollScheduler:
    """The jobs that are polled. Due jobs wake one waiter, deadlines another.

    Each job that is taken from `queue` has to be scheduled again, or restored; then call `wake`.
    """

    policy: PollPolicy
    rules: LifecyclePolicy
    now: Callable[[], float]
    random: Random
    queue: PollQueue = field(init=False)
    _statuses: dict[str, PollStatus] = field(default_factory=dict)
    _deadlines: dict[str, float] = field(default_factory=dict)
    _scheduled: Wakeup = field(default_factory=Wakeup)
    _deadline_set: Wakeup = field(default_factory=Wakeup)

    def __post_init__(self) -> None:
        """Begin without jobs."""
        self.queue = PollQueue(self.policy)

    def __getitem__(self, job_id: str) -> PollStatus:
        """Return how the polling of a job goes."""
        return self._statuses[job_id]

    def __contains__(self, job_id: str) -> bool:
        """Return whether a job is polled: it waits in the queue, or is taken from it."""
        return job_id in self._statuses

    def __len__(self) -> int:
        """Return how many jobs are polled."""
        return len(self._statuses)

    # Which jobs are polled.

    def add(self, state: JobState) -> None:
        """Schedule the first poll, unless there is to be none.

        The rate limiter spreads those that are all due now, also jobs that were missing: an earlier
        process may have polled another account. What an ended job lacks may have come while no
        process polled it.
        """
        if state.phase is Phase.DONE and not state.is_unfinished:
            return
        self._statuses[state.job_id] = PollStatus(self.now())
        self.set_deadline(state)
        # A job that was never seen may not exist: it is a bad probe of the key.
        self._put_off(state, 0.0, is_deferred=state.phase is Phase.NEW)
        self.wake()

    def renew(self, state: JobState) -> None:
        """Poll a job that is named again at once, unless it has ended."""
        if state.job_id not in self:
            self.add(state)
        self.queue.expedite(state.job_id, self.now())
        self.wake()

    def drop(self, job_id: str) -> None:
        """Poll a job no more, if it is there."""
        self._statuses.pop(job_id, None)
        self._deadlines.pop(job_id, None)
        self.queue.drop(job_id)

    def count_stale(self, states: Iterable[JobState]) -> int:
        """Return how many of these jobs run, and had no successful poll for long."""
        limit = self.now() - max(STALE_SECONDS, 3 * self.policy.maximum)
        return sum(
            state.phase in {Phase.NEW, Phase.ACTIVE} and self._succeeded_at(state.job_id) < limit
            for state in states
        )

    def _succeeded_at(self, job_id: str) -> float:
        return max(self._statuses[job_id].succeeded_at, self.queue.requested_at(job_id))

    def last_seen_at(self, job_id: str) -> float | None:
        """Return when the last poll was begun that showed a job, not at its end."""
        alone, shared = self._statuses[job_id].last_seen_at, self.queue.requested_at(job_id)
        return alone if shared == -math.inf else max(alone or shared, shared)

    # When to poll next.

    def reschedule(
        self, state: JobState, seen: Observation, *, now: float, clock_skew: float
    ) -> bool:
        """Schedule the next poll by the result of the last one; return False when there is none."""
        result, status = seen.result, self._statuses[state.job_id]
        failures = status.failures + 1 if is_failure(result) else 0
        poll = self._next_poll(state, result, failures, now=now, clock_skew=clock_skew)
        if poll is None:
            return False
        status.failures = failures
        if not isinstance(result, PollError):
            status.succeeded_at = now
        is_confirmed = not seen.from_list or self.queue.is_away(state.job_id)
        if isinstance(result, Job) and (is_confirmed or status.confirm_at == math.inf):
            status.confirm_at = now + confirmation_delay(state, now, clock_skew, self.random)
        if isinstance(result, Job):
            status.was_behind = not seen.from_list and status.is_alone(now)
            status.is_doubted = False
        self._put(state.job_id, poll, now, is_deferred=isinstance(result, PollError))
        return True

    def doubt(self, state: JobState, requested_at: float, *, clock_skew: float) -> None:
        """Poll a job alone next, since its row in the list is behind; if it is again, for an hour.

        The interval counts from the last poll with news, as if no page had shown the job. A page
        that was requested before that poll proves nothing: it was only overtaken.
        """
        status, now = self._statuses[state.job_id], self.now()
        if status.is_alone(now) or requested_at < status.requested_at:
            return
        status.is_doubted = True
        if status.was_behind:
            status.distrusted_until = now + DISTRUST_SECONDS
        poll = self._next_poll(state, None, 0, now=now, clock_skew=clock_skew)
        if poll:
            elapsed = now - status.requested_at
            poll = poll._replace(delay=max(poll.delay - elapsed, 0.0))
            self._put(state.job_id, poll, now, is_deferred=status.is_deferred)

    def _next_poll(
        self, state: JobState, result: object, failures: int, *, now: float, clock_skew: float
    ) -> NextPoll | None:
        return next_poll(
            state,
            result,
            failures,
            now=now,
            policy=self.policy,
            rules=self.rules,
            random=self.random,
            clock_skew=clock_skew,
        )

    def waits_alone(self, state: JobState, effect: Effect) -> bool:
        """Return whether a row of the list leaves a job waiting for a poll of its own: it may lag.

        So it is for a job that has ended, and for one whose rows are behind, until one has news.
        """
        is_single = state.job_id in self.queue and not self.queue.is_batchable(state.job_id)
        return is_single and (state.is_unfinished or effect is Effect.NONE)

    def retry_later(self, state: JobState, delay: float, *, is_deferred: bool = False) -> None:
        """Poll again after `delay`, and so for a deadline that has passed: nothing is recorded."""
        now = self.now()
        self._put_off(state, delay, is_deferred=is_deferred)
        self.wake()
        if self._deadlines.get(state.job_id, math.inf) <= now:
            self._deadlines[state.job_id] = now + delay

    def set_deadline(self, state: JobState) -> None:
        """Set the deadline of a settling job; remove that of any other."""
        at = settle_deadline(state, self.rules)
        if at is None:
            self._deadlines.pop(state.job_id, None)
        elif self._deadlines.get(state.job_id) != at:
            self._deadlines[state.job_id] = at
            self._deadline_set.notify()

    def expedite_deferred(self) -> None:
        """Make all deferred jobs due now."""
        for job_id, status in self._statuses.items():
            if status.is_deferred:
                self.queue.expedite(job_id, self.now())
        self.wake()

    def expedite(self, job_ids: Iterable[str]) -> None:
        """Make these jobs due now, except those whose polls fail: they keep their backoff."""
        for job_id in job_ids:
            if not self._statuses[job_id].failures:
                self.queue.expedite(job_id, self.now())

    def release(self, request: PollRequest, observed: Iterable[Observation]) -> None:
        """Schedule what a request took and did not show, as it was before."""
        shown = {seen.job_id for seen in observed}
        self.queue.restore([job_id for job_id in request.job_ids if job_id not in shown])
        self.queue.release(request.page)
        self.wake()

    def show(self, view: PageView) -> list[str]:
        """Record what a page shows; return which of its jobs were polled and are as known."""
        self.queue.show(
            view.page, view.rows, view.shown, requested_at=view.requested_at, now=self.now()
        )
        as_known = self.queue.members(view.page)
        return [job_id for job_id in view.shown if job_id in as_known]

    def _put_off(self, state: JobState, delay: float, *, is_deferred: bool) -> None:
        now = self.now()
        rule = POLL_RULES[poll_reason(state, now)]
        self._put(state.job_id, NextPoll(delay, rule, None), now, is_deferred=is_deferred)

    def _put(self, job_id: str, poll: NextPoll, now: float, *, is_deferred: bool) -> None:
        status = self._statuses[job_id]
        status.is_deferred = is_deferred
        self.queue.put(
            job_id,
            due=now + poll.delay,
            now=now,
            is_deferred=is_deferred,
            is_single=poll.rule.is_single or status.is_alone(now),
            priority=poll.rule.priority,
            began_at=poll.began_at,
            confirm_at=status.confirm_at,
        )

    # Waiting.

    def wake(self) -> None:
        """Wake the task that waits for a due job, to check again."""
        self._scheduled.notify()

    async def wait_until_due(self, is_gated: Callable[[], bool]) -> bool:
        """Wait until a job is due; at a closed gate any job will do.

        Return False after HEARTBEAT_INTERVAL seconds without one.
        """
        delay = self._delay(is_gated)
        if delay <= 0.0:
            return True
        await self._scheduled.wait(min(delay, HEARTBEAT_INTERVAL))
        return self._delay(is_gated) <= 0.0

    def _delay(self, is_gated: Callable[[], bool]) -> float:
        due = self.queue.next_due()
        if due is None:
            return math.inf
        return 0.0 if is_gated() else due - self.now()

    async def wait_for_deadlines(self) -> list[str]:
        """Wait until the time to settle may be over for some jobs; return their ids."""
        delay = min(self._deadlines.values(), default=math.inf) - self.now()
        await self._deadline_set.wait(min(delay, HEARTBEAT_INTERVAL))
        now = self.now()
        return [job_id for job_id, at in self._deadlines.items() if at <= now]
