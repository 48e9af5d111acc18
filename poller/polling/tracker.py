"""What is known of each job: decided, recorded, and only then remembered and announced.

After a transaction of unknown outcome the states that it held are stale: the store is read again
before anything more is decided about those jobs.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from poller.core.auth_notice import MARK, KeyMark
from poller.core.counters import Counts
from poller.core.detection import Sighting
from poller.core.errors import StoreUnavailable
from poller.core.events import Event, Origin, PollerEvent, job_event, poller_event
from poller.core.jobs import Job
from poller.core.lifecycle import Rules, decide, is_idle
from poller.core.outbox import Batch
from poller.core.state import Decision, JobState, NoJob, Phase
from poller.runtime.clock import Clock
from poller.store import Store

REASONS: Final = {
    PollerEvent.AUTH_FAILED: "the API refuses the key",
    PollerEvent.AUTH_RECOVERED: "the API accepts the key",
}

log = structlog.get_logger()


class Sight(NamedTuple):
    """What is seen of one job, and when a look was begun that last showed it, not at its end."""

    job_id: str
    seen: Job | NoJob
    shown_at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a sight of one job came to. No decision: deciding it failed, by a bug of ours."""

    job_id: str
    before: JobState
    seen: Job | NoJob
    decision: Decision | None
    sighting: Sighting
    events: Sequence[Event] = ()


class Ledger:
    """The states of all watched jobs, the same in memory as in the store. One caller at a time."""

    def __init__(
        self,
        store: Store,
        *,
        rules: Rules,
        origin: Origin,
        clock: Clock,
        wake: Callable[[], None],
        counts: Counts | None = None,
    ) -> None:
        self._store = store
        self._instance = store.instance
        self._rules = rules
        self._origin = origin
        self._clock = clock
        self._wake = wake
        self._counts = counts or Counts()
        self._states: dict[str, JobState] = {}
        self._stale: set[str] = set()
        self._mark: KeyMark | None = None

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
        return self._instance == self._store.instance

    async def adopt(self, job_ids: Collection[str]) -> list[JobState]:
        """Take in jobs: as they are recorded, or new.

        Jobs whose end is not fully told yet come along, asked for or not. Raises StoreUnavailable.
        """
        recorded = await self._store.load(job_ids)
        found = {state.job_id: state for state in recorded if state.job_id not in self._states}
        if not self._states:
            self._instance = self._store.instance
        now = self._clock.steady()
        for job_id in job_ids:
            if job_id not in self._states and job_id not in found:
                found[job_id] = JobState(job_id=job_id, since=now)
        self._states.update(found)
        return list(found.values())

    async def active(self) -> list[str]:
        """Name the jobs that are recorded and have not ended. Raises StoreUnavailable."""
        return await self._store.active()

    def known(self, job_id: str) -> Job | None:
        """Give the job object of the last recorded change of a job, where there is one."""
        state = self._states.get(job_id)
        return state.job if state else None

    def forget(self, job_id: str) -> None:
        """Let go of a job; what is recorded of it stays."""
        self._states.pop(job_id, None)
        self._stale.discard(job_id)

    async def apply(self, sights: Sequence[Sight], *, skew: float = 0.0) -> list[Verdict]:
        """Decide what was seen and record all of it in one transaction.

        There is no verdict on what shows a job as it was.
        `skew` is the API's clock minus ours, in seconds. Raises StoreUnavailable: then nothing of
        it has happened as far as anyone knows.
        """
        await self._reread({it.job_id for it in sights} & self._stale)
        drafts: dict[str, JobState] = {}
        verdicts = [
            self._judge(sight, drafts, skew)
            for sight in sights
            if sight.job_id in drafts or not self._is_idle(sight)
        ]
        changed = [
            state
            for job_id, state in drafts.items()
            if not state.is_recorded_like(self._states[job_id])
        ]
        await self._record(Batch(states=changed, events=[it for v in verdicts for it in v.events]))
        self._states.update(drafts)
        for verdict in verdicts:
            if verdict.decision:
                self._counts.told(verdict.decision.transitions, verdict.sighting)
        return verdicts

    async def note_key(self, *, is_refused: bool, is_answered: bool) -> PollerEvent | None:
        """Announce that the key is refused, or accepted again; say what was announced."""
        if self._mark is None:
            self._mark = KeyMark.read((await self._store.marks()).get(MARK))
        mark, kind = self._mark.follow(is_refused=is_refused, is_answered=is_answered)
        if kind is None:
            return None
        event = poller_event(
            kind,
            self._origin,
            self._clock.now(),
            instance=self._store.instance,
            occurrence=mark.occurrence,
            detail={"reason": REASONS[kind]},
        )
        await self._record(Batch(events=[event], marks={MARK: mark.write()}))
        self._mark = mark
        self._counts.events[kind] += 1
        return kind

    async def _record(self, batch: Batch) -> None:
        if not (batch.states or batch.events):
            return
        try:
            await self._store.record(batch)
        except StoreUnavailable:
            self._stale.update(state.job_id for state in batch.states)
            self._mark = None
            raise
        if batch.events:
            self._wake()

    async def _reread(self, job_ids: Collection[str]) -> None:
        if not job_ids:
            return
        for state in await self._store.load(job_ids):
            if state.job_id in job_ids:
                self._states[state.job_id] = state
        self._stale.difference_update(job_ids)

    def _judge(self, sight: Sight, drafts: dict[str, JobState], skew: float) -> Verdict:
        """Decide one sight. A bug that one odd job brings to light must not blind the others."""
        job_id, seen, now = sight.job_id, sight.seen, self._clock.steady()
        before = drafts.get(job_id, self._states[job_id])
        sighting = self._sighting(sight, before, now, skew)
        try:
            decision = decide(before, seen, now, self._rules)
            moment = self._clock.now()
            events = [job_event(it, self._origin, moment, sighting) for it in decision.transitions]
        except Exception:
            log.exception("job.undecided", job_id=job_id)
            return Verdict(job_id, before, seen, None, sighting)
        drafts[job_id] = decision.state
        return Verdict(job_id, before, seen, decision, sighting, events)

    def _is_idle(self, sight: Sight) -> bool:
        seen = sight.seen
        if not isinstance(seen, Job) or seen.wrong_fields:
            return False
        return is_idle(self._states[sight.job_id], seen)

    def _sighting(self, sight: Sight, before: JobState, now: float, skew: float) -> Sighting:
        """Say when a change was first seen: for a job that settles, before it is told."""
        shown_at = sight.shown_at
        return Sighting(
            seen_at=before.since if before.phase is Phase.SETTLING else now,
            skew=skew,
            shown_at=shown_at,
            previous_poll_at=None if shown_at is None else self._clock.written(shown_at),
        )
