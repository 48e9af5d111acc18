"""Polls what is due, applies what was observed, schedules the next polls.

Workers take turns at planning: the first waits for a due job and for the rate limiter, then sends
its request, and the next one plans meanwhile. One worker at a time applies observations: all that
have gathered, in one transaction.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import anyio
import structlog

from poller.core.errors import NotFound, PollError, StoreUnavailable
from poller.core.events import DaemonEventType
from poller.core.jobs import Job
from poller.core.lifecycle import Effect, effect_of, is_from_clock
from poller.core.overdue import Overdue
from poller.core.pacing import QUARANTINE_SECONDS, PollPolicy, Random
from poller.core.state import Phase, Signal
from poller.polling.discovery import DiscoveredJobs
from poller.polling.missing_guard import GUARD_JOBS, MissingGuard
from poller.polling.observations import PendingObservation
from poller.polling.poll_log import PollLog
from poller.polling.scheduler import PollScheduler
from poller.polling.timers import Timers
from poller.polling.tracker import JobTracker
from poller.polling.watchlist import JobIds
from poller.runtime.liveness import HeartbeatRegistry, MonitoredLock
from poller.runtime.retrying import STORE_RETRY_INTERVAL, until_available
from poller.sutro.page_view import PageView
from poller.sutro.port import Known, Observation, PollRequest, Source

MAX_REQUEST_SECONDS: Final = 7_200.0
"""A poll may wait for a pause of the host, an hour at most, before its second request."""

log = structlog.get_logger()


class Watcher:
    """Watches jobs until cancelled.

    When nearly all of at least `guard_jobs` jobs are unknown to the API, none of them is missing.
    Requests are sent with `known`; `on_observation` gets each observation before it is applied.
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
        self.tracker = tracker
        self.discovered = DiscoveredJobs()
        self._now = tracker.clock.steady
        self._source = source
        self._known = known or tracker.last_seen
        self._on_observation = on_observation or (lambda _: None)
        self._concurrency = concurrency
        self._scheduler = PollScheduler(
            policy=policy, rules=tracker.rules, now=self._now, random=random
        )
        self._named, self._unloaded = set[str](), set[str]()
        self._inbox: list[Observation] = []
        self._missing_guard = MissingGuard(self._now, guard_jobs, tracker.rules.not_found_grace / 2)
        self._poll_log = PollLog(self._now)
        self._until_available = partial(until_available, on_error=self._poll_log.log_store_error)
        self._planning = anyio.Lock(fast_acquire=True)
        self.heartbeats = HeartbeatRegistry(self._now)
        self._applying = MonitoredLock(self.heartbeats.add("recording"))
        self._polling_heartbeat = self.heartbeats.add("polling")
        self._timers = Timers(tracker, self._scheduler, lambda: source.clock_skew, self.heartbeats)

    @property
    def is_wrong_endpoint(self) -> bool:
        """Return whether nearly all jobs have been unknown to the API for a minute."""
        return self._missing_guard.is_wrong_endpoint

    @property
    def lateness_ratio(self) -> float:
        """How late polls are, in units of their intervals; 1 is on time."""
        return self._scheduler.queue.lateness_ratio

    def is_not_found(self, job_id: str) -> bool:
        """Return whether a job is named, and the API does not know it."""
        is_unknown = self._missing_guard.is_unknown(job_id) or self.tracker.is_missing(job_id)
        return is_unknown and job_id in self._named

    @property
    def status_counts(self) -> Mapping[str, int]:
        """The number of watched jobs by status; MISSING is one."""
        return Counter(self.tracker[job_id].display_status for job_id in self.tracker)

    @property
    def stale_count(self) -> int:
        """The number of running jobs whose last successful poll was long ago."""
        return self._scheduler.count_stale(self.tracker[job_id] for job_id in self.tracker)

    async def run(self) -> None:
        """Poll the watched jobs whenever they are due."""
        async with anyio.create_task_group() as workers:
            workers.start_soon(self.tracker.load_history, name="history")
            workers.start_soon(self._timers.run, self.ingest, name="timers")
            for number in range(self._concurrency):
                workers.start_soon(self._poll_loop, name=f"poll {number}")

    async def watch(self, added: JobIds, removed: JobIds = (), named_again: JobIds = ()) -> None:
        """Name jobs, and others no more; poll new ones, and those in `named_again`, at once."""
        await self._until_available(lambda: self._track(added, removed, named_again))
        log.info("watchlist.changed", jobs=len(self._named), polled=len(self._scheduler))

    async def discover(self, admits: Callable[[Job], bool]) -> None:
        """Watch jobs that a page shows and `admits`, and those discovered in an earlier run."""
        self.discovered.admits = admits
        self._unloaded.update(await self._until_available(self.tracker.unfinished))
        self.discovered.add(self._unloaded)

    async def resync(self) -> None:
        """Load all jobs anew: the store has lost what was recorded of them."""
        unfinished = [job_id for job_id in self.tracker if self.tracker[job_id].is_unfinished]
        self.discovered.forget_ended()
        async with self._applying:  # else what is being recorded would be added again
            for job_id in list(self.tracker):
                self._drop(job_id)
                self.tracker.drop(job_id)
        self._unloaded.update(self._named, self.discovered)
        await self._until_available(lambda: self._track(unfinished))

    async def _track(self, added: JobIds, removed: JobIds = (), named_again: JobIds = ()) -> None:
        """Load new jobs; stop polling those that are not watched. Raises StoreUnavailable."""
        async with self._applying:
            new = set(added).difference(self._named)
            absent = {job_id for job_id in new | self._unloaded if job_id not in self.tracker}
            for state in await self.tracker.load(absent):
                self._scheduler.add(state)
            self._named |= new
            self._unloaded = set()
            for job_id in sorted(new.union(self._named.intersection(named_again))):
                self._scheduler.renew(self.tracker.begin_week(job_id))
            for job_id in sorted(self._named.intersection(removed)):
                self._named.discard(job_id)
                if job_id in self.tracker and not self._is_watched(job_id):
                    job = self.tracker.last_seen(job_id)
                    if job_id not in self._scheduler or not self.discovered.retain(job):
                        self._end(job_id)

    def _is_watched(self, job_id: str) -> bool:
        is_wanted = job_id in self._named or job_id in self.discovered
        return is_wanted or self.tracker[job_id].is_unfinished

    def _drop(self, job_id: str) -> None:
        self._scheduler.drop(job_id)
        self._missing_guard.forget(job_id)
        self._source.forget([job_id])

    def _end(self, job_id: str) -> None:
        """Stop polling a job; keep its state if it is named, so that it is not loaded anew."""
        self._drop(job_id)
        self.discovered.end(job_id, may_return=self.tracker[job_id].phase is Phase.MISSING)
        if job_id not in self._named:
            self.tracker.drop(job_id)

    async def _adopt_discovered(self, observations: Sequence[Observation]) -> None:
        """Watch the jobs that a page shows and discovery admits. Raises StoreUnavailable."""
        self.discovered.consider(observations, watched=self.tracker)
        if not self.discovered.pending:
            return
        for state in await self.tracker.load(self.discovered.pending):
            self._scheduler.add(state)
            if state.job_id not in self._scheduler:
                self._end(state.job_id)  # it was announced before
        self.discovered.pending.clear()

    async def _poll_loop(self) -> None:
        while True:
            request = await self._next_request()
            observations = await request.send(self._known)
            for seen in observations:
                self._on_observation(seen)
            await self.ingest(observations)
            self._scheduler.release(request, observations)
            removed = [job_id for job_id in request.job_ids if job_id not in self._scheduler]
            self._source.forget(removed)  # it has learnt of them since

    async def _next_request(self) -> PollRequest:
        """Wait for the next request, and take its jobs from the queue."""
        async with self._planning:
            while True:
                self._polling_heartbeat.beat()
                is_due = await self._scheduler.wait_until_due(lambda: self._source.is_gated)
                if is_due and (request := await self._source.plan(self._scheduler.queue)):
                    self._scheduler.queue.take(request.job_ids, request.page)
                    self._poll_log.log_lateness(self.lateness_ratio)
                    self._polling_heartbeat.beat(MAX_REQUEST_SECONDS)  # until the next worker's
                    return request

    async def ingest(self, observations: Sequence[Observation]) -> None:
        """Apply observations, together with those that have arrived meanwhile."""
        self._inbox.extend(observations)
        async with self._applying:
            # A response that shows an end comes first: then the job is not overdue.
            inbox = sorted(self._inbox, key=lambda seen: isinstance(seen.result, Overdue))
            self._inbox = []
            self._missing_guard.record_page(inbox)
            try:
                await self._adopt_discovered(inbox)
                await self._apply([seen for seen in inbox if seen.job_id in self._scheduler])
            except StoreUnavailable as error:
                self._poll_log.log_store_error(error)
                for job_id in {seen.job_id for seen in inbox if seen.job_id in self._scheduler}:
                    self._scheduler.retry_later(self.tracker[job_id], STORE_RETRY_INTERVAL)
            if isinstance(observations, PageView):
                as_known = self._scheduler.show(observations)
                self._missing_guard.record_present(as_known, observations.requested_at)
            self._scheduler.wake()

    async def _apply(self, batch: Sequence[Observation]) -> None:
        auth_change = await self.tracker.record_auth_change(
            is_rejected=self._source.is_key_rejected, is_accepted=self._source.is_key_accepted
        )
        if auth_change is DaemonEventType.AUTH_RECOVERED:
            self._scheduler.expedite_deferred()
        await self.tracker.refresh(seen.job_id for seen in batch)
        clock_skew = self._source.clock_skew
        effects = [(seen, self._effect(seen)) for seen in batch]
        applied = await self.tracker.apply(self._pending(effects), clock_skew=clock_skew)
        for change in applied:
            self._poll_log.log_change(change)
        self._poll_log.log_failures(batch)
        now = self._now()
        undecided = {change.job_id for change in applied if change.decision is None}
        for seen, effect in effects:
            if seen.job_id in undecided:
                state = self.tracker[seen.job_id]
                self._scheduler.retry_later(state, QUARANTINE_SECONDS, is_deferred=True)
            elif seen.job_id in self._scheduler:
                self._follow_up(seen, effect, now, clock_skew)

    def _effect(self, seen: Observation) -> Effect:
        """Return the effect of an observation, and remember when its request was begun."""
        state, status = self.tracker[seen.job_id], self._scheduler[seen.job_id]
        is_old = seen.requested_at < status.requested_at
        effect = effect_of(state, seen.result, from_list=seen.from_list, is_outdated=is_old)
        is_weak = seen.from_list and effect is Effect.NONE  # stale perhaps: it outdates no GET
        if not (is_weak or effect is Effect.STALE or is_from_clock(seen.result)):
            status.requested_at = seen.requested_at
        return effect

    def _pending(self, effects: Sequence[tuple[Observation, Effect]]) -> list[PendingObservation]:
        """Return the observations that have to be decided: of the 404s those that are credible."""
        changing = {seen.job_id for seen, effect in effects if effect is Effect.CHANGE}
        news = [seen for seen, effect in effects if effect is not Effect.STALE]
        for seen in news:
            state = self.tracker[seen.job_id]
            if state.phase is not Phase.MISSING:  # jobs that are missing prove nothing
                self._missing_guard.record(seen, is_new=state.job is None)
        is_mass_not_found = self._missing_guard.check_mass_not_found()
        self._poll_log.log_endpoint(is_wrong=self.is_wrong_endpoint)
        pending: list[PendingObservation] = []
        for seen in news:
            job_id, result, status = seen.job_id, seen.result, self._scheduler[seen.job_id]
            if isinstance(result, NotFound) and not is_mass_not_found:
                if job_id in self._named:
                    self._poll_log.log_not_found(job_id, result)
                if self._missing_guard.is_confirmed(job_id):
                    pending.append(PendingObservation(job_id, Signal.NOT_FOUND))
                self._scheduler.expedite(self._missing_guard.jobs_to_recheck(job_id))
            elif not isinstance(result, PollError) and job_id in changing:
                last_seen_at = self._scheduler.last_seen_at(job_id)
                pending.append(PendingObservation(job_id, result, last_seen_at))
            if isinstance(result, Job) and not result.status.is_terminal:
                status.last_seen_at = seen.requested_at
        return pending

    def _follow_up(self, seen: Observation, effect: Effect, now: float, clock_skew: float) -> None:
        """Schedule the next poll, unless the job waits for one that stays as it is."""
        state, scheduler = self.tracker[seen.job_id], self._scheduler
        if effect is Effect.STALE and seen.job_id in scheduler.queue:
            if seen.from_list and state.phase is Phase.ACTIVE:
                scheduler.doubt(state, seen.requested_at, clock_skew=clock_skew)
            return
        scheduler.set_deadline(state)
        is_waiting = seen.from_list and scheduler.waits_alone(state, effect)
        if is_from_clock(seen.result) or is_waiting:
            return  # the job waits for its next poll already, or is being polled
        if state.phase is Phase.MISSING:
            self._missing_guard.forget(seen.job_id)
        is_watched = self._is_watched(seen.job_id)
        if not (is_watched and scheduler.reschedule(state, seen, now=now, clock_skew=clock_skew)):
            self._end(seen.job_id)
