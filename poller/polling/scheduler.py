"""When each watched job is looked at next, and when its time to settle is over."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio

from poller.core.errors import PollError
from poller.core.lifecycle import LifecyclePolicy, next_poll_delay, settle_deadline
from poller.core.pacing import PollPolicy, Random, delay_after, is_failure
from poller.core.state import JobState, Phase
from poller.polling.queue import PollQueue
from poller.runtime.liveness import HEARTBEAT_INTERVAL


@dataclass(slots=True)
class PollStatus:
    """How the asking for one job goes.

    `asked_at` is when the look was begun that was applied last, `shown_at` that of the last one
    that showed the job, not at its end.
    """

    requested_at: float = 0.0
    last_seen_at: float | None = None
    failures: int = 0
    is_deferred: bool = False


@dataclass(slots=True, kw_only=True)
class PollScheduler:
    """The watched jobs: those that are due wake one waiter, those whose time is over another.

    Whoever takes jobs from `schedule` plans each of them anew, or puts it back, and calls `wake`.
    """

    policy: PollPolicy
    rules: LifecyclePolicy
    now: Callable[[], float]
    random: Random
    queue: PollQueue = field(default_factory=PollQueue)
    _watches: dict[str, PollStatus] = field(default_factory=dict)
    _deadlines: dict[str, float] = field(default_factory=dict)
    _planned: anyio.Event = field(default_factory=anyio.Event)
    _deadline_set: anyio.Event = field(default_factory=anyio.Event)

    def __getitem__(self, job_id: str) -> PollStatus:
        """Say how the asking for a watched job goes."""
        return self._watches[job_id]

    def __contains__(self, job_id: str) -> bool:
        """Tell whether a job is watched: it is scheduled, or being asked about."""
        return job_id in self._watches

    # Who is on it.

    def add(self, state: JobState) -> None:
        """Schedule the first look, unless there is to be none.

        The token bucket spreads those that are all due now.
        """
        wait = 0.0
        if state.phase in {Phase.DONE, Phase.MISSING}:
            later = next_poll_delay(state, self.now(), self.policy, self.rules)
            if later is None:
                return
            wait = later
        self._watches[state.job_id] = PollStatus()
        self.set_deadline(state)
        # One that has never answered may be nobody's: it is no good for trying out the key.
        self._plan(state, self.now(), wait, is_deferred=state.phase is Phase.NEW)
        self.wake()

    def drop(self, job_id: str) -> None:
        """Plan no more for a job, if it is there."""
        self._watches.pop(job_id, None)
        self._deadlines.pop(job_id, None)
        self.queue.drop(job_id)

    # When to look again.

    def reschedule(self, state: JobState, result: object, now: float, *, clock_skew: float) -> bool:
        """Plan the next look by what the last one came to; False when there is to be none."""
        interval = next_poll_delay(state, now, self.policy, self.rules, clock_skew=clock_skew)
        if interval is None:
            return False
        watch = self._watches[state.job_id]
        watch.failures = watch.failures + 1 if is_failure(result) else 0
        delay = delay_after(result, watch.failures, interval, self.random)
        self._plan(state, now, delay, is_deferred=isinstance(result, PollError))
        return True

    def retry_later(self, state: JobState, delay: float, *, is_deferred: bool = False) -> None:
        """Look again later, and for a deadline that has passed: nothing of it is recorded."""
        self._plan(state, self.now(), delay, is_deferred=is_deferred)
        self.wake()
        if self._deadlines.get(state.job_id, math.inf) <= self.now():
            self._deadlines[state.job_id] = self.now() + delay

    def set_deadline(self, state: JobState) -> None:
        """Note when the time to settle is over, if the job is settling."""
        at = settle_deadline(state, self.rules)
        if at is None:
            self._deadlines.pop(state.job_id, None)
        elif self._deadlines.get(state.job_id) != at:
            self._deadlines[state.job_id] = at
            self._deadline_set.set()

    def expedite_deferred(self) -> None:
        """Make all that are put off due now."""
        for job_id, watch in self._watches.items():
            if watch.is_deferred:
                self.queue.expedite(job_id, self.now())
        self.wake()

    def expedite(self, job_ids: Iterable[str]) -> None:
        """Make these due now, but for those whose looks fail: they keep their pace."""
        for job_id in job_ids:
            if not self._watches[job_id].failures:
                self.queue.expedite(job_id, self.now())

    def _plan(self, state: JobState, now: float, delay: float, *, is_deferred: bool) -> None:
        self._watches[state.job_id].is_deferred = is_deferred
        is_single = state.phase not in {Phase.NEW, Phase.ACTIVE}
        self.queue.put(
            state.job_id, due=now + delay, now=now, is_deferred=is_deferred, is_single=is_single
        )

    # Waiting.

    def wake(self) -> None:
        """Let who waits for a due job see whether there is one."""
        self._planned.set()

    async def wait_until_due(self, is_gated: Callable[[], bool]) -> bool:
        """Wait until there is a job to ask about; at a closed gate any job will do.

        False after BEAT seconds without one.
        """
        wait = self._wait(is_gated)
        if wait <= 0.0:
            return True
        self._planned = anyio.Event()
        with anyio.move_on_after(min(wait, HEARTBEAT_INTERVAL)):
            await self._planned.wait()
        return self._wait(is_gated) <= 0.0

    def _wait(self, is_gated: Callable[[], bool]) -> float:
        due = self.queue.next_due()
        if due is None:
            return math.inf
        return 0.0 if is_gated() else due - self.now()

    async def wait_for_deadlines(self) -> list[str]:
        """Wait until there may be jobs whose time to settle is over, and name them."""
        self._deadline_set = anyio.Event()
        wait = min(self._deadlines.values(), default=math.inf) - self.now()
        with anyio.move_on_after(min(wait, HEARTBEAT_INTERVAL)):
            await self._deadline_set.wait()
        now = self.now()
        return [job_id for job_id, at in self._deadlines.items() if at <= now]
