"""What went wrong in a run, however cruel it was: what was shown, against what arrived.

A test notes each end that a successful answer showed to the daemon, and each event that came to a
receiver. `examine` holds one against the other, and against the database that is left.
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

REPEATABLE: Final = frozenset({"job.missing", "job.found"})
"""Types that one job can have more than once, each time under an id of its own."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer of the API told: from then on an event of this type is owed."""

    at: float
    job_id: str
    type: str


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One event that reached a sink. `acknowledged_at` is when the sender could know of it."""

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
    """What `examine` found. Every field but `explained` names violations, a line each.

    `explained` counts what came again as it may: no acknowledgement had been sent, or the process
    that got it was killed before the next one began.
    """

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    second_ids: list[str] = field(default_factory=list)
    changed_bodies: list[str] = field(default_factory=list)
    redelivered: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    explained: int = 0

    @property
    def violations(self) -> list[str]:
        """Give every line, behind the name of its field."""
        return [
            f"{it.name}: {line}"
            for it in fields(self)
            if it.name != "explained"
            for line in getattr(self, it.name)
        ]


def examine(
    shown: Iterable[Shown],
    arrivals: Sequence[Arrival],
    *,
    sinks: Collection[str] = ("webhook",),
    begins: Sequence[float] = (),
    store: Path | None = None,
    is_store_whole: bool = True,
) -> Findings:
    """Examine a run that is over, when all that was owed has had its time to arrive.

    `begins` are the moments, in order, at which processes began whose predecessor was killed.
    `is_store_whole`: the database was never lost, so that bodies may not change either.
    """
    owed = {(it.job_id, it.type) for it in shown}
    redelivered, explained = _redelivered(arrivals, begins)
    return Findings(
        lost=_lost(owed, arrivals, sinks),
        unexpected=_unexpected(owed, arrivals),
        second_ids=_several(arrivals, _fact, lambda it: it.event_id),
        changed_bodies=_several(arrivals, lambda it: it.event_id, _digest)
        if is_store_whole
        else [],
        redelivered=redelivered,
        out_of_order=_out_of_order(arrivals),
        unsettled=_unsettled(store, sinks) if store else [],
        damaged=_damaged(store) if store else [],
        explained=explained,
    )


def _lost(
    owed: Iterable[tuple[str, str]], arrivals: Iterable[Arrival], sinks: Iterable[str]
) -> list[str]:
    came = {(it.sink, it.job_id, it.type) for it in arrivals}
    return [
        f"{fact} to {sink}" for fact in sorted(owed) for sink in sinks if (sink, *fact) not in came
    ]


def _unexpected(owed: Collection[tuple[str, str]], arrivals: Iterable[Arrival]) -> list[str]:
    return [f"{_fact(it)}" for it in arrivals if _fact(it) not in owed]


def _several(
    arrivals: Iterable[Arrival],
    key: Callable[[Arrival], Hashable],
    value: Callable[[Arrival], str],
) -> list[str]:
    """Name each key that has more than one value."""
    found: dict[Hashable, set[str]] = defaultdict(set)
    for it in arrivals:
        if it.type not in REPEATABLE:
            found[key(it)].add(value(it))
    return [f"{one}: {sorted(several)}" for one, several in found.items() if len(several) > 1]


def _redelivered(arrivals: Iterable[Arrival], begins: Sequence[float]) -> tuple[list[str], int]:
    """Name what came again though the living process could know that it had arrived.

    What a process had sent when it was killed may be taken in a moment later, but long before the
    next one has done its imports: an arrival belongs to the process that began last.
    """
    unexplained, explained = [], 0
    known: dict[tuple[str, str], Arrival] = {}
    for it in sorted(arrivals, key=lambda it: it.at):
        before = known.get((it.sink, it.event_id))
        known[it.sink, it.event_id] = it
        if before is None or it.is_replay:
            continue
        is_known = before.acknowledged_at is not None and before.acknowledged_at <= it.at
        if is_known and bisect_right(begins, before.at) == bisect_right(begins, it.at):
            unexplained.append(f"{it.event_id} of {_fact(it)} to {it.sink}")
        else:
            explained += 1
    return unexplained, explained


def _out_of_order(arrivals: Iterable[Arrival]) -> list[str]:
    """Name each event that came for the first time after a later one of the same job."""
    last: dict[tuple[str, str], int] = defaultdict(int)
    seen: set[tuple[str, str]] = set()
    wrong = []
    for it in sorted(arrivals, key=lambda it: it.at):
        if (it.sink, it.event_id) in seen:
            continue
        seen.add((it.sink, it.event_id))
        if it.sequence < last[it.sink, it.job_id]:
            wrong.append(f"{_fact(it)} to {it.sink}")
        last[it.sink, it.job_id] = max(it.sequence, last[it.sink, it.job_id])
    return wrong


UNSETTLED: Final = """
SELECT events.type || ' of ' || events.subject || ' to ' || sinks.value || ': '
       || coalesce(group_concat(status), 'never')
  FROM events
  JOIN json_each(:sinks) AS sinks
  LEFT JOIN deliveries ON event_id = events.id AND sink = sinks.value
 GROUP BY events.id, sinks.value
HAVING count(*) <> 1 OR coalesce(status, '') NOT IN ('delivered', 'dead')
"""


def _unsettled(store: Path, sinks: Iterable[str]) -> list[str]:
    """Name each event that is not either delivered to a sink or dead, once."""
    names = ",".join(f'"{it}"' for it in sinks)
    return _ask(store, UNSETTLED, {"sinks": f"[{names}]"})


def _damaged(store: Path) -> list[str]:
    return [line for line in _ask(store, "PRAGMA integrity_check", {}) if line != "ok"]


def _ask(store: Path, statement: str, values: dict[str, str]) -> list[str]:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return [text for (text,) in db.execute(statement, values)]


def _fact(it: Arrival) -> tuple[str, str]:
    return it.job_id, it.type


def _digest(it: Arrival) -> str:
    return hashlib.sha256(it.body).hexdigest()
