"""The state of each watched job: decided, recorded, and only then kept and announced.

After a transaction of unknown outcome its states are stale: `refresh` reads them from the store
again before anything more is decided about those jobs, and counts what was written after all.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import structlog

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.budgets import Budgets
from poller.core.counters import Counters
from poller.core.detection_lag import Detection
from poller.core.duration_history import DurationHistory
from poller.core.errors import StoreUnavailable
from poller.core.events import DaemonEventType, EventOrigin, daemon_event, job_event
from poller.core.jobs import Job
from poller.core.lifecycle import decide
from poller.core.outbox import WriteBatch
from poller.core.state import JobState, LifecyclePolicy, Phase
from poller.polling.budget_watch import BudgetWatch
from poller.polling.history import load_history
from poller.polling.observations import AppliedObservation, PendingObservation, UnknownOutcome
from poller.runtime.clock import Clock
from poller.store import Store

REASONS: Final = {
    DaemonEventType.AUTH_FAILED: "API key rejected",
    DaemonEventType.AUTH_RECOVERED: "API key accepted",
}

log = structlog.get_logger()


class JobTracker:
    """The states of all watched jobs, as they are in the store. One caller at a time.

    `unconfirmed` are jobs that an earlier process found missing, or could not recognise, and about
    which this one has had no response: the earlier one may have polled another account.
    """

    def __init__(
        self,
        store: Store,
        *,
        rules: LifecyclePolicy,
        origin: EventOrigin,
        clock: Clock,
        wake: Callable[[], None],
        counts: Counters | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self._store = store
        self._database_id = store.database_id
        self.rules = rules
        self._origin = origin
        self.clock = clock
        self._wake = wake
        self._counts = counts or Counters()
        self.history = DurationHistory()
        self._budgets = BudgetWatch(budgets, clock)
        self._states: dict[str, JobState] = {}
        self.unconfirmed: set[str] = set()
        self._stale: dict[str, UnknownOutcome] = {}
        self._auth_notice: AuthNotice | None = None
        self._unknown_notice: tuple[AuthNotice, DaemonEventType] | None = None

    def __getitem__(self, job_id: str) -> JobState:
        """Return the state of a loaded job."""
        return self._states[job_id]

    def __contains__(self, job_id: object) -> bool:
        """Return whether a job is loaded."""
        return job_id in self._states

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of all loaded jobs."""
        return iter(self._states)

    @property
    def unseen_ids(self) -> list[str]:
        """The loaded jobs that no response has shown yet."""
        return [job_id for job_id, state in self._states.items() if state.phase is Phase.NEW]

    @property
    def is_recorded(self) -> bool:
        """Return whether the states are in this database: the file can be replaced."""
        return self._database_id == self._store.database_id

    async def load(self, job_ids: Collection[str]) -> list[JobState]:
        """Load jobs as they are recorded, or as new ones; return the states that were added.

        Includes recorded jobs whose end is not fully announced yet. Raises StoreUnavailable.
        """
        recorded = await self._store.load_states(job_ids)
        added = {state.job_id: state for state in recorded if state.job_id not in self._states}
        if not self._states:
            self._database_id = self._store.database_id
            await self._record(self._budgets.check())
        now = self.clock.steady()
        for job_id in job_ids:
            if job_id not in self._states and job_id not in added:
                added[job_id] = JobState(job_id=job_id, since=now)
        self._states.update(added)
        for state in added.values():
            if state.job:
                self._counts.add_model(state.job)
        self.unconfirmed.update(job_id for job_id, state in added.items() if state.is_given_up)
        return list(added.values())

    async def load_history(self) -> None:
        """Load how long the jobs took that ended before this process was started."""
        await load_history(self.history, self._store)

    async def unfinished(self) -> list[str]:
        """Return the ids of recorded jobs that have not ended. Raises StoreUnavailable."""
        return await self._store.unfinished_ids()

    def last_seen(self, job_id: str) -> Job | None:
        """Return the job object of a job's last recorded change, or None."""
        state = self._states.get(job_id)
        return state.job if state else None

    def is_missing(self, job_id: str) -> bool:
        """Return whether a job was reported missing and has not been found again."""
        state = self._states.get(job_id)
        is_missing = state is not None and state.phase is Phase.MISSING
        return is_missing and job_id not in self.unconfirmed

    def drop(self, job_id: str) -> None:
        """Forget a job; its record in the store stays."""
        self._states.pop(job_id, None)
        self._stale.pop(job_id, None)
        self.unconfirmed.discard(job_id)

    def begin_week(self, job_id: str) -> JobState:
        """Return the state of a job that was named again; if it was given up, its week restarts."""
        state = self._states[job_id]
        if state.is_given_up:
            state = self._states[job_id] = replace(state, since=self.clock.steady())
        return state

    async def refresh(self, job_ids: Iterable[str]) -> None:
        """Read those of these states again that are stale. Raises StoreUnavailable."""
        stale = self._stale.keys() & set(job_ids)
        if not stale:
            return
        for state in await self._store.load_states(stale):
            if state.job_id in stale:
                self._states[state.job_id] = state
                unknown = self._stale[state.job_id]
                if unknown.state.matches_recorded(state):
                    self._wake()
                    self._count(unknown.changes)
        for job_id in stale:
            del self._stale[job_id]

    async def apply(
        self, observations: Sequence[PendingObservation], *, clock_skew: float = 0.0
    ) -> list[AppliedObservation]:
        """Decide about observations and record all changes in one transaction.

        `clock_skew` is the API's clock minus ours, in seconds. Raises StoreUnavailable: then
        nothing of it has happened, as far as anyone knows.
        """
        if not observations:
            return []
        drafts: dict[str, JobState] = {}
        now = self.clock.steady()
        applied = [self._decide(seen, drafts, now, clock_skew) for seen in observations]
        changed = [
            state
            for job_id, state in drafts.items()
            if not state.matches_recorded(self._states[job_id])
        ]
        events = [event for change in applied for event in change.events]
        try:
            announce = self._budgets.after(changed)
            await self._record(WriteBatch(states=changed, events=events, announce=announce))
        except StoreUnavailable:
            for state in changed:
                changes = [change for change in applied if change.job_id == state.job_id]
                self._stale[state.job_id] = UnknownOutcome(state, changes)
            raise
        self._states.update(drafts)
        self.unconfirmed.difference_update(drafts)
        self._count(applied)
        return applied

    async def record_auth_change(
        self, *, is_rejected: bool, is_accepted: bool
    ) -> DaemonEventType | None:
        """Announce that the API key is rejected, or accepted again; return the event's type."""
        if self._auth_notice is None:
            self._auth_notice = await self._load_auth_notice()
        notice, event_type = self._auth_notice.update(
            is_rejected=is_rejected, is_accepted=is_accepted
        )
        if event_type is None:
            return None
        event = daemon_event(
            event_type,
            self._origin,
            self.clock.now(),
            instance=self._store.database_id,
            occurrence=notice.occurrence,
            detail={"reason": REASONS[event_type]},
        )
        self._auth_notice, self._unknown_notice = None, (notice, event_type)
        await self._record(WriteBatch(events=[event], flags={AUTH_FLAG: notice.format()}))
        self._auth_notice, self._unknown_notice = notice, None
        self._counts.events[event_type] += 1
        return event_type

    async def _load_auth_notice(self) -> AuthNotice:
        """Return the recorded notice; replace a rejection that another deployment has sent."""
        recorded = AuthNotice.parse((await self._store.get_flags()).get(AUTH_FLAG))
        if self._unknown_notice and recorded == self._unknown_notice[0]:  # it was written
            self._counts.events[self._unknown_notice[1]] += 1
        self._unknown_notice = None
        notice = recorded.at(self._origin.deployment)
        if recorded.is_rejected and not notice.is_rejected:
            await self._store.write(WriteBatch(flags={AUTH_FLAG: notice.format()}))
        return notice

    async def _record(self, batch: WriteBatch) -> None:
        if not (batch.states or batch.events or batch.announce):
            return
        collisions = await self._store.write(batch)
        crossings = self._budgets.announced if batch.announce else ()
        if batch.events or crossings:
            self._wake()
        self._counts.events.update(event.type for event in crossings)
        for event in collisions:
            self._counts.id_collisions += 1
            log.error(
                "event.id_collision",
                job_id=event.subject,
                type=event.type,
                error=f"the event of another job has the ID {event.id}: this one is lost",
                advice="set a POLLER_EVENT_ID_NAMESPACE for each SUTRO_API_URL",
            )

    def _count(self, changes: Iterable[AppliedObservation]) -> None:
        """Count changes that are recorded."""
        for change in changes:
            if isinstance(change.result, Job):
                self._counts.add_model(change.result)
            if change.decision:
                self._counts.record_events(change.decision.drafts, change.detection)
                self.history.add_ended(change.decision.drafts)

    def _decide(
        self, seen: PendingObservation, drafts: dict[str, JobState], now: float, clock_skew: float
    ) -> AppliedObservation:
        """Decide about one observation. A bug that one job triggers must not affect the others."""
        job_id = seen.job_id
        before = drafts.get(job_id, self._states[job_id])
        detection = self._detection(seen, before, now, clock_skew)
        try:
            decision = decide(before, seen.result, now, self.rules)
            moment = self.clock.now()
            events = [
                job_event(draft, self._origin, moment, detection) for draft in decision.drafts
            ]
        except Exception:
            log.exception("job.decision_failed", job_id=job_id)
            return AppliedObservation(job_id, before, seen.result, None, detection)
        drafts[job_id] = decision.state
        return AppliedObservation(job_id, before, seen.result, decision, detection, events)

    def _detection(
        self, seen: PendingObservation, before: JobState, now: float, clock_skew: float
    ) -> Detection:
        """Return when a change was detected: for a settling job, before it is announced."""
        last_seen_at = seen.last_seen_at
        return Detection(
            detected_at=before.since if before.phase is Phase.SETTLING else now,
            clock_skew=clock_skew,
            last_seen_at=last_seen_at,
            previous_poll_at=None
            if last_seen_at is None
            else self.clock.wall_time_at(last_seen_at),
        )
