"""Large changes and long queries: in portions, in little memory, and not for ever."""

import sqlite3
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from poller.core.errors import StoreUnavailable
from poller.core.outbox import DAY, Pruned, WriteBatch
from poller.store import SINK_DISABLED, repairs, sqlite
from poller.store.admin import StoreAdmin
from poller.store.connection import Work
from poller.store.filters import EventFilter
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from tests.support.large_database import Contents, make_large_database
from tests.support.store_builders import (
    HOOK,
    NOON,
    ROUTES,
    AnyStore,
    ManualClock,
    an_event,
    dead,
    delivered,
    due,
    event_ids,
)

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
DEAD = EventFilter(sink=HOOK, state="dead")


@pytest.fixture(autouse=True)
def _small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PORTION", 2)
    monkeypatch.setattr(repairs, "PORTION", 2)


async def record(store: AnyStore, *names: str) -> None:
    """Record events, each of a job of its own name without the digit."""
    events = [an_event(name, f"job-{name.rstrip('0123456789')}") for name in names]
    await store.write(WriteBatch(events=events))


def counts(store: AnyStore) -> tuple[int, int]:
    """Return the pending and dead deliveries of the webhook."""
    row = next(row for row in store.admin().sinks() if row["sink"] == HOOK)
    return row["pending"], row["dead"]


async def test_disabling_makes_every_portion_dead(store: AnyStore) -> None:
    """All deliveries of a disabled sink become dead, however many there are."""
    await record(store, "a1", "a2", "b1", "c1", "d1")

    await store.disable_sink(HOOK, "410")

    assert counts(store) == (0, 5)


async def test_sweep_goes_on_with_an_interrupted_disabling(
    disk: SqliteStore, path: Path, now: ManualClock
) -> None:
    """What a crash left pending at a disabled sink is not sent, and dead after the next sweep."""
    await record(disk, "a1", "b1", "c1")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE sinks SET disabled_reason = '410' WHERE name = 'webhook'")

    assert await due(disk, NOON) == []
    await disk.prune(now(), [])

    assert counts(disk) == (0, 3)


async def test_order_is_kept_while_a_sink_is_enabled(store: AnyStore) -> None:
    """An event that is recorded while a sink is being enabled comes after those of its job."""
    await record(store, "a1", "b1", "c1", "d1", "e1")
    await store.disable_sink(HOOK, "410")

    restored = store.admin().enable_sink(HOOK) or iter(())
    first = next(restored)["event_id"]
    await record(store, "e2")
    between = await due(store, NOON)
    rest = [row["event_id"] for row in restored]

    assert between == []
    assert [first, *rest] == ["evt_a1", "evt_b1", "evt_c1", "evt_d1", "evt_e1", "evt_e2"]
    assert await event_ids(store, NOON) == ["evt_a1", "evt_b1", "evt_c1", "evt_d1", "evt_e1"]


async def test_sweep_while_a_sink_is_enabled_leaves_nothing_dead(
    store: AnyStore, now: ManualClock
) -> None:
    """What a sweep makes dead again while a sink is being enabled is restored with the rest."""
    await record(store, "a1", "b1", "c1", "d1", "e1")
    await store.disable_sink(HOOK, "410")

    restored = store.admin().enable_sink(HOOK) or iter(())
    next(restored)
    await store.prune(now(), [])
    list(restored)

    assert counts(store) == (5, 0)


async def test_interrupted_enabling_can_be_repeated(store: AnyStore) -> None:
    """A sink whose enabling was interrupted is still disabled, and is enabled by the next."""
    await record(store, "a1", "b1", "c1")
    await store.disable_sink(HOOK, "410")
    next(store.admin().enable_sink(HOOK) or iter(()))

    assert store.admin().sinks()[1]["state"] == "disabled"
    assert await due(store, NOON) == []
    assert len([*(store.admin().enable_sink(HOOK) or ())]) == 1
    assert await event_ids(store, NOON) == ["evt_a1", "evt_b1", "evt_c1"]


