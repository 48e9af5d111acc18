"""Loop 1: look at the jobs that are due, apply what was seen, plan the next look.

Workers take turns at the front: the first waits for a due job and for the host's turn, makes its
request, and lets the next one stand there meanwhile. What they bring home is applied by one of
them at a time: all that has gathered, in one transaction.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import anyio
import structlog

from poller.core.errors import NotFound, PollError, StoreUnavailable
from poller.core.events import DaemonEventType
from poller.core.jobs import Job, JobStatus
from poller.core.pacing import QUARANTINE_SECONDS, PollPolicy, Random
from poller.core.state import Phase, Signal
from poller.polling.discovery import DiscoveredJobs
from poller.polling.missing_guard import GUARD_JOBS, MissingGuard
from poller.polling.poll_log import PollLog
from poller.polling.scheduler import PollScheduler
from poller.polling.tracker import JobTracker, PendingObservation
from poller.runtime.liveness import HeartbeatRegistry, MonitoredLock
from poller.sutro.port import Known, Observation, PollRequest, Source

STORE_RETRY: Final = 5.0
MAX_REQUEST_SECONDS: Final = 7_200.0
"""A look may wait for a pause of the host, an hour at most, before its second request."""

log = structlog.get_logger()


class Watcher:
    """Watch jobs until cancelled.

    When nearly all of at least `guard_jobs` jobs are unknown to the API, none of them is missing.
    `known` is the look-up that each request is sent with; `on_observation` is called with each
    observation before it is applied.
    """

    def __init__(
        self,
        source: Source,
        tracker: JobTracker,
        *,
        policy: PollPolicy,
        random: Random,
        concurrency: int,
        guard_jobs: float = GUARD_JOBS,
        known: Known | None = None,
        on_observation: Callable[[Observation], None] | None = None,
    ) -> None:
        self._now = tracker.clock.steady
        self.heartbeats = heartbeats = HeartbeatRegistry(self._now)
        self._source = source
        self.tracker = tracker
        self._known = known or tracker.last_seen
        self._on_observation = on_observation
        self._concurrency = concurrency
        self._scheduler = PollScheduler(
            policy=policy, rules=tracker.rules, now=self._now, random=random
        )
        self._wanted: frozenset[str] = frozenset()
        self.discovered = DiscoveredJobs()
        self._inbox: list[Observation] = []
        self._missing_guard = MissingGuard(self._now, guard_jobs)
        self._poll_log = PollLog(self._now)
        self._front = anyio.Lock(fast_acquire=True)
        self._applying = MonitoredLock(heartbeats.add("recording"))
        self._polling_heartbeat, self._deadline_heartbeat = (
            heartbeats.add("polling"),
            heartbeats.add("deadlines"),
        )

    @property
    def is_wrong_endpoint(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for a minute."""
        return self._poll_log.is_wrong_endpoint

    @property
    def lateness_ratio(self) -> float:
        """How late the last due job was polled, in units of its interval; 1 is on time."""
        return self._scheduler.queue.lateness_ratio

    @property
    def status_counts(self) -> Mapping[str, int]:
        """The number of watched jobs by status; MISSING is one."""
        return Counter(self.tracker[job_id].display_status for job_id in self.tracker)

    @property
    def unseen_ids(self) -> list[str]:
        """The watched jobs that no response has shown yet."""
        return [job_id for job_id in self.tracker if self.tracker[job_id].phase is Phase.NEW]

    async def run(self) -> None:
        """Look at the watched jobs whenever they are due."""
        async with anyio.create_task_group() as workers:
            workers.start_soon(self._keep_deadlines, name="deadlines")
            for number in range(self._concurrency):
                workers.start_soon(self._poll_loop, name=f"look {number}")

    async def watch(self, job_ids: Collection[str]) -> None:
        """Watch these jobs from now on, and of the others only those whose end is being told."""
        while True:
            if await self._track(job_ids):
                ended = sum(self.tracker[it].phase is Phase.DONE for it in self._wanted)
                log.info("watchlist.changed", jobs=len(self._wanted), ended=ended)
                return
            await anyio.sleep(STORE_RETRY)

    async def discover(self, admits: Callable[[Job], bool]) -> None:
        """Watch from now on what a page shows and is admitted, though nobody named it.

        What was found so before, and has not ended, is watched on.
        """
        self.discovered.admits = admits
        while True:
            try:
                self.discovered.add(await self.tracker.unfinished())
            except StoreUnavailable as error:
                self._poll_log.log_store_error(error)
                await anyio.sleep(STORE_RETRY)
            else:
                return

    async def resync(self) -> None:
        """Take in all jobs anew: the store has lost what was recorded of them."""
        unfinished = [job_id for job_id in self.tracker if self._is_unfinished(job_id)]
        self.discovered.forget_ended()
        while True:
            async with self._applying:  # what is being recorded would come back
                for job_id in list(self.tracker):
                    self._drop(job_id)
                    self.tracker.drop(job_id)
            if await self._track(self._wanted.union(unfinished)):
                return
            await anyio.sleep(STORE_RETRY)

    # Who is watched.

    async def _track(self, job_ids: Collection[str]) -> bool:
        async with self._applying:
            try:
                adopted = await self.tracker.load(
                    [it for it in {*self.discovered, *job_ids} if it not in self.tracker]
                )
            except StoreUnavailable as error:
                self._poll_log.log_store_error(error)
                return False
            self._wanted = frozenset(job_ids)
            for state in adopted:
                self._scheduler.add(state)
            for job_id in [it for it in self.tracker if not self._is_watched(it)]:
                is_on = job_id in self._scheduler and self.discovered.retain(
                    self.tracker.last_seen(job_id)
                )
                if not is_on:
                    self._end(job_id)
        return True

    def _is_watched(self, job_id: str) -> bool:
        return job_id in self._wanted or job_id in self.discovered or self._is_unfinished(job_id)

    def _is_unfinished(self, job_id: str) -> bool:
        state = self.tracker[job_id]
        return state.phase is Phase.SETTLING or state.awaits_cost

    def _drop(self, job_id: str) -> None:
        self._scheduler.drop(job_id)
        self._missing_guard.forget(job_id)

    def _end(self, job_id: str) -> None:
        """Ask no more; the state of a wanted job stays known, so that it is not adopted anew."""
        self._drop(job_id)
        if job_id not in self._wanted:
            self.tracker.drop(job_id)
        self.discovered.end(job_id)

    async def _adopt_discovered(self, observations: Sequence[Observation]) -> None:
        """Begin to watch who is admitted among those that a page shows."""
        self.discovered.consider(
            seen.result
            for seen in observations
            if seen.from_list and isinstance(seen.result, Job) and seen.job_id not in self.tracker
        )
        if not self.discovered.pending:
            return
        for state in await self.tracker.load(self.discovered.pending):
            self._scheduler.add(state)
            if state.job_id not in self._scheduler:
                self._end(state.job_id)  # it has been told of before
        self.discovered.pending.clear()

    # Looking.

    async def _poll_loop(self) -> None:
        while True:
            request = await self._next_request()
            observations = await request.send(self._known)
            observed = {seen.job_id for seen in observations}
            for job_id in request.job_ids:
                if job_id not in observed:
                    self._scheduler.queue.restore(job_id)
            if self._on_observation:
                for seen in observations:
                    self._on_observation(seen)
            await self.ingest(observations)

    async def _next_request(self) -> PollRequest:
        async with self._front:
            while True:
                self._polling_heartbeat.beat()
                if not await self._scheduler.wait_until_due(lambda: self._source.is_gated):
                    continue
                if request := await self._source.plan(self._scheduler.queue):
                    self._scheduler.queue.take(request.job_ids)
                    self._poll_log.log_lateness(self.lateness_ratio)
                    # The next beat comes when the next worker gets here.
                    self._polling_heartbeat.beat(MAX_REQUEST_SECONDS)
                    return request

    async def _keep_deadlines(self) -> None:
        """Tell settling jobs that their time is over, whether or not the API can be asked."""
        while True:
            self._deadline_heartbeat.beat()
            if late := await self._scheduler.wait_for_deadlines():
                now = self._now()
                await self.ingest([Observation(it, now, Signal.TIMER) for it in late])

    # What was seen.

    async def ingest(self, observations: Sequence[Observation]) -> None:
        """Apply what was seen, together with what others have brought meanwhile."""
        self._inbox.extend(observations)
        async with self._applying:
            inbox, self._inbox = self._inbox, []
            try:
                await self._adopt_discovered(inbox)
                await self._apply([seen for seen in inbox if seen.job_id in self._scheduler])
            except StoreUnavailable as error:
                self._poll_log.log_store_error(error)
                for job_id in {it.job_id for it in inbox if it.job_id in self._scheduler}:
                    self._scheduler.retry_later(self.tracker[job_id], STORE_RETRY)
            self._scheduler.wake()  # also for who was taken along for nothing, and is due again

    async def _apply(self, batch: Sequence[Observation]) -> None:
        news, clock_skew = [seen for seen in batch if self._is_news(seen)], self._source.clock_skew
        await self._report_auth_change()
        applied = await self.tracker.apply(self._believable(news), clock_skew=clock_skew)
        for change in applied:
            self._poll_log.log_change(change)
        self._poll_log.log_failures(batch)
        fresh = {id(seen) for seen in news}
        undecided = {change.job_id for change in applied if change.decision is None}
        now = self._now()
        for seen in batch:
            if seen.job_id in undecided:
                self._scheduler.retry_later(
                    self.tracker[seen.job_id], QUARANTINE_SECONDS, is_deferred=True
                )
            elif seen.job_id not in self._scheduler:
                continue  # what came before it has ended the watch
            elif id(seen) in fresh or seen.job_id not in self._scheduler.queue:
                self._reschedule(seen, now, clock_skew)

    def _is_news(self, seen: Observation) -> bool:
        """Leave out what was asked before the answer that was applied last, or lags behind it."""
        if seen.result is Signal.TIMER:
            return True  # this was not asked for: an answer that is under way is still news
        if seen.from_list and isinstance(seen.result, Job) and self._is_stale_listing(seen.result):
            return False
        watch = self._scheduler[seen.job_id]
        if seen.requested_at < watch.requested_at:
            return False
        watch.requested_at = seen.requested_at
        return True

    def _is_stale_listing(self, seen: Job) -> bool:
        """Tell whether a list shows a job as it was: it may lag, so that proves no way back.

        A word that nobody knows is no way back.
        """
        state = self.tracker[seen.job_id]
        if seen.status.is_terminal or seen.status is JobStatus.UNKNOWN:
            return False
        if state.phase in {Phase.SETTLING, Phase.DONE}:
            return True
        return seen.status is not state.status and seen.status.rank < state.status.rank

    def _believable(self, batch: Sequence[Observation]) -> list[PendingObservation]:
        """Leave what tells of single jobs: when nearly all are unknown, a 404 tells of the API.

        So a 404 counts only once others have been asked, and are known. Those that are missing for
        long tell nothing of it.
        """
        for seen in batch:
            if self.tracker[seen.job_id].phase is not Phase.MISSING:
                self._missing_guard.record(seen.job_id, seen.result, seen.requested_at)
        is_estranged = self._missing_guard.is_mass_not_found
        self._poll_log.note_mass_not_found(is_estranged=is_estranged)
        sights = []
        for seen in batch:
            job_id, result, watch = seen.job_id, seen.result, self._scheduler[seen.job_id]
            if not isinstance(result, PollError):
                sights.append(PendingObservation(job_id, result, watch.last_seen_at))
            elif isinstance(result, NotFound) and not is_estranged:
                if self._missing_guard.is_confirmed(job_id):
                    sights.append(PendingObservation(job_id, Signal.NOT_FOUND))
                self._scheduler.expedite(self._missing_guard.jobs_to_recheck(job_id))
            if isinstance(result, Job) and not result.status.is_terminal:
                watch.last_seen_at = seen.requested_at
        return sights

    async def _report_auth_change(self) -> None:
        """Announce a refused key, and that it is accepted again: then nobody is put off for it."""
        announced = await self.tracker.record_auth_change(
            is_refused=self._source.is_key_rejected, is_answered=self._source.has_answered
        )
        if announced is DaemonEventType.AUTH_RECOVERED:
            self._scheduler.expedite_deferred()

    # When to look again.

    def _reschedule(self, seen: Observation, now: float, clock_skew: float) -> None:
        state = self.tracker[seen.job_id]
        self._scheduler.set_deadline(state)
        if seen.result is Signal.TIMER:
            return  # it is scheduled, or being asked about: that stays as it is
        if state.phase is Phase.MISSING:
            self._missing_guard.forget(seen.job_id)
        is_planned = self._is_watched(seen.job_id) and self._scheduler.reschedule(
            state, seen.result, now, clock_skew=clock_skew
        )
        if not is_planned:
            self._end(seen.job_id)
