"""The store in memory: the same promises as the one on disk, until the process ends."""

import heapq
import math
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from poller.core.events import Event
from poller.core.lifecycle import COST_WATCH_DELAYS
from poller.core.outbox import Delivery, DeliveryStatus, Outcome, Routes, SinkBacklog, WriteBatch
from poller.core.state import JobState, Phase
from poller.store import (
    ADDED_RETENTION,
    DEAD_RETENTION,
    DELIVERED_RETENTION,
    JOB_RETENTION,
    SINK_DISABLED,
)


@dataclass(slots=True)
class _Entry:
    """One delivery, and how it stands."""

    delivery: Delivery
    due: float
    fate: DeliveryStatus = DeliveryStatus.PENDING
    reason: str | None = None
    last_attempt_at: float = -math.inf
    ended_at: float = math.inf

    def is_kept(self, now: float) -> bool:
        """Tell whether it still holds its event; what is pending ends at infinity."""
        return self.ended_at > now - (
            DEAD_RETENTION if self.fate is DeliveryStatus.DEAD else DELIVERED_RETENTION
        )


class MemoryStore:
    """Keep everything in dictionaries.

    Those of one sink are in `_pending` in the order of their ids: what `enable` brings back finds
    nothing there, because a disabled sink has nothing pending.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        deployment: str,  # noqa: ARG002  one process has one; both stores are made alike
        now: Callable[[], float],
    ) -> None:
        self._routes = routes
        self._now = now
        self._instance = secrets.token_hex(8)
        self._marks: dict[str, str] = {}
        self._added: dict[str, None] = {}
        self._jobs: dict[str, tuple[JobState, float]] = {}
        self._events: dict[str, tuple[float, list[_Entry]]] = {}
        self._entries: dict[int, _Entry] = {}
        self._pending: dict[int, _Entry] = {}
        self._disabled: set[str] = set()
        self._times_disabled: dict[str, int] = {}
        self._last_id = 0

    @property
    def database_id(self) -> str:
        """The random name of this store."""
        return self._instance

    @property
    def last_error(self) -> str | None:
        """There is none."""
        return None

    @property
    def last_error_at(self) -> float:
        """It never was."""
        return -math.inf

    async def __aenter__(self) -> Self:
        """There is nothing to open."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """There is nothing to close."""

    async def load_states(self, job_ids: Collection[str]) -> list[JobState]:
        """Read the states of these jobs, and of every job that is settling or awaits its cost."""
        now, wanted = self._now(), frozenset(job_ids)
        return [
            replace(state, since=min(state.since, now))
            for state, _ in self._jobs.values()
            if state.job_id in wanted or _is_unfinished(state, now)
        ]

    async def unfinished_ids(self) -> list[str]:
        """Name every recorded job that has not ended."""
        return [it for it, (state, _) in self._jobs.items() if state.phase is not Phase.DONE]

    async def added_ids(self) -> list[str]:
        """Name the jobs that were added, in the order of their coming."""
        return list(self._added)

    async def add_ids(self, job_ids: Collection[str]) -> None:
        """Note that these jobs are to be watched from now on."""
        self._added |= dict.fromkeys(job_ids)

    async def remove_ids(self, job_ids: Collection[str]) -> None:
        """Note that these jobs are not to be watched, unless somebody else names them."""
        for job_id in job_ids:
            self._added.pop(job_id, None)

    async def get_flags(self) -> dict[str, str]:
        """Read every mark."""
        return dict(self._marks)

    async def write(self, batch: WriteBatch) -> None:
        """Write a batch."""
        now = self._now()
        self._jobs.update({state.job_id: (state, now) for state in batch.states})
        for event in batch.events:
            if event.id not in self._events:
                entries = [self._enter(sink, event, now) for sink in self._takers(event)]
                self._events[event.id] = now, entries
        self._marks.update(batch.flags)
        self._bury_disabled(now)

    async def due_deliveries(
        self, sink: str, now: float, *, limit: int, busy: Collection[str] = (), early: bool = False
    ) -> list[Delivery]:
        """Read deliveries that may be sent now: pending, due, and the first of their subject."""
        ready = [
            entry
            for entry in self._heads(sink)
            if (early or entry.due <= now) and entry.delivery.event.subject not in busy
        ]
        first = heapq.nsmallest(limit, ready, key=_last_attempt if early else _due)
        return [entry.delivery for entry in first]

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of attempts."""
        now = self._now()
        for outcome in outcomes:
            entry = self._entries.get(outcome.delivery_id)
            if entry and (
                entry.fate is DeliveryStatus.PENDING or outcome.status is DeliveryStatus.DELIVERED
            ):
                self._settle(entry, outcome, now)

    async def expedite(self, sink: str, now: float) -> None:
        """Make every pending delivery of a sink due now."""
        for entry in self._pending_of(sink):
            entry.due = min(entry.due, now)

    async def disable_sink(self, sink: str, reason: str) -> int:  # noqa: ARG002  nobody can ask for it
        """Switch a sink off and bury its pending deliveries; say how often that has happened."""
        if sink not in self._disabled:
            self._disabled.add(sink)
            self._times_disabled[sink] = self._times_disabled.get(sink, 0) + 1
        self._bury_disabled(self._now())
        return self._times_disabled[sink]

    async def enable_sink(self, sink: str, now: float) -> None:
        """Switch a sink on again, and make what was buried when it was switched off pending."""
        self._disabled.discard(sink)
        for number, entry in self._entries.items():
            if (entry.delivery.sink, entry.fate, entry.reason) == (
                sink,
                DeliveryStatus.DEAD,
                SINK_DISABLED,
            ):
                entry.fate, entry.reason, entry.due = DeliveryStatus.PENDING, None, now
                entry.ended_at = math.inf
                self._pending[number] = entry

    async def backlogs(self) -> list[SinkBacklog]:
        """Read the backlog of every sink."""
        return [self._sink(name) for name in sorted(self._routes)]

    async def prune(self, now: float, watched: Collection[str]) -> int:
        """Forget what is past its time, and say how many rows went."""
        added = [
            job_id
            for job_id, (state, changed_at) in self._jobs.items()
            if changed_at <= now - ADDED_RETENTION and job_id in self._added and _is_over(state)
        ]
        await self.remove_ids(added)
        jobs = [
            job_id
            for job_id, (_, changed_at) in self._jobs.items()
            if changed_at <= now - JOB_RETENTION and job_id not in watched
        ]
        events = [
            event_id
            for event_id, (recorded_at, entries) in self._events.items()
            if recorded_at <= now - DELIVERED_RETENTION
            and not any(it.is_kept(now) for it in entries)
        ]
        for job_id in jobs:
            del self._jobs[job_id]
        for event_id in events:
            for entry in self._events.pop(event_id)[1]:
                del self._entries[entry.delivery.id]
        return len(added) + len(jobs) + len(events)

    def _takers(self, event: Event) -> list[str]:
        if event.same_sinks_as:
            _, followed = self._events.get(event.same_sinks_as, (0.0, []))
            return [entry.delivery.sink for entry in followed]
        return [sink for sink, types in self._routes.items() if event.type in types]

    def _enter(self, sink: str, event: Event, now: float) -> _Entry:
        self._last_id += 1
        entry = _Entry(Delivery(id=self._last_id, sink=sink, event=event, created_at=now), due=now)
        self._entries[self._last_id] = self._pending[self._last_id] = entry
        return entry

    def _pending_of(self, sink: str) -> list[_Entry]:
        return [entry for entry in self._pending.values() if entry.delivery.sink == sink]

    def _heads(self, sink: str) -> Iterable[_Entry]:
        heads: dict[str, _Entry] = {}
        for entry in self._pending_of(sink):
            heads.setdefault(entry.delivery.event.subject, entry)
        return heads.values()

    def _settle(self, entry: _Entry, outcome: Outcome, now: float) -> None:
        if outcome.status is not DeliveryStatus.DELIVERED:
            entry.delivery = replace(entry.delivery, attempts=entry.delivery.attempts + 1)
        entry.due, entry.last_attempt_at = outcome.due, now
        entry.reason = outcome.reason or entry.reason
        if outcome.status is not DeliveryStatus.PENDING:
            self._end(entry, outcome.status, now)

    def _end(self, entry: _Entry, fate: DeliveryStatus, now: float) -> None:
        entry.fate, entry.ended_at = fate, now
        self._pending.pop(entry.delivery.id, None)

    def _bury_disabled(self, now: float) -> None:
        """Hold that a disabled sink has no pending deliveries, whichever way they came."""
        for sink in self._disabled:
            for entry in self._pending_of(sink):
                entry.reason = SINK_DISABLED
                self._end(entry, DeliveryStatus.DEAD, now)

    def _sink(self, name: str) -> SinkBacklog:
        dead = [
            it for it in self._entries.values() if (it.delivery.sink, it.fate) == (name, "dead")
        ]
        pending = self._pending_of(name)
        return SinkBacklog(
            name=name,
            pending=len(pending),
            dead=len(dead),
            last_due=max((entry.due for entry in pending), default=None),
            oldest_pending_at=min((entry.delivery.created_at for entry in pending), default=None),
            is_disabled=name in self._disabled,
        )


def _is_unfinished(state: JobState, now: float) -> bool:
    awaits_cost = state.awaits_cost and state.since > now - COST_WATCH_DELAYS
    return state.phase is Phase.SETTLING or awaits_cost


def _is_over(state: JobState) -> bool:
    return state.phase in {Phase.DONE, Phase.MISSING}


def _due(entry: _Entry) -> tuple[float, int]:
    return entry.due, entry.delivery.id


def _last_attempt(entry: _Entry) -> tuple[float, int]:
    return entry.last_attempt_at, entry.delivery.id
