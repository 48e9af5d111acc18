"""Loop 1: look at the jobs that are due, apply what was seen, schedule the next look.

Workers take turns at the front: the first waits for a due job and for the host's turn, makes its
request, and lets the next one stand there meanwhile. What they bring home is applied by one of
them at a time: all that has gathered, in one transaction.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from poller.clock import Clock
from poller.errors import NotFound, PollError, StoreUnavailable
from poller.events import PollerEvent
from poller.health import GUARD_JOBS, Presence
from poller.jobs import Job
from poller.journal import Journal
from poller.ledger import Ledger
from poller.lifecycle import Rules, deadline, next_look
from poller.pacing import QUARANTINE, is_failure, pause
from poller.schedule import PollPolicy, Random, Schedule
from poller.states import JobState, NoJob, Phase
from poller.sutro.source import Look, Observation, Source

STORE_RETRY: Final = 5.0
REMEMBERED: Final = 10_000
"""How many ended jobs that nobody named are known as told, without a look into the store."""

log = structlog.get_logger()


@dataclass(slots=True)
class Watch:
    """How the asking for one job goes."""

    asked_at: float = 0.0
    failures: int = 0
    is_put_off: bool = False


class Watcher:
    """Watch jobs until cancelled.

    When nearly all of at least `guard_jobs` jobs are unknown to the API, none of them is missing.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        *,
        policy: PollPolicy,
        rules: Rules,
        clock: Clock,
        random: Random,
        concurrency: int,
        guard_jobs: float = GUARD_JOBS,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._policy = policy
        self._rules = rules
        self._now = clock.steady
        self._random = random
        self._concurrency = concurrency
        self._schedule = Schedule()
        self._admits: Callable[[Job], bool] = lambda _job: False
        self._wanted: frozenset[str] = frozenset()
        self._found: set[str] = set()
        self._ended: dict[str, None] = {}
        self._watches: dict[str, Watch] = {}
        self._deadlines: dict[str, float] = {}
        self._inbox: list[Observation] = []
        self._presence = Presence(self._now, guard_jobs)
        self._journal = Journal(self._now)
        self._front = anyio.Lock(fast_acquire=True)
        self._applying = anyio.Lock(fast_acquire=True)
        self._rescheduled = anyio.Event()
        self._deadline_set = anyio.Event()

    async def run(self) -> None:
        """Look at the watched jobs whenever they are due."""
        async with anyio.create_task_group() as workers:
            workers.start_soon(self._keep_deadlines, name="deadlines")
            for number in range(self._concurrency):
                workers.start_soon(self._look_on, name=f"look {number}")

    async def watch(self, job_ids: Collection[str]) -> None:
        """Watch these jobs from now on, and of the others only those whose end is being told."""
        while True:
            if await self._adopt(job_ids):
                ended = sum(self._ledger[it].phase is Phase.DONE for it in self._wanted)
                log.info("watch.changed", jobs=len(self._wanted), ended=ended)
                return
            await anyio.sleep(STORE_RETRY)

    async def discover(self, admits: Callable[[Job], bool]) -> None:
        """Watch from now on what a page shows and is admitted, though nobody named it.

        What was found so before, and has not ended, is watched on.
        """
        self._admits = admits
        while True:
            try:
                self._found.update(await self._ledger.active())
            except StoreUnavailable as error:
                self._journal.store(error)
                await anyio.sleep(STORE_RETRY)
            else:
                return

    async def start_over(self) -> None:
        """Take in all jobs anew: the store has lost what was recorded of them."""
        unfinished = [job_id for job_id in self._ledger if self._is_unfinished(job_id)]
        unfinished += self._found
        self._ended.clear()
        while True:
            for job_id in list(self._ledger):
                self._end(job_id)
                self._ledger.forget(job_id)
            if await self._adopt(self._wanted.union(unfinished)):
                return
            await anyio.sleep(STORE_RETRY)

    # Who is watched.

    async def _adopt(self, job_ids: Collection[str]) -> bool:
        async with self._applying:
            try:
                adopted = await self._ledger.adopt(
                    [it for it in self._found.union(job_ids) if it not in self._ledger]
                )
            except StoreUnavailable as error:
                self._journal.store(error)
                return False
            self._wanted = frozenset(job_ids)
            for state in adopted:
                self._begin(state)
            for job_id in [it for it in self._ledger if not self._is_watched(it)]:
                self._end(job_id)
        return True

    def _begin(self, state: JobState) -> None:
        """Schedule the first look; the token bucket spreads those that are all due now."""
        wait = 0.0
        if state.phase in {Phase.DONE, Phase.MISSING}:
            later = next_look(state, self._now(), self._policy, self._rules)
            if later is None:
                return
            wait = later
        self._watches[state.job_id] = Watch()
        self._set_deadline(state)
        # One that has never answered may be nobody's: it is no good for trying out the key.
        self._plan(state.job_id, wait, is_put_off=state.phase is Phase.NEW)

    def _is_watched(self, job_id: str) -> bool:
        return job_id in self._wanted or job_id in self._found or self._is_unfinished(job_id)

    def _is_unfinished(self, job_id: str) -> bool:
        state = self._ledger[job_id]
        return state.phase is Phase.SETTLING or state.awaits_cost

    def _end(self, job_id: str) -> None:
        """Ask no more; the state of a wanted job stays known, so that it is not adopted anew."""
        self._watches.pop(job_id, None)
        self._deadlines.pop(job_id, None)
        self._schedule.drop(job_id)
        self._presence.forget(job_id)
        if job_id not in self._wanted:
            self._ledger.forget(job_id)
        if job_id in self._found:
            self._found.discard(job_id)
            self._ended[job_id] = None
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    async def _welcome(self, observations: Sequence[Observation]) -> None:
        """Begin to watch who is admitted among those that a page shows."""
        self._found.update(
            seen.job_id
            for seen in observations
            if isinstance(seen.result, Job) and self._is_new(seen) and self._admits(seen.result)
        )
        strangers = [it for it in self._found if it not in self._ledger]
        if not strangers:
            return
        for state in await self._ledger.adopt(strangers):
            self._begin(state)
            if state.job_id not in self._watches:
                self._end(state.job_id)  # it has been told of before

    def _is_new(self, seen: Observation) -> bool:
        return seen.is_listed and seen.job_id not in self._ledger and seen.job_id not in self._ended

    # Looking.

    async def _look_on(self) -> None:
        while True:
            look = await self._choose()
            await self.take_in(await look())
            self._rescheduled.set()  # who was taken along for nothing is due again

    async def _choose(self) -> Look:
        async with self._front:
            while True:
                while (wait := self._until_due()) > 0.0:
                    self._rescheduled = anyio.Event()
                    with anyio.move_on_after(wait):
                        await self._rescheduled.wait()
                if look := await self._source.choose(self._schedule):
                    self._journal.stretch(self._schedule.stretch)
                    return look

    def _until_due(self) -> float:
        """Say how long until there is a job to ask about; at a closed gate any job will do."""
        due = self._schedule.next_due()
        if due is None:
            return math.inf
        return 0.0 if self._source.is_gated else due - self._now()

    async def _keep_deadlines(self) -> None:
        """Tell settling jobs that their time is over, whether or not the API can be asked."""
        while True:
            now = self._now()
            late = [job_id for job_id, at in self._deadlines.items() if at <= now]
            if late:
                await self.take_in([Observation(it, now, NoJob.ELAPSED) for it in late])
            self._deadline_set = anyio.Event()
            wait = min(self._deadlines.values(), default=math.inf) - self._now()
            with anyio.move_on_after(wait):
                await self._deadline_set.wait()

    # What was seen.

    async def take_in(self, observations: Sequence[Observation]) -> None:
        """Apply what was seen, together with what others have brought meanwhile."""
        self._inbox.extend(observations)
        async with self._applying:
            inbox, self._inbox = self._inbox, []
            try:
                await self._welcome(inbox)
                await self._apply([seen for seen in inbox if seen.job_id in self._watches])
            except StoreUnavailable as error:
                self._journal.store(error)
                for job_id in {seen.job_id for seen in inbox} & self._watches.keys():
                    self._try_again(job_id, STORE_RETRY)

    async def _apply(self, batch: Sequence[Observation]) -> None:
        news = [seen for seen in batch if self._is_news(seen)]
        await self._note_key()
        verdicts = await self._ledger.apply(self._sights(news))
        for verdict in verdicts:
            self._journal.verdict(verdict)
        self._tell_failures(batch)
        fresh = {id(seen) for seen in news}
        undecided = {it.job_id for it in verdicts if it.decision is None}
        for seen in batch:
            if seen.job_id in undecided:
                self._try_again(seen.job_id, QUARANTINE, is_put_off=True)
            elif seen.job_id not in self._watches:
                continue  # what came before it has ended the watch
            elif id(seen) in fresh or seen.job_id not in self._schedule:
                self._reschedule(seen)

    def _tell_failures(self, batch: Sequence[Observation]) -> None:
        """Log what failed, a page once for all the jobs on it."""
        failed = {id(seen.result): seen for seen in reversed(batch)}
        for seen in failed.values():
            if isinstance(seen.result, PollError) and not isinstance(seen.result, NotFound):
                self._journal.failure(seen.job_id, seen.result)

    def _is_news(self, seen: Observation) -> bool:
        """Leave out what was asked before the answer that was applied last, or lags behind it."""
        if seen.result is NoJob.ELAPSED:
            return True  # this was not asked for: an answer that is under way is still news
        if seen.is_listed and self._is_behind(seen):
            return False
        watch = self._watches[seen.job_id]
        if seen.asked_at < watch.asked_at:
            return False
        watch.asked_at = seen.asked_at
        return True

    def _is_behind(self, seen: Observation) -> bool:
        """Tell whether a list shows a job as it was: it may lag, so that proves no way back."""
        state = self._ledger[seen.job_id]
        has_ended = state.phase in {Phase.SETTLING, Phase.DONE}
        if not isinstance(seen.result, Job) or seen.result.status.is_terminal:
            return False
        return has_ended or seen.result.status.rank < state.status.rank

    def _sights(self, batch: Sequence[Observation]) -> list[tuple[str, Job | NoJob]]:
        """Leave what tells of single jobs: when nearly all are unknown, a 404 tells of the API.

        Those that are missing for long tell nothing of it.
        """
        for seen in batch:
            if self._ledger[seen.job_id].phase is not Phase.MISSING:
                self._presence.note(seen.job_id, seen.result)
        is_estranged = self._presence.is_estranged
        self._journal.estranged(is_estranged=is_estranged)
        sights: list[tuple[str, Job | NoJob]] = []
        for seen in batch:
            if not isinstance(seen.result, PollError):
                sights.append((seen.job_id, seen.result))
            elif isinstance(seen.result, NotFound) and not is_estranged:
                sights.append((seen.job_id, NoJob.ABSENT))
        return sights

    async def _note_key(self) -> None:
        """Announce a refused key, and that it is accepted again: then nobody is put off for it."""
        announced = await self._ledger.note_key(
            is_refused=self._source.is_refused, is_answered=self._source.is_answered
        )
        if announced is PollerEvent.AUTH_RECOVERED:
            for job_id, watch in self._watches.items():
                if watch.is_put_off:
                    self._schedule.hasten(job_id, self._now())
            self._rescheduled.set()

    # When to look again.

    def _reschedule(self, seen: Observation) -> None:
        state = self._ledger[seen.job_id]
        self._set_deadline(state)
        if seen.result is NoJob.ELAPSED:
            return  # it is scheduled, or being asked about: that stays as it is
        if state.phase is Phase.MISSING:
            self._presence.forget(seen.job_id)
        interval = next_look(state, self._now(), self._policy, self._rules, skew=self._source.skew)
        if interval is None or not self._is_watched(seen.job_id):
            self._end(seen.job_id)
        else:
            self._plan_after(seen, interval)

    def _plan_after(self, seen: Observation, interval: float) -> None:
        """Plan the next look by what the last one came to."""
        watch = self._watches[seen.job_id]
        watch.failures = watch.failures + 1 if is_failure(seen.result) else 0
        delay, is_put_off = pause(seen.result, watch.failures, interval, self._random)
        self._plan(seen.job_id, delay, is_put_off=is_put_off)

    def _plan(self, job_id: str, delay: float, *, is_put_off: bool = False) -> None:
        now = self._now()
        self._watches[job_id].is_put_off = is_put_off
        is_single = self._ledger[job_id].phase not in {Phase.NEW, Phase.ACTIVE}
        self._schedule.put(
            job_id, due=now + delay, now=now, is_put_off=is_put_off, is_single=is_single
        )
        self._rescheduled.set()

    def _try_again(self, job_id: str, delay: float, *, is_put_off: bool = False) -> None:
        """Look again later, and for a deadline that has passed: nothing of it is recorded."""
        self._plan(job_id, delay, is_put_off=is_put_off)
        if self._deadlines.get(job_id, math.inf) <= self._now():
            self._deadlines[job_id] = self._now() + delay

    def _set_deadline(self, state: JobState) -> None:
        at = deadline(state, self._rules)
        if at is None:
            self._deadlines.pop(state.job_id, None)
        elif self._deadlines.get(state.job_id) != at:
            self._deadlines[state.job_id] = at
            self._deadline_set.set()
