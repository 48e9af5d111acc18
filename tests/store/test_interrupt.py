"""Waiting for a database that another process keeps locked, and the end of all waiting."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio import from_thread

from poller.core.errors import StoreUnavailable
from poller.core.outbox import WriteBatch
from poller.store import connection, database
from poller.store.connection import Work
from poller.store.database import Database
from poller.store.file_lock import is_locked
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import NOON, a_state, an_event, event_ids

LONG = """
WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n WHERE x < 200000)
SELECT count(*) FROM n
"""


@pytest.fixture
def locked(disk: SqliteStore, path: Path) -> Iterator[sqlite3.Connection]:
    """Yield the connection of another process that is writing to the open database."""
    assert disk.database_id
    with closing(connection.connect(path, "rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@pytest.fixture(autouse=True)
def long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for other processes for much longer than a test may take."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 3_600.0)
    monkeypatch.setattr(database, "BUSY_STEP", 0.0)


async def test_busy_database_keeps_its_connection(
    disk: SqliteStore, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of another process is no reason to open or check the file again."""
    before = disk._database._connection
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.0)

    with pytest.raises(StoreUnavailable, match="locked"):
        await disk.get_flags()
    locked.execute("ROLLBACK")

    assert await disk.get_flags() == {}
    assert disk._database._connection is before


async def test_work_waits_for_another_process(
    disk: SqliteStore, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that finds the database locked is run once it is free."""
    tries: list[Work[object]] = []

    def in_transaction(db: sqlite3.Connection, work: Work[object]) -> object:
        tries.append(work)
        if len(tries) == 3:
            locked.execute("ROLLBACK")
        return connection.in_transaction(db, work)

    monkeypatch.setattr(database, "in_transaction", in_transaction)

    await disk.write(WriteBatch(events=[an_event("1")]))

    assert len(tries) == 3
    assert await event_ids(disk, NOON) == ["evt_1"]


@pytest.mark.usefixtures("locked")
async def test_interrupt_ends_the_wait_for_another_process(disk: SqliteStore) -> None:
    """After a stop nothing waits for a lock, and closing does not either."""
    disk.interrupt_after(0.0)

    with pytest.raises(StoreUnavailable, match="locked"):
        await disk.write(WriteBatch(states=[a_state()]))


async def test_interrupt_ends_a_long_statement(disk: SqliteStore) -> None:
    """A statement that runs when the time is over is interrupted; short ones still work."""
    disk.interrupt_after(0.0)

    with pytest.raises(StoreUnavailable, match="interrupted"):
        disk._database.transact(lambda db: db.execute(LONG).fetchone())

    await disk.write(WriteBatch(events=[an_event("1")]))
    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_cancelled_opening_leaves_nothing_open(path: Path) -> None:
    """A store whose opening is cancelled by a stop is closed and unlocked afterwards."""
    with anyio.CancelScope() as scope:

        def now() -> float:
            from_thread.run_sync(scope.cancel)
            return NOON

        async with SqliteStore(path, routes={}, deployment="api.sutro.sh", now=now):
            pass

    assert scope.cancel_called
    assert not is_locked(path)


def test_interrupt_ends_an_opening_at_once(path: Path) -> None:
    """What runs while a database is opened, such as a migration, gets no grace."""
    opening = Database(path, prepare=lambda db: db.execute(LONG) and None, allow_network=False)
    opening.interrupt_after(3_600.0)

    with pytest.raises(StoreUnavailable, match="interrupted"):
        opening.open()
