"""What is known of each job: decided, recorded, and only then remembered and announced.

After a transaction of unknown outcome the states that it held are stale: the store is read again
before anything more is decided about those jobs.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.counters import Counters
from poller.core.detection import Detection
from poller.core.errors import StoreUnavailable
from poller.core.events import DaemonEventType, Event, EventOrigin, daemon_event, job_event
from poller.core.jobs import Job
from poller.core.lifecycle import LifecyclePolicy, decide, is_no_op
from poller.core.outbox import WriteBatch
from poller.core.state import Decision, JobState, Phase, Signal
from poller.runtime.clock import Clock
from poller.store import Store

REASONS: Final = {
    DaemonEventType.AUTH_FAILED: "the API refuses the key",
    DaemonEventType.AUTH_RECOVERED: "the API accepts the key",
}

log = structlog.get_logger()


class PendingObservation(NamedTuple):
    """What is seen of one job, and when a look was begun that last showed it, not at its end."""

    job_id: str
    result: Job | Signal
    last_seen_at: float | None = None


@dataclass(frozen=True, slots=True)
class AppliedObservation:
    """What a sight of one job came to. No decision: deciding it failed, by a bug of ours."""

    job_id: str
    before: JobState
    result: Job | Signal
    decision: Decision | None
    detection: Detection
    events: Sequence[Event] = ()


class JobTracker:
    """The states of all watched jobs, the same in memory as in the store. One caller at a time."""

    def __init__(
        self,
        store: Store,
        *,
        rules: LifecyclePolicy,
        origin: EventOrigin,
        clock: Clock,
        wake: Callable[[], None],
        counts: Counters | None = None,
    ) -> None:
        self._store = store
        self._instance = store.database_id
        self.rules = rules
        self._origin = origin
        self.clock = clock
        self._wake = wake
        self._counts = counts or Counters()
        self._states: dict[str, JobState] = {}
        self._stale: set[str] = set()
        self._auth_notice: AuthNotice | None = None

    def __getitem__(self, job_id: str) -> JobState:
        """Give the state of a job that was adopted."""
        return self._states[job_id]

    def __contains__(self, job_id: str) -> bool:
        """Tell whether a job was adopted and not forgotten."""
        return job_id in self._states

    def __iter__(self) -> Iterator[str]:
        """Go through the ids of all jobs."""
        return iter(self._states)

    @property
    def is_recorded(self) -> bool:
        """Whether the store is the one that the states were recorded in: it can be replaced."""
        return self._instance == self._store.database_id

    async def load(self, job_ids: Collection[str]) -> list[JobState]:
        """Take in jobs: as they are recorded, or new.

        Jobs whose end is not fully told yet come along, asked for or not. Raises StoreUnavailable.
        """
        recorded = await self._store.load_states(job_ids)
        found = {state.job_id: state for state in recorded if state.job_id not in self._states}
        if not self._states:
            self._instance = self._store.database_id
        now = self.clock.steady()
        for job_id in job_ids:
            if job_id not in self._states and job_id not in found:
                found[job_id] = JobState(job_id=job_id, since=now)
        self._states.update(found)
        return list(found.values())

    async def unfinished(self) -> list[str]:
        """Name the jobs that are recorded and have not ended. Raises StoreUnavailable."""
        return await self._store.unfinished_ids()

    def last_seen(self, job_id: str) -> Job | None:
        """Give the job object of the last recorded change of a job, where there is one."""
        state = self._states.get(job_id)
        return state.job if state else None

    def drop(self, job_id: str) -> None:
        """Let go of a job; what is recorded of it stays."""
        self._states.pop(job_id, None)
        self._stale.discard(job_id)

    async def apply(
        self, sights: Sequence[PendingObservation], *, clock_skew: float = 0.0
    ) -> list[AppliedObservation]:
        """Decide what was seen and record all of it in one transaction.

        There is no verdict on what shows a job as it was.
        `skew` is the API's clock minus ours, in seconds. Raises StoreUnavailable: then nothing of
        it has happened as far as anyone knows.
        """
        await self._reread({it.job_id for it in sights} & self._stale)
        drafts: dict[str, JobState] = {}
        applied = [
            self._judge(sight, drafts, clock_skew)
            for sight in sights
            if sight.job_id in drafts or not self._is_idle(sight)
        ]
        changed = [
            state
            for job_id, state in drafts.items()
            if not state.matches_recorded(self._states[job_id])
        ]
        await self._record(
            WriteBatch(
                states=changed, events=[event for change in applied for event in change.events]
            )
        )
        self._states.update(drafts)
        for change in applied:
            if change.decision:
                self._counts.record_events(change.decision.drafts, change.detection)
        return applied

    async def record_auth_change(
        self, *, is_refused: bool, is_answered: bool
    ) -> DaemonEventType | None:
        """Announce that the key is refused, or accepted again; say what was announced."""
        if self._auth_notice is None:
            self._auth_notice = AuthNotice.parse((await self._store.get_flags()).get(AUTH_FLAG))
        mark, kind = self._auth_notice.update(is_rejected=is_refused, has_responded=is_answered)
        if kind is None:
            return None
        event = daemon_event(
            kind,
            self._origin,
            self.clock.now(),
            instance=self._store.database_id,
            occurrence=mark.occurrence,
            detail={"reason": REASONS[kind]},
        )
        await self._record(WriteBatch(events=[event], flags={AUTH_FLAG: mark.format()}))
        self._auth_notice = mark
        self._counts.events[kind] += 1
        return kind

    async def _record(self, batch: WriteBatch) -> None:
        if not (batch.states or batch.events):
            return
        try:
            await self._store.write(batch)
        except StoreUnavailable:
            self._stale.update(state.job_id for state in batch.states)
            self._auth_notice = None
            raise
        if batch.events:
            self._wake()

    async def _reread(self, job_ids: Collection[str]) -> None:
        if not job_ids:
            return
        for state in await self._store.load_states(job_ids):
            if state.job_id in job_ids:
                self._states[state.job_id] = state
        self._stale.difference_update(job_ids)

    def _judge(
        self, sight: PendingObservation, drafts: dict[str, JobState], clock_skew: float
    ) -> AppliedObservation:
        """Decide one sight. A bug that one odd job brings to light must not blind the others."""
        job_id, seen, now = sight.job_id, sight.result, self.clock.steady()
        before = drafts.get(job_id, self._states[job_id])
        detection = self._detection(sight, before, now, clock_skew)
        try:
            decision = decide(before, seen, now, self.rules)
            moment = self.clock.now()
            events = [job_event(it, self._origin, moment, detection) for it in decision.drafts]
        except Exception:
            log.exception("job.decision_failed", job_id=job_id)
            return AppliedObservation(job_id, before, seen, None, detection)
        drafts[job_id] = decision.state
        return AppliedObservation(job_id, before, seen, decision, detection, events)

    def _is_idle(self, sight: PendingObservation) -> bool:
        seen = sight.result
        if not isinstance(seen, Job) or seen.invalid_fields:
            return False
        return is_no_op(self._states[sight.job_id], seen)

    def _detection(
        self, sight: PendingObservation, before: JobState, now: float, clock_skew: float
    ) -> Detection:
        """Say when a change was first seen: for a job that settles, before it is told."""
        shown_at = sight.last_seen_at
        return Detection(
            detected_at=before.since if before.phase is Phase.SETTLING else now,
            clock_skew=clock_skew,
            last_seen_at=shown_at,
            previous_poll_at=None if shown_at is None else self.clock.wall_time_at(shown_at),
        )
