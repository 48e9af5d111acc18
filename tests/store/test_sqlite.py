"""The SQLite store: durability, query plans and the reconciliation at a start."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from poller.core.outbox import Pruned, SinkBacklog, WriteBatch
from poller.store import sql as statements
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    ROUTES,
    ManualClock,
    a_state,
    a_store,
    an_event,
    dead,
    deferred,
    due,
    event_ids,
)

WITHOUT_HOOK = {LOG: ROUTES[LOG]}


def tamper(path: Path, statement: str) -> None:
    """Change a database without the store."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def pragma(store: SqliteStore, name: str) -> Any:
    """Return a setting of the store's own connection."""
    return store._database.transact(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])


async def test_commits_are_durable(disk: SqliteStore) -> None:
    """A commit survives a power loss: WAL with synchronous=FULL, which is 2."""
    assert pragma(disk, "journal_mode") == "wal"
    assert pragma(disk, "synchronous") == 2
    assert pragma(disk, "foreign_keys") == 1


def plan(store: SqliteStore, statement: str) -> str:
    """Return SQLite's query plan of a statement."""
    values = dict.fromkeys(re.findall(r":(\w+)", statement))
    rows = store._database.transact(
        lambda db: db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    )
    return "\n".join(row["detail"] for row in rows)


@pytest.mark.parametrize("verb", ["DUE", "EARLY", "BACKLOGS", "LOAD_STATES", "SETTLE", "EXPEDITE"])
async def test_frequent_verbs_scan_no_table(disk: SqliteStore, verb: str) -> None:
    """A frequent verb finds its rows by an index, however much has been delivered."""
    steps = plan(disk, getattr(statements, verb))

    assert "SEARCH" in steps
    assert not re.search("^SCAN (deliveries|earlier|events|jobs)", steps, re.MULTILINE)


async def test_due_reads_no_more_than_it_returns(disk: SqliteStore) -> None:
    """Due deliveries are read in order, and so are those that a probe may send."""
    steps, early = plan(disk, statements.DUE), plan(disk, statements.EARLY)

    assert "SEARCH deliveries USING INDEX deliveries_by_due (sink=? AND due<?)" in steps
    assert "SEARCH deliveries USING INDEX deliveries_by_attempt (sink=?)" in early
    assert "ORDER BY" not in steps + early


async def test_batch_is_all_or_nothing(disk: SqliteStore) -> None:
    """If the last event of a batch cannot be written, nothing of the batch is."""
    bad = an_event("2", subject=None)
    batch = WriteBatch(states=[a_state()], events=[an_event("1"), bad], flags={"a": "1"})

    with pytest.raises(sqlite3.IntegrityError):
        await disk.write(batch)

    assert await disk.load_states(["job-1"]) == []
    assert await due(disk, NOON) == []
    assert await disk.get_flags() == {}


async def test_changed_body_is_not_intact(path: Path, now: ManualClock) -> None:
    """A body whose bytes have changed on disk is returned as not intact."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    tamper(path, "UPDATE events SET body = CAST('{}' AS BLOB)")

    async with a_store(path, now) as store:
        (delivery,) = await due(store, NOON)

    assert not delivery.is_intact


@pytest.mark.parametrize("change", ["job = '{'", "job = '[]'", "status = 'x'", "phase = 'x'"])
async def test_damaged_state_is_left_out(path: Path, now: ManualClock, change: str) -> None:
    """A job with an invalid row is loaded as if it had none, and logged."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state("job-1"), a_state("job-2")]))
    tamper(path, f"UPDATE jobs SET {change} WHERE job_id = 'job-1'")

    async with a_store(path, now) as store:
        with capture_logs() as lines:
            states = await store.load_states(["job-1", "job-2"])

    assert states == [a_state("job-2")]
    assert [(line["event"], line["job_id"]) for line in lines] == [("store.damaged_job", "job-1")]


