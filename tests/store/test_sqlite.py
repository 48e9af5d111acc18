"""What only the store on disk can do, or get wrong."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from poller.core.outbox import SinkBacklog, WriteBatch
from poller.store import sql as statements
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    ROUTES,
    Hands,
    a_state,
    a_store,
    an_event,
    buried,
    due,
    event_ids,
    postponed,
)

WITHOUT_HOOK = {LOG: ROUTES[LOG]}


def tamper(path: Path, statement: str) -> None:
    """Change a database behind the store's back."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def pragma(store: SqliteStore, name: str) -> Any:
    """Read a setting of the store's own connection."""
    return store._database.transact(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])


async def test_commits_are_made_to_last(disk: SqliteStore) -> None:
    """A commit survives a loss of power: WAL with synchronous=FULL, which is 2."""
    assert pragma(disk, "journal_mode") == "wal"
    assert pragma(disk, "synchronous") == 2
    assert pragma(disk, "foreign_keys") == 1


def plan(store: SqliteStore, statement: str) -> str:
    """Read how SQLite goes about a statement."""
    values = dict.fromkeys(re.findall(r":(\w+)", statement))
    rows = store._database.transact(
        lambda db: db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    )
    return "\n".join(row["detail"] for row in rows)


@pytest.mark.parametrize("verb", ["DUE", "EARLY", "BACKLOGS", "LOAD_STATES", "SETTLE", "EXPEDITE"])
async def test_daily_verbs_scan_no_table(disk: SqliteStore, verb: str) -> None:
    """A verb of the loops finds its rows by an index, however much has been delivered."""
    steps = plan(disk, getattr(statements, verb))

    assert "SEARCH" in steps
    assert not re.search("^SCAN (deliveries|earlier|events|jobs)", steps, re.MULTILINE)


async def test_due_reads_no_more_than_it_gives(disk: SqliteStore) -> None:
    """What is due is read in order, and what stands before it is one step away."""
    steps = plan(disk, statements.DUE)

    assert "SEARCH deliveries USING INDEX deliveries_by_due (sink=? AND due<?)" in steps
    assert re.search(r"SEARCH earlier USING .*deliveries_in_line \(sink=\? AND subject=\?", steps)
    assert "ORDER BY" not in steps


async def test_batch_is_all_or_nothing(disk: SqliteStore) -> None:
    """When the last event of a batch cannot be written, nothing of the batch is."""
    bad = an_event("2", subject=None)
    batch = WriteBatch(states=[a_state()], events=[an_event("1"), bad], flags={"a": "1"})

    with pytest.raises(sqlite3.IntegrityError):
        await disk.write(batch)

    assert await disk.load_states(["job-1"]) == []
    assert await due(disk, NOON) == []
    assert await disk.get_flags() == {}


async def test_changed_body_is_noticed(path: Path, now: Hands) -> None:
    """A body whose bytes are no longer the frozen ones is handed out as not intact."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    tamper(path, "UPDATE events SET body = CAST('{}' AS BLOB)")

    async with a_store(path, now) as store:
        (delivery,) = await due(store, NOON)

    assert not delivery.is_intact


@pytest.mark.parametrize("change", ["job = '{'", "job = '[]'", "status = 'x'", "phase = 'x'"])
async def test_damaged_state_is_left_out(path: Path, now: Hands, change: str) -> None:
    """A job whose row makes no sense is loaded as if it had none, with a log line."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state("job-1"), a_state("job-2")]))
    tamper(path, f"UPDATE jobs SET {change} WHERE job_id = 'job-1'")

    async with a_store(path, now) as store:
        with capture_logs() as lines:
            states = await store.load_states(["job-1", "job-2"])

    assert states == [a_state("job-2")]
    assert [(line["event"], line["job_id"]) for line in lines] == [("store.damaged_job", "job-1")]


async def test_far_due_time_is_brought_near(path: Path, now: Hands) -> None:
    """A due time more than 24 h ahead, by a clock that was wrong, is 24 h ahead after a start."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))
        first, second = await due(store, NOON)
        await store.settle([postponed(first, NOON + 9 * DAY), postponed(second, NOON + 60)])

    async with a_store(path, now) as store:
        assert await event_ids(store, NOON + 60) == ["evt_2"]
        assert await event_ids(store, NOON + DAY) == ["evt_2", "evt_1"]


async def test_sink_that_leaves_is_parked_with_its_backlog(path: Path, now: Hands) -> None:
    """A sink that is not configured any more is told as long as it has deliveries left."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        parked = SinkBacklog(
            name=HOOK, pending=1, last_due=NOON, oldest_pending_at=NOON, is_configured=False
        )

        assert await store.backlogs() == [SinkBacklog(name=LOG), parked]


async def test_sink_that_left_with_nothing_is_not_told(path: Path, now: Hands) -> None:
    """A sink that left the configuration and has no deliveries left is not spoken of."""
    async with a_store(path, now):
        pass

    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        assert await store.backlogs() == [SinkBacklog(name=LOG)]


async def test_parked_deliveries_die_after_a_week(path: Path, now: Hands) -> None:
    """The deliveries of a sink that left are dead after 7 days, and not before."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    now.turn(DAY)
    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        await store.prune(now.turn(7 * DAY - 1), [])
        before = await store.backlogs()
        await store.prune(now.turn(1), [])

        assert [(state.pending, state.dead) for state in before] == [(0, 0), (1, 0)]
        assert [(state.pending, state.dead) for state in await store.backlogs()] == [(0, 0), (0, 1)]


async def test_sink_that_comes_back_goes_on(path: Path, now: Hands) -> None:
    """A sink that is configured again finds its backlog, and its week begins anew."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
    async with a_store(path, now, routes=WITHOUT_HOOK):
        now.turn(6 * DAY)

    async with a_store(path, now) as store:
        await store.prune(now.turn(2 * DAY), [])

        assert await event_ids(store, now()) == ["evt_1"]


async def test_new_sink_gets_no_history(path: Path, now: Hands) -> None:
    """A sink that is new in the configuration gets what comes, not what was."""
    async with a_store(path, now, routes=WITHOUT_HOOK) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))

        assert await event_ids(store, NOON) == ["evt_2"]


async def test_deployments_are_apart(path: Path, now: Hands) -> None:
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
    """The reason of an attempt replaces that of the one before."""
    await disk.write(WriteBatch(events=[an_event("1")]))
    (delivery,) = await due(disk, NOON)
    await disk.settle([postponed(delivery, NOON, reason="HTTP 500")])
    await disk.settle([buried(delivery, reason="HTTP 400")])

    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT reason, attempts FROM deliveries").fetchall() == [("HTTP 400", 2)]


@pytest.mark.virtual
async def test_store_can_do_without_threads(path: Path, now: Hands) -> None:
    """In virtual time, which knows no threads, the verbs run where they are called."""
    async with a_store(path, now, in_thread=False) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

        assert await event_ids(store, NOON) == ["evt_1"]
