"""Loop 1: look at the jobs that are due, apply what was seen, plan the next look.

Workers take turns at the front: the first waits for a due job and for the host's turn, makes its
request, and lets the next one stand there meanwhile. What they bring home is applied by one of
them at a time: all that has gathered, in one transaction.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from poller.core.errors import NotFound, PollError, StoreUnavailable
from poller.core.events import PollerEvent
from poller.core.jobs import Job, JobStatus
from poller.core.lifecycle import Rules
from poller.core.pacing import QUARANTINE, PollPolicy, Random
from poller.core.state import NoJob, Phase
from poller.polling.discovery import Finds
from poller.polling.missing_guard import GUARD_JOBS, Presence
from poller.polling.poll_log import Journal
from poller.polling.scheduler import Agenda
from poller.polling.tracker import Ledger, Sight
from poller.runtime.clock import Clock
from poller.runtime.liveness import Pulses, Turnstile
from poller.sutro.source import Look, Observation, Source

STORE_RETRY: Final = 5.0
LONGEST_LOOK: Final = 7_200.0
"""A look may wait for a pause of the host, an hour at most, before its second request."""

log = structlog.get_logger()


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
        self.pulses = pulses = Pulses(clock.steady)
        self._source = source
        self._ledger = ledger
        self._now = clock.steady
        self._concurrency = concurrency
        self._agenda = Agenda(policy=policy, rules=rules, now=self._now, random=random)
        self._wanted: frozenset[str] = frozenset()
        self._finds = Finds()
        self._inbox: list[Observation] = []
        self._presence = Presence(self._now, guard_jobs)
        self._journal = Journal(self._now)
        self.roster = Roster(ledger, self._finds, self._agenda, self._journal)
        self._front = anyio.Lock(fast_acquire=True)
        self._applying = Turnstile(pulses.add("records"))
        self._looking, self._ending = pulses.add("looks"), pulses.add("deadlines")

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
        self._finds.admits = admits
        while True:
            try:
                self._finds.add(await self._ledger.active())
            except StoreUnavailable as error:
                self._journal.store(error)
                await anyio.sleep(STORE_RETRY)
            else:
                return

    async def start_over(self) -> None:
        """Take in all jobs anew: the store has lost what was recorded of them."""
        unfinished = [job_id for job_id in self._ledger if self._is_unfinished(job_id)]
        self._finds.forget_ended()
        while True:
            async with self._applying:  # what is being recorded would come back
                for job_id in list(self._ledger):
                    self._drop(job_id)
                    self._ledger.forget(job_id)
            if await self._adopt(self._wanted.union(unfinished)):
                return
            await anyio.sleep(STORE_RETRY)

    # Who is watched.

    async def _adopt(self, job_ids: Collection[str]) -> bool:
        async with self._applying:
            try:
                adopted = await self._ledger.adopt(
                    [it for it in {*self._finds, *job_ids} if it not in self._ledger]
                )
            except StoreUnavailable as error:
                self._journal.store(error)
                return False
            self._wanted = frozenset(job_ids)
            for state in adopted:
                self._agenda.begin(state)
            for job_id in [it for it in self._ledger if not self._is_watched(it)]:
                is_on = job_id in self._agenda and self._finds.keep(self._ledger.known(job_id))
                if not is_on:
                    self._end(job_id)
        return True

    def _is_watched(self, job_id: str) -> bool:
        return job_id in self._wanted or job_id in self._finds or self._is_unfinished(job_id)

    def _is_unfinished(self, job_id: str) -> bool:
        state = self._ledger[job_id]
        return state.phase is Phase.SETTLING or state.awaits_cost

    def _drop(self, job_id: str) -> None:
        self._agenda.drop(job_id)
        self._presence.forget(job_id)

    def _end(self, job_id: str) -> None:
        """Ask no more; the state of a wanted job stays known, so that it is not adopted anew."""
        self._drop(job_id)
        if job_id not in self._wanted:
            self._ledger.forget(job_id)
        self._finds.end(job_id)

    async def _welcome(self, observations: Sequence[Observation]) -> None:
        """Begin to watch who is admitted among those that a page shows."""
        self._finds.welcome(
            seen.result
            for seen in observations
            if seen.is_listed and isinstance(seen.result, Job) and seen.job_id not in self._ledger
        )
        if not self._finds.newcomers:
            return
        for state in await self._ledger.adopt(self._finds.newcomers):
            self._agenda.begin(state)
            if state.job_id not in self._agenda:
                self._end(state.job_id)  # it has been told of before
        self._finds.newcomers.clear()

    # Looking.

    async def _look_on(self) -> None:
        while True:
            look = await self._choose()
            await self.take_in(await look(self._ledger.known))

    async def _choose(self) -> Look:
        async with self._front:
            while True:
                self._looking.beat()
                if not await self._agenda.is_due(lambda: self._source.is_gated):
                    continue
                if look := await self._source.choose(self._agenda.schedule):
                    self._journal.stretch(self._agenda.schedule.stretch)
                    self._looking.beat(LONGEST_LOOK)  # until the next one stands here
                    return look

    async def _keep_deadlines(self) -> None:
        """Tell settling jobs that their time is over, whether or not the API can be asked."""
        while True:
            self._ending.beat()
            if late := await self._agenda.until_late():
                now = self._now()
                await self.take_in([Observation(it, now, NoJob.ELAPSED) for it in late])

    # What was seen.

    async def take_in(self, observations: Sequence[Observation]) -> None:
        """Apply what was seen, together with what others have brought meanwhile."""
        self._inbox.extend(observations)
        async with self._applying:
            inbox, self._inbox = self._inbox, []
            try:
                await self._welcome(inbox)
                await self._apply([seen for seen in inbox if seen.job_id in self._agenda])
            except StoreUnavailable as error:
                self._journal.store(error)
                for job_id in {it.job_id for it in inbox if it.job_id in self._agenda}:
                    self._agenda.try_again(self._ledger[job_id], STORE_RETRY)
            self._agenda.wake()  # also for who was taken along for nothing, and is due again

    async def _apply(self, batch: Sequence[Observation]) -> None:
        news, skew = [seen for seen in batch if self._is_news(seen)], self._source.skew
        await self._note_key()
        verdicts = await self._ledger.apply(self._sights(news), skew=skew)
        for verdict in verdicts:
            self._journal.verdict(verdict)
        self._journal.failures(batch)
        fresh = {id(seen) for seen in news}
        undecided = {it.job_id for it in verdicts if it.decision is None}
        now = self._now()
        for seen in batch:
            if seen.job_id in undecided:
                self._agenda.try_again(self._ledger[seen.job_id], QUARANTINE, is_put_off=True)
            elif seen.job_id not in self._agenda:
                continue  # what came before it has ended the watch
            elif id(seen) in fresh or seen.job_id not in self._agenda.schedule:
                self._reschedule(seen, now, skew)

    def _is_news(self, seen: Observation) -> bool:
        """Leave out what was asked before the answer that was applied last, or lags behind it."""
        if seen.result is NoJob.ELAPSED:
            return True  # this was not asked for: an answer that is under way is still news
        if seen.is_listed and isinstance(seen.result, Job) and self._is_behind(seen.result):
            return False
        watch = self._agenda[seen.job_id]
        if seen.asked_at < watch.asked_at:
            return False
        watch.asked_at = seen.asked_at
        return True

    def _is_behind(self, seen: Job) -> bool:
        """Tell whether a list shows a job as it was: it may lag, so that proves no way back.

        A word that nobody knows is no way back.
        """
        state = self._ledger[seen.job_id]
        if seen.status.is_terminal or seen.status is JobStatus.UNKNOWN:
            return False
        if state.phase in {Phase.SETTLING, Phase.DONE}:
            return True
        return seen.status is not state.status and seen.status.rank < state.status.rank

    def _sights(self, batch: Sequence[Observation]) -> list[Sight]:
        """Leave what tells of single jobs: when nearly all are unknown, a 404 tells of the API.

        So a 404 counts only once others have been asked, and are known. Those that are missing for
        long tell nothing of it.
        """
        for seen in batch:
            if self._ledger[seen.job_id].phase is not Phase.MISSING:
                self._presence.note(seen.job_id, seen.result, seen.asked_at)
        is_estranged = self._presence.is_estranged
        self._journal.estranged(is_estranged=is_estranged)
        sights = []
        for seen in batch:
            job_id, result, watch = seen.job_id, seen.result, self._agenda[seen.job_id]
            if not isinstance(result, PollError):
                sights.append(Sight(job_id, result, watch.shown_at))
            elif isinstance(result, NotFound) and not is_estranged:
                if self._presence.is_alone(job_id):
                    sights.append(Sight(job_id, NoJob.ABSENT))
                self._agenda.bring_forward(self._presence.witnesses(job_id))
            if isinstance(result, Job) and not result.status.is_terminal:
                watch.shown_at = seen.asked_at
        return sights

    async def _note_key(self) -> None:
        """Announce a refused key, and that it is accepted again: then nobody is put off for it."""
        announced = await self._ledger.note_key(
            is_refused=self._source.is_refused, is_answered=self._source.is_answered
        )
        if announced is PollerEvent.AUTH_RECOVERED:
            self._agenda.hasten()

    # When to look again.

    def _reschedule(self, seen: Observation, now: float, skew: float) -> None:
        state = self._ledger[seen.job_id]
        self._agenda.set_deadline(state)
        if seen.result is NoJob.ELAPSED:
            return  # it is scheduled, or being asked about: that stays as it is
        if state.phase is Phase.MISSING:
            self._presence.forget(seen.job_id)
        is_planned = self._is_watched(seen.job_id) and self._agenda.plan_next(
            state, seen.result, now, skew=skew
        )
        if not is_planned:
            self._end(seen.job_id)


@dataclass(frozen=True, slots=True)
class Roster:
    """What the watcher knows."""

    ledger: Ledger
    finds: Finds
    agenda: Agenda
    journal: Journal

    @property
    def is_estranged(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for long."""
        return self.journal.is_estranged

    @property
    def stretch(self) -> float:
        """How many times as long as it should be the last wait was."""
        return self.agenda.schedule.stretch

    def by_state(self) -> Mapping[str, int]:
        """Count the watched jobs by how they stand; MISSING is a state."""
        return Counter(self.ledger[job_id].word for job_id in self.ledger)

    def unseen(self) -> list[str]:
        """Name the watched jobs that no answer has shown yet."""
        return [it for it in self.ledger if self.ledger[it].phase is Phase.NEW]

    def has_found(self, job_id: str) -> bool:
        """Tell whether a job is watched because a page showed it."""
        return job_id in self.finds
