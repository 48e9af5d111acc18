"""Violations in a run: the events that had to arrive, compared with those that did.

A test records each end that a good response showed to the daemon, and each event that reached a
receiver. `check_run` compares the two, and the database that is left.
"""

import hashlib
import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

REPEATABLE_TYPES: Final = frozenset({"job.missing", "job.found"})
"""Types that one job can have more than once, each time under another id."""


@dataclass(frozen=True, slots=True)
class ExpectedEvent:
    """An event that a response of the API caused."""

    at: float
    job_id: str
    type: str


@dataclass(slots=True, kw_only=True)
class ReceivedEvent:
    """One event that reached a sink. `acknowledged_at` is when the sender could know that."""

    at: float
    event_id: str
    job_id: str
    type: str
    sequence: int
    body: bytes
    sink: str = "webhook"
    is_replay: bool = False
    acknowledged_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The result of `check_run`. Every field but `explained` names violations, a line each.

    `explained` counts allowed repetitions: no acknowledgement had been sent, or the process that
    got it was killed before the next one began.
    """

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    duplicate_ids: list[str] = field(default_factory=list)
    changed_bodies: list[str] = field(default_factory=list)
    redelivered: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    explained: int = 0

    @property
    def violations(self) -> list[str]:
        """All violations, each after the name of its field."""
        return [
            f"{group.name}: {line}"
            for group in fields(self)
            if group.name != "explained"
            for line in getattr(self, group.name)
        ]


def check_run(
    expected: Iterable[ExpectedEvent],
    received: Sequence[ReceivedEvent],
    *,
    sinks: Collection[str] = ("webhook",),
    begins: Sequence[float] = (),
    store: Path | None = None,
    was_store_kept: bool = True,
) -> Findings:
    """Check a run that is over, when all events have had their time to arrive.

    `begins` are the times, in order, at which processes began whose predecessor was killed.
    `was_store_kept`: the database was never lost, so that bodies may not change either.
    """
    expected_events = {(event.job_id, event.type) for event in expected}
    redelivered, explained = _redelivered(received, begins)
    return Findings(
        lost=_lost(expected_events, received, sinks),
        unexpected=_unexpected(expected_events, received),
        duplicate_ids=_conflicts(received, _key, lambda event: event.event_id),
        changed_bodies=_conflicts(received, lambda event: event.event_id, _digest)
        if was_store_kept
        else [],
        redelivered=redelivered,
        out_of_order=_out_of_order(received),
        unsettled=_unsettled(store, sinks) if store else [],
        damaged=_damaged(store) if store else [],
        explained=explained,
    )


def _lost(
    expected_events: Iterable[tuple[str, str]],
    received: Iterable[ReceivedEvent],
    sinks: Iterable[str],
) -> list[str]:
    arrived = {(event.sink, event.job_id, event.type) for event in received}
    return [
        f"{fact} to {sink}"
        for fact in sorted(expected_events)
        for sink in sinks
        if (sink, *fact) not in arrived
    ]


def _unexpected(
    expected_events: Collection[tuple[str, str]], received: Iterable[ReceivedEvent]
) -> list[str]:
    return [f"{_key(event)}" for event in received if _key(event) not in expected_events]


def _conflicts(
    received: Iterable[ReceivedEvent],
    key: Callable[[ReceivedEvent], Hashable],
    value: Callable[[ReceivedEvent], str],
) -> list[str]:
    """Return each key that has more than one value."""
    values: dict[Hashable, set[str]] = defaultdict(set)
    for event in received:
        if event.type not in REPEATABLE_TYPES:
            values[key(event)].add(value(event))
    return [f"{key}: {sorted(several)}" for key, several in values.items() if len(several) > 1]


def _redelivered(
    received: Iterable[ReceivedEvent], begins: Sequence[float]
) -> tuple[list[str], int]:
    """Return the repetitions of events whose delivery the running process could know.

    What a process had sent when it was killed may be recorded a moment later, but long before the
    next one has done its imports: an event belongs to the process that began last.
    """
    unexplained, explained = [], 0
    first_seen: dict[tuple[str, str], ReceivedEvent] = {}
    for event in sorted(received, key=lambda event: event.at):
        earlier = first_seen.get((event.sink, event.event_id))
        first_seen[event.sink, event.event_id] = event
        if earlier is None or event.is_replay:
            continue
        was_acknowledged = (
            earlier.acknowledged_at is not None and earlier.acknowledged_at <= event.at
        )
        if was_acknowledged and bisect_right(begins, earlier.at) == bisect_right(begins, event.at):
            unexplained.append(f"{event.event_id} of {_key(event)} to {event.sink}")
        else:
            explained += 1
    return unexplained, explained


def _out_of_order(received: Iterable[ReceivedEvent]) -> list[str]:
    """Return the events that came for the first time after a later one of the same job."""
    last: dict[tuple[str, str], int] = defaultdict(int)
    seen: set[tuple[str, str]] = set()
    late = []
    for event in sorted(received, key=lambda event: event.at):
        if (event.sink, event.event_id) in seen:
            continue
        seen.add((event.sink, event.event_id))
        if event.sequence < last[event.sink, event.job_id]:
            late.append(f"{_key(event)} to {event.sink}")
        last[event.sink, event.job_id] = max(event.sequence, last[event.sink, event.job_id])
    return late


UNSETTLED_DELIVERIES: Final = """
SELECT events.type || ' of ' || events.subject || ' to ' || sinks.value || ': '
       || coalesce(group_concat(status), 'never')
  FROM events
  JOIN json_each(:sinks) AS sinks
  LEFT JOIN deliveries ON event_id = events.id AND sink = sinks.value
 GROUP BY events.id, sinks.value
HAVING count(*) <> 1 OR coalesce(status, '') NOT IN ('delivered', 'dead')
"""


def _unsettled(store: Path, sinks: Iterable[str]) -> list[str]:
    """Return the events that are not exactly once delivered to a sink or dead."""
    names = ",".join(f'"{sink}"' for sink in sinks)
    return _query(store, UNSETTLED_DELIVERIES, {"sinks": f"[{names}]"})


def _damaged(store: Path) -> list[str]:
    return [line for line in _query(store, "PRAGMA integrity_check", {}) if line != "ok"]


def _query(store: Path, statement: str, values: dict[str, str]) -> list[str]:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return [text for (text,) in db.execute(statement, values)]


def _key(event: ReceivedEvent) -> tuple[str, str]:
    return event.job_id, event.type


def _digest(event: ReceivedEvent) -> str:
    return hashlib.sha256(event.body).hexdigest()
