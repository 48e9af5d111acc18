"""The check of a whole database in the background, and what becomes of a damaged one."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreUnavailable
from poller.core.job_status import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.state import Phase
from poller.store import integrity
from poller.store.connection import connect
from poller.store.quarantine import quarantine
from poller.store.recount import find_wrong
from poller.store.sqlite import SqliteStore
from tests.support.fakes import ended
from tests.support.large_database import Contents, make_large_database
from tests.support.store_builders import NOON, ManualClock, a_state, a_store, an_event, event_ids

PAGE = 4096
KEPT_IN = ("sinks", "deliveries", "job_counts", "job_sums")
"""The tables with values that triggers keep."""


def has_clean_end(path: Path) -> bool:
    """Return whether a database has the flag of a clean end."""
    with closing(sqlite3.connect(path)) as db:
        return bool(db.execute("SELECT 1 FROM flags WHERE name = 'clean_end'").fetchall())


async def kill(path: Path, now: ManualClock) -> Path:
    """Return a database as a killed daemon leaves it, with events on many pages."""
    left = path.with_name("left.db")
    async with a_store(path, now):
        pass
    async with a_store(path, now) as store:
        events = [an_event(str(n), f"job-{n}", body=b"x" * PAGE) for n in range(20)]
        await store.write(WriteBatch(events=events))
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{left}{suffix}")
    with closing(sqlite3.connect(left)):  # its WAL goes when it is closed
        assert not has_clean_end(left)
    return left


class HangingCheck:
    """A connection whose statement runs until it is interrupted."""

    def __init__(self) -> None:
        self.interrupted = Event()
        self.is_closed = False

    def execute(self, _statement: str) -> None:
        """Wait for the interrupt."""
        assert self.interrupted.wait(60.0)
        raise sqlite3.OperationalError("interrupted")

    def interrupt(self) -> None:
        """End the statement."""
        self.interrupted.set()

    def close(self) -> None:
        """Record the end of the connection."""
        self.is_closed = True


def wait_for_check(store: SqliteStore) -> None:
    """Wait until the check has ended."""
    check = store._database._check
    assert check
    check._thread.join(60.0)


@asynccontextmanager
async def logged(path: Path, now: ManualClock) -> AsyncIterator[SimpleNamespace]:
    """Open a store; yield it with the names of its log lines, which are complete at the end."""
    with capture_logs() as lines:
        async with a_store(path, now) as store:
            yield (opened := SimpleNamespace(store=store, names=[]))
    opened.names += [line["event"] for line in lines]


async def test_clean_end_needs_no_check(path: Path, now: ManualClock) -> None:
    """A database that was closed, or is new, is not checked; the flag is gone while it is open."""
    async with logged(path, now) as first:
        assert not has_clean_end(path)
    assert has_clean_end(path)
    async with logged(path, now) as second:
        assert not has_clean_end(path)

    assert first.names == second.names == []


async def test_killed_daemon_leaves_a_database_to_check(path: Path, now: ManualClock) -> None:
    """After a kill the whole file is checked once, though no WAL is left."""
    left = await kill(path, now)

    async with logged(left, now) as first:
        wait_for_check(first.store)
        assert len(await event_ids(first.store, NOON, limit=100)) == 20
    async with logged(left, now) as second:
        pass

    assert first.names == ["store.check_started", "store.check_completed"]
    assert second.names == []


async def test_copy_without_its_wal_is_checked(path: Path, now: ManualClock) -> None:
    """The file of a running daemon, copied without its WAL, looks like that of a killed one."""
    async with a_store(path, now):
        pass
    async with a_store(path, now):
        copy = shutil.copy(path, path.with_name("copy.db"))

    assert not has_clean_end(copy)


async def test_check_that_cannot_start_is_left_to_the_next_start(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the limit of threads leaves none for the check, the daemon works all the same."""
    left = await kill(path, now)

    def fail(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", fail)
        with capture_logs() as lines:
            async with a_store(left, now, in_thread=False) as store:
                assert await event_ids(store, NOON)
    async with logged(left, now) as second:
        wait_for_check(second.store)

    assert [line["event"] for line in lines] == ["store.check_not_started"]
    assert second.names == ["store.check_started", "store.check_completed"]


async def test_nothing_waits_for_the_check(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a check takes, the store works; a stop ends it, and it is done anew later."""
    left, hanging = await kill(path, now), HangingCheck()
    monkeypatch.setattr(integrity, "connect", lambda *_: hanging)

    async with a_store(left, now) as store:
        await store.write(WriteBatch(events=[an_event("new", "job-new")]))
        assert not hanging.interrupted.is_set()

    assert hanging.is_closed
    assert not has_clean_end(left)


async def test_damage_that_the_check_finds_is_quarantined(path: Path, now: ManualClock) -> None:
    """Damage that no verb meets is found in the background; then the database is replaced."""
    left = await kill(path, now)
    with left.open("r+b") as file:
        file.seek(-PAGE, 2)
        file.write(b"\xff" * PAGE)

    async with a_store(left, now) as store:
        wait_for_check(store)
        with pytest.raises(StoreUnavailable):
            await store.get_flags()
        await store.write(WriteBatch(events=[an_event("new")]))

        assert await event_ids(store, NOON) == ["evt_new"]
    assert len([*path.parent.glob("left.db.corrupt-*Z")]) == 1
    assert has_clean_end(left)


MISCOUNTS = {
    "pending and dead deliveries": "UPDATE sinks SET pending = pending - 1 WHERE name = 'webhook'",
    "first deliveries": "UPDATE deliveries SET is_head = NOT is_head WHERE id % 3",
    "jobs by state": "UPDATE job_counts SET jobs = jobs + 1",
    "costs": "UPDATE job_sums SET dollars = dollars + 1 WHERE kind = 'name'",
}
"""A change that no program makes, by the values that it makes wrong."""


@pytest.mark.parametrize("wrong", MISCOUNTS)
async def test_wrong_counts_are_reported_and_corrected(
    path: Path, now: ManualClock, wrong: str
) -> None:
    """The check names the values that are not what they count; the next start corrects them."""
    left = await kill(path, now)
    done = a_state("job-1", phase=Phase.DONE, status=JobStatus.SUCCEEDED, job=ended("job-1"))
    async with a_store(left, now) as store:
        await store.write(WriteBatch(states=[done, a_state("job-2")]))
    with closing(sqlite3.connect(left)) as db, db:
        kept = [db.execute(f"SELECT * FROM {table}").fetchall() for table in KEPT_IN]
        assert db.execute(MISCOUNTS[wrong]).rowcount
        db.execute("DELETE FROM flags WHERE name = 'clean_end'")

    with capture_logs() as lines:
        for _ in range(2):
            async with a_store(left, now) as store:
                if store._database._check:
                    wait_for_check(store)

    assert [line["wrong"] for line in lines if line["event"] == "store.miscounted"] == [wrong]
    with closing(sqlite3.connect(left)) as db:
        assert kept == [db.execute(f"SELECT * FROM {table}").fetchall() for table in KEPT_IN]


VERIFY_IN = """
import sys
from pathlib import Path
from poller.store.connection import connect
from poller.store.recount import count_again, find_wrong

db = connect(Path(sys.argv[1]), "rw")
db.execute(f"PRAGMA hard_heap_limit = {sys.argv[2]}")
wrong = find_wrong(db)
db.execute("BEGIN")
count_again(db)
print(wrong, find_wrong(connect(Path(sys.argv[1]), "ro")))
"""
"""A program that verifies a database and counts again, with a limit of SQLite's memory."""


def test_verification_needs_little_memory(path: Path) -> None:
    """The memory for it does not grow with the history, and 60,000 jobs do not fit into 8 MiB."""
    make_large_database(path, Contents(jobs=60_000))

    command = [sys.executable, "-c", VERIFY_IN, str(path), str(8 << 20)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert (ended.stdout, ended.stderr) == ("[] []\n", "")


@pytest.mark.parametrize(("key", "day"), [("'other'", "day"), ("key", "''"), ("key", "'2024'")])
def test_sums_of_no_job_are_wrong(path: Path, key: str, day: str) -> None:
    """A sum for which there is no job is found, on whichever day it is."""
    make_large_database(path, Contents(jobs=10))

    with closing(connect(path, "rw")) as db:
        assert find_wrong(db) == []
        row = f"kind, {key}, {day}, jobs, input_tokens, output_tokens, cost_unknown, dollars"
        db.execute(f"INSERT INTO job_sums SELECT {row}, trillionths FROM job_sums LIMIT 1")
        assert find_wrong(db) == ["costs"]


def test_times_that_are_no_dates_are_verified(path: Path) -> None:
    """Jobs whose end has an odd time have sums too, which are right."""
    make_large_database(path, Contents(jobs=6))

    with closing(connect(path, "rw")) as db:
        for number, time in enumerate(["", "2", "2024-01", "2024-01-15", "2024-01-15Z", "soon"], 1):
            change = "job = json_set(job, '$.datetime_completed', ?)"
            job_id = f"job-{number:08}"
            assert db.execute(f"UPDATE jobs SET {change} WHERE job_id = ?", (time, job_id)).rowcount
        assert len(db.execute("SELECT DISTINCT day FROM job_sums WHERE jobs").fetchall()) == 5
        assert find_wrong(db) == []
        db.execute("UPDATE job_sums SET dollars = dollars + 1 WHERE day = '2'")
        assert find_wrong(db) == ["costs"]


async def test_replaced_file_is_checked(path: Path, now: ManualClock) -> None:
    """The check of a file that was replaced ends, and the new one gets its own."""
    left = await kill(path, now)

    async with logged(path, now) as opened:
        left.replace(path)
        assert len(await event_ids(opened.store, NOON, limit=100)) == 20
        wait_for_check(opened.store)

    assert opened.names == ["store.file_replaced", "store.check_started", "store.check_completed"]


def test_newest_two_quarantines_are_kept(path: Path) -> None:
    """Of the damaged databases the newest two are kept, with their other files."""
    for number in range(4):
        for suffix in ("", "-wal"):
            Path(f"{path}{suffix}").write_text(str(number), "ascii")
        quarantine(path, sqlite3.DatabaseError("malformed"))

    kept = sorted(path.parent.iterdir())
    assert [file.read_text("ascii") for file in kept] == ["2", "2", "3", "3"]
    assert [file.name.endswith("-wal") for file in kept] == [False, True, False, True]