async def test_replay_begins_with_the_first_event_of_a_job(store: AnyStore) -> None:
    """Of a job's dead events the first is replayed first, whatever portion the others are in."""
    await record(store, "a1", "b1", "a2", "a3")
    await store.disable_sink(HOOK, "410")
    list(store.admin().enable_sink(HOOK) or ())
    for delivery in await due(store, NOON):
        await store.settle([delivered(delivery)])

    replayed = [row["event_id"] for row in store.admin().replay(EventFilter(sink=HOOK))]

    assert replayed == ["evt_a1", "evt_b1", "evt_a2", "evt_a3"]
    assert await event_ids(store, NOON) == ["evt_a1", "evt_b1"]


async def test_old_events_are_deleted_beside_kept_ones(store: AnyStore, now: ManualClock) -> None:
    """A sweep passes over the old events that it must keep."""
    await record(store, "a1", "b1", "c1", "d1", "e1")
    found = await due(store, NOON)
    await store.settle([delivered(delivery) for delivery in found[3:]])

    assert (await store.prune(now.advance(8 * DAY), [])).events == 2
    assert await event_ids(store, now()) == ["evt_a1", "evt_b1", "evt_c1"]


async def test_failed_sweep_reports_what_it_has_deleted(
    disk: SqliteStore, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that fails after a portion counts that portion: nothing is deleted silently."""
    await record(disk, "a1", "b1", "c1")
    await disk.settle([dead(delivery) for delivery in await due(disk, NOON)])
    transact = disk._database.transact
    results: list[tuple[object, bool]] = []

    def fail_after_the_first_deletion(work: Work[tuple[object, bool]]) -> tuple[object, bool]:
        if any(is_change for _, is_change in results):
            raise StoreUnavailable("disk I/O error")
        results.append(transact(work))
        return results[-1]

    monkeypatch.setattr(disk._database, "transact", fail_after_the_first_deletion)

    assert await disk.prune(now.advance(30 * DAY), []) == Pruned(events=2, dead_letters=2)
    with pytest.raises(StoreUnavailable):
        await disk.prune(now(), [])


async def test_endless_query_is_ended(path: Path, disk: SqliteStore) -> None:
    """A query that takes too long is ended, with an error that says what to do."""
    admin = StoreAdmin(path, query_limit=0.0)

    with pytest.raises(StoreUnavailable, match="longer than 0 s; use more filters"):
        admin.read(lambda db: db.execute(ENDLESS).fetchone())
    assert disk.admin().sinks()


async def test_endless_query_in_memory_is_ended(
    now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in memory limits the time of a query too, and goes on afterwards."""
    monkeypatch.setattr("poller.store.memory.API_QUERY_LIMIT", 0.0)
    store = MemoryStore(routes=ROUTES, deployment="test", now=now)

    with pytest.raises(StoreUnavailable, match="longer than 0 s"):
        store.admin().read(lambda db: db.execute(ENDLESS).fetchone())
    await record(store, "a1")
    assert counts(store) == (1, 0)


def peak(run: Callable[[], Iterable[object]]) -> int:
    """Return the most bytes that are in use while something is iterated."""
    tracemalloc.start()
    deque(run(), maxlen=0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


VERBS: dict[str, Callable[[StoreAdmin], Iterable[object]]] = {
    "jobs": lambda admin: admin.jobs(EventFilter()),
    "costs": lambda admin: admin.costs("model", time.time() - 200.5 * DAY),
    "events": lambda admin: admin.events(EventFilter()),
    "dead letters": lambda admin: admin.deliveries(DEAD),
    "replay": lambda admin: admin.replay(DEAD),
    "enable": lambda admin: admin.enable_sink(HOOK) or (),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_memory_does_not_grow_with_the_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[StoreAdmin], Iterable[object]]
) -> None:
    """Long lists, sums and changes take as much memory for five times the rows."""
    monkeypatch.setattr(repairs, "PORTION", 50)
    monkeypatch.setattr("poller.store.pagination.PAGE_ROWS", 50)
    peaks = []
    for count in (100, 500):
        copy = path.with_name(f"{count}.db")
        make_large_database(copy, Contents(jobs=count, dead=count))
        with closing(sqlite3.connect(copy)) as db, db:
            db.execute("UPDATE deliveries SET reason = ?", (SINK_DISABLED,))
            db.execute("UPDATE sinks SET disabled_reason = '410'")
        peaks.append(peak(lambda copy=copy: verb(StoreAdmin(copy))))

    assert peaks[1] < 1.5 * peaks[0]