async def test_far_due_time_is_clamped(path: Path, now: ManualClock) -> None:
    """A due time more than 24 h ahead, from a wrong clock, is 24 h ahead after a start."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))
        first, second = await due(store, NOON)
        await store.settle([deferred(first, NOON + 9 * DAY), deferred(second, NOON + 60)])

    async with a_store(path, now) as store:
        assert await event_ids(store, NOON + 60) == ["evt_2"]
        assert await event_ids(store, NOON + DAY) == ["evt_2", "evt_1"]


async def test_unconfigured_sink_is_listed_with_its_backlog(path: Path, now: ManualClock) -> None:
    """A sink that is not configured any more is listed while it has deliveries left."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        parked = SinkBacklog(
            name=HOOK, pending=1, last_due=NOON, oldest_pending_at=NOON, is_configured=False
        )

        assert await store.backlogs() == [SinkBacklog(name=LOG), parked]


async def test_unconfigured_sink_without_backlog_is_not_listed(
    path: Path, now: ManualClock
) -> None:
    """A sink that is not configured any more and has no deliveries left is not listed."""
    async with a_store(path, now):
        pass

    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        assert await store.backlogs() == [SinkBacklog(name=LOG)]


async def test_deliveries_of_an_unconfigured_sink_die_after_a_week(
    path: Path, now: ManualClock
) -> None:
    """The deliveries of a removed sink are dead after 7 days, and not before."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    now.advance(DAY)
    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        await store.prune(now.advance(7 * DAY - 1), [])
        before = await store.backlogs()
        pruned = await store.prune(now.advance(1), [])

        assert pruned == Pruned(unconfigured=1)
        assert [(state.pending, state.dead) for state in before] == [(0, 0), (1, 0)]
        assert [(state.pending, state.dead) for state in await store.backlogs()] == [(0, 0), (0, 1)]


async def test_week_of_an_unconfigured_sink_begins_with_the_right_clock(
    path: Path, now: ManualClock
) -> None:
    """A sink that was removed while the clock stood in 1970 has not been gone for decades."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    now.now = DAY
    async with a_store(path, now, routes=WITHOUT_HOOK):
        pass

    now.now = NOON
    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        assert await store.prune(now.advance(7 * DAY - 1), []) == Pruned()
        assert await store.prune(now.advance(1), []) == Pruned(unconfigured=1)


async def test_reconfigured_sink_resumes(path: Path, now: ManualClock) -> None:
    """A sink that is configured again has its backlog, and its week starts again."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    async with a_store(path, now, routes=WITHOUT_HOOK):
        now.advance(6 * DAY)

    async with a_store(path, now) as store:
        await store.prune(now.advance(2 * DAY), [])

        assert await event_ids(store, now()) == ["evt_1"]


async def test_new_sink_gets_no_history(path: Path, now: ManualClock) -> None:
    """A new sink gets future events only."""
    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))

        assert await event_ids(store, NOON) == ["evt_2"]


async def test_deployments_are_separate(path: Path, now: ManualClock) -> None:
    """The same job id at another deployment is another job."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state(sequence=1)]))

    async with a_store(path, now, deployment="elsewhere") as store:
        before = await store.load_states(["job-1"])
        await store.write(WriteBatch(states=[a_state(sequence=2)]))
    async with a_store(path, now) as store:
        assert before == []
        assert await store.load_states(["job-1"]) == [a_state(sequence=1)]


async def test_reason_of_the_last_failure_is_kept(disk: SqliteStore, path: Path) -> None:
    """The reason of an attempt replaces that of the previous one."""
    await disk.write(WriteBatch(events=[an_event("1")]))
    (delivery,) = await due(disk, NOON)
    await disk.settle([deferred(delivery, NOON, reason="HTTP 500")])
    await disk.settle([dead(delivery, reason="HTTP 400")])

    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT reason, attempts FROM deliveries").fetchall() == [("HTTP 400", 2)]


@pytest.mark.virtual
async def test_store_works_without_threads(path: Path, now: ManualClock) -> None:
    """In virtual time, without threads, the verbs run in the caller's thread."""
    async with a_store(path, now, in_thread=False) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

        assert await event_ids(store, NOON) == ["evt_1"]


async def test_store_in_memory_needs_no_working_directory(
    tmp_path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in memory works in a folder that was deleted: `wait` may run anywhere."""
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    async with MemoryStore(routes=ROUTES, deployment="test", now=now) as store:
        assert store.admin().sinks()
