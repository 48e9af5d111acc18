"""The database file: its lock, and recovery from disk errors."""

import errno
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from resource import RLIMIT_FSIZE, RLIMIT_NOFILE
from stat import S_IMODE

import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreError, StoreLocked, StoreUnavailable, StoreUnusable
from poller.core.outbox import WriteBatch
from poller.store import database, file_checks, opening
from poller.store import network_fs as mounts
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import (
    NOON,
    ManualClock,
    a_state,
    a_store,
    an_event,
    delivered,
    due,
    event_ids,
    limited,
    reopen,
)

PAGE = 4096


def file_modes(path: Path) -> dict[str, int]:
    """Return the mode of each file in the directory of a path."""
    return {entry.name: S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}


def contents(*paths: Path) -> list[bytes]:
    """Return the bytes of files."""
    return [path.read_bytes() for path in paths]


def overwrite(path: Path, start: int, junk: bytes = b"\xff" * 100_000) -> None:
    """Write junk into a file from an offset on."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(start)
        file.write(junk)


async def fill(path: Path, now: ManualClock) -> None:
    """Create a database with one job and one event."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state()], events=[an_event("1")]))


async def test_files_are_private(tmp_path: Path, now: ManualClock) -> None:
    """The database, its lock and its other files have mode 0600."""
    path = tmp_path / "state.db"
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
        files = file_modes(path)

    names = ("state.db", "state.db.key", "state.db.lock", "state.db-shm", "state.db-wal")
    assert files == dict.fromkeys(names, 0o600)


async def test_second_process_is_locked_out(
    disk: SqliteStore, path: Path, now: ManualClock
) -> None:
    """While one process has a store open, no other can open it, and the first is not disturbed."""
    with pytest.raises(StoreLocked, match=re.escape(str(path))):
        await a_store(path, now).__aenter__()

    await disk.write(WriteBatch(events=[an_event("1")]))
    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_lock_is_released(path: Path, now: ManualClock) -> None:
    """A store that was closed, or failed to open, can be opened again."""
    async with a_store(path, now):
        pass
    with limited(RLIMIT_FSIZE, 0), pytest.raises(StoreUnavailable):
        await a_store(path, now).__aenter__()

    async with a_store(path, now) as store:
        assert await store.get_flags() == {}


async def test_newer_database_is_unchanged(path: Path, now: ManualClock) -> None:
    """A database of a newer version is unusable, and not a byte of it changes."""
    await fill(path, now)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    wal = path.with_name("state.db-wal")
    before = contents(path, wal)

    with pytest.raises(StoreUnusable, match="newer version") as refusal:
        await a_store(path, now).__aenter__()

    assert contents(path, wal) == before
    assert str(path) in str(refusal.value)
    newer.close()


@pytest.mark.parametrize("place", ["folder", "file/state.db", "f" * 300])
async def test_invalid_path_is_unusable(tmp_path: Path, now: ManualClock, place: str) -> None:
    """A path that cannot be a database is reported in one line with the path and the rule."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnusable) as refusal:
        await a_store(tmp_path / place, now).__aenter__()

    message = str(refusal.value)
    assert message.startswith(f"POLLER_STORE: {tmp_path / place}: ")
    assert message.endswith("; use a file in a directory that this user can write to")
    assert "\n" not in message


async def test_network_file_system_is_unusable(
    path: Path, now: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system is reported by its type, with the setting that allows it."""
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / / rw,noatime - nfs4 server:/export rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", table)

    with pytest.raises(StoreUnusable, match=r"nfs4.*POLLER_ALLOW_NETWORK_STORE=on"):
        await a_store(path, now).__aenter__()

    assert "state.db" not in file_modes(path)
    async with a_store(path, now, allow_network=True) as store:
        assert await store.get_flags() == {}


@pytest.mark.parametrize("start", [0, PAGE])
async def test_damaged_file_is_quarantined(path: Path, now: ManualClock, start: int) -> None:
    """A database that is damaged when it is opened is renamed, and a new one is created."""
    await fill(path, now)
    overwrite(path, start)
    damaged = contents(path)

    with capture_logs() as lines:
        async with a_store(path, now) as store:
            await store.write(WriteBatch(events=[an_event("2")]))

            assert await event_ids(store, NOON) == ["evt_2"]
            assert await store.load_states(["job-1"]) == []

    (renamed,) = path.parent.glob("state.db.corrupt-*Z")
    assert re.fullmatch(r"state\.db\.corrupt-\d{8}T\d{6}\.\d{6}Z", renamed.name)
    assert contents(renamed) == damaged
    assert [(line["event"], line["quarantine"]) for line in lines] == [
        ("store.corrupt", str(renamed))
    ]


@pytest.mark.parametrize("text", [b"my notes\n", b"SQLite", b"\0" * 5_000])
async def test_file_that_never_was_a_database_is_unusable(
    path: Path, now: ManualClock, text: bytes
) -> None:
    """A file of something else is not replaced by a database: its path is a mistake."""
    overwrite(path, 0, text)

    with pytest.raises(StoreUnusable, match="it is not a database; use another path"):
        await a_store(path, now).__aenter__()

    assert contents(path) == [text]
    assert list(path.parent.iterdir()) == [path]


async def test_empty_file_becomes_a_database(path: Path, now: ManualClock) -> None:
    """An empty file may have been made to be the database."""
    overwrite(path, 0, b"")

    async with a_store(path, now) as store:
        assert await store.get_flags() == {}


class DiskIoError(sqlite3.OperationalError):
    """SQLite's error where the memory of its WAL cannot be mapped, among other faults."""

    sqlite_errorcode = sqlite3.SQLITE_IOERR


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENODEV, StoreUnusable, r"is on a file system \(.+\) that cannot share memory"),
        (errno.ENOMEM, StoreUnavailable, "disk I/O error"),
    ],
)
async def test_file_system_without_shared_mappings_is_unusable(
    path: Path,
    now: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StoreError],
    text: str,
) -> None:
    """Where memory cannot be shared the store would never work; a lack of memory may end."""

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def fails_in_sqlite(*_: object, **_named: object) -> None:
        raise DiskIoError("disk I/O error")

    monkeypatch.setattr(file_checks.mmap, "mmap", fails)
    monkeypatch.setattr(opening, "connect", fails_in_sqlite)

    with pytest.raises(kind, match=text):
        await a_store(path, now).__aenter__()


async def test_pipe_is_unusable(path: Path, now: ManualClock) -> None:
    """A pipe, whose opening would hang, is no place for a database."""
    os.mkfifo(path)

    with pytest.raises(StoreUnusable, match="it is not a regular file"):
        await a_store(path, now).__aenter__()


async def test_foreign_file_is_quarantined(path: Path, now: ManualClock) -> None:
    """A file that is not a database is renamed, with the files named like its log."""
    overwrite(path, 0, b"hello")
    overwrite(path.with_name("state.db-wal"), 0, b"world")

    async with a_store(path, now):
        pass

    (renamed,) = path.parent.glob("state.db.corrupt-*Z")
    assert contents(renamed, renamed.with_name(f"{renamed.name}-wal")) == [b"hello", b"world"]


async def test_damage_while_running_is_quarantined(path: Path, now: ManualClock) -> None:
    """A database found damaged while open is renamed; the next verb uses a new one."""
    await fill(path, now)
    async with a_store(path, now) as store:
        name = store.database_id
        overwrite(path, PAGE)
        with pytest.raises(StoreUnavailable):
            await store.load_states(["job-1"])

        assert await store.load_states(["job-1"]) == []
        assert store.database_id != name
    assert len(list(path.parent.glob("state.db.corrupt-*Z"))) == 1


async def test_file_that_replaces_another_gets_nothing_of_its_wal(
    path: Path, now: ManualClock
) -> None:
    """What the log of a replaced file has does not get into the file at its path: it is damage."""
    await fill(path, now)
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("2", "job-2")]))
        copy.replace(path)

        assert await event_ids(store, NOON) == ["evt_1"]
        await store.write(WriteBatch(events=[an_event("3", "job-3")]))
        assert await event_ids(store, NOON) == ["evt_1", "evt_3"]


async def test_outcome_of_a_replaced_database_is_ignored(path: Path, now: ManualClock) -> None:
    """An attempt in flight while a database was replaced is not recorded for another delivery."""
    await fill(path, now)
    async with a_store(path, now) as store:
        (delivery,) = await due(store, NOON)
        overwrite(path, PAGE)
        with pytest.raises(StoreUnavailable):
            await store.load_states(["job-1"])
        await store.write(WriteBatch(events=[an_event("2")]))

        await store.settle([delivered(delivery)])

        assert await event_ids(store, NOON) == ["evt_2"]


async def test_full_disk_recovers(disk: SqliteStore) -> None:
    """On a full disk nothing is half written; with space, the same batch succeeds."""
    await disk.write(WriteBatch(events=[an_event("1")]))
    batch = WriteBatch(states=[a_state()], events=[an_event("2", "job-2")])

    with limited(RLIMIT_FSIZE, PAGE):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await disk.write(batch)
    between = await event_ids(disk, NOON), await disk.load_states(["job-1"])
    await disk.write(batch)
    await reopen(disk)

    assert between == (["evt_1"], [])
    assert await event_ids(disk, NOON) == ["evt_1", "evt_2"]


async def test_full_disk_is_reported_until_a_change_succeeds(disk: SqliteStore) -> None:
    """Queries and changes of nothing succeed on a full disk, and do not hide it."""
    with limited(RLIMIT_FSIZE, 10 * PAGE):
        with pytest.raises(StoreUnavailable):
            await disk.write(WriteBatch(events=[an_event("1")]))
        await disk.get_flags()
        await disk.remove_ids(["job-1"])
        while_full = disk.last_error
    await disk.get_flags()
    after_read = disk.last_error
    await disk.write(WriteBatch(events=[an_event("1")]))

    assert while_full
    assert after_read == while_full
    assert disk.last_error is None


async def test_event_that_could_not_be_written_is_not_due(disk: SqliteStore) -> None:
    """What a failed transaction would have written is not sent."""
    with limited(RLIMIT_FSIZE, PAGE), pytest.raises(StoreUnavailable):
        await disk.write(WriteBatch(events=[an_event("1", body=b"x" * 100_000)]))

    assert await event_ids(disk, NOON) == []


def open_files(path: Path) -> int:
    """Return how many open files of this process are the database."""
    return sum(link.resolve() == path for link in Path("/proc/self/fd").iterdir())


async def test_failed_write_leaves_no_connection_open(disk: SqliteStore, path: Path) -> None:
    """A connection is closed at once after a failure, even while the error is kept.

    A connection that closes later would remove the WAL of a file that replaced its own.
    """

    def work(db: sqlite3.Connection) -> sqlite3.Cursor:
        db.execute("INSERT INTO flags VALUES ('a', hex(zeroblob(10000)))")
        rows = db.execute("SELECT value FROM json_each('[1, 2]')")
        assert next(rows)
        return rows

    with limited(RLIMIT_FSIZE, PAGE), pytest.raises(StoreUnavailable) as kept:
        disk._database.transact(work)

    assert open_files(path) == 1  # the lock
    assert kept.value.__cause__


async def test_sqlite_full_is_unavailable(disk: SqliteStore) -> None:
    """SQLite's own error for a full disk is StoreUnavailable."""
    disk._database.transact(lambda db: db.execute("PRAGMA max_page_count = 1"))

    with pytest.raises(StoreUnavailable, match="full"):
        await disk.write(WriteBatch(events=[an_event("1", body=b"x" * 100_000)]))


async def test_no_file_descriptors_at_start_is_unavailable(path: Path, now: ManualClock) -> None:
    """A temporary error of the system when the store is opened is worth a retry."""
    store = a_store(path, now, in_thread=False)

    with limited(RLIMIT_NOFILE, 0), pytest.raises(StoreUnavailable, match="Too many open files"):
        await store.__aenter__()

    async with store:
        assert await store.get_flags() == {}


async def test_no_file_descriptors_on_reconnect_is_unavailable(
    path: Path, now: ManualClock
) -> None:
    """A temporary error of the system when the store reconnects is worth a retry."""
    async with a_store(path, now, in_thread=False) as store:
        with limited(RLIMIT_FSIZE, 0), pytest.raises(StoreUnavailable):
            await store.write(WriteBatch(flags={"a": "1"}))
        with limited(RLIMIT_NOFILE, 0), pytest.raises(StoreUnavailable):
            await store.get_flags()

        assert await store.get_flags() == {}


async def test_busy_store_is_unavailable(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that keeps the database locked makes it unavailable, not damaged.

    The time of the error is recorded.
    """
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.0)
    async with a_store(path, now) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.get_flags()
        now.advance(10.0)

        assert await store.get_flags() == {}
        assert store.last_error_at == NOON


async def test_bug_is_not_a_disk_error(disk: SqliteStore) -> None:
    """A programming error is raised unchanged, and the store still works."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        disk._database.transact(lambda db: db.execute("SELECT * FROM nowhere"))

    assert await disk.get_flags() == {}


def remove(path: Path) -> None:
    """Remove a database with all its files."""
    for name in file_modes(path):
        path.with_name(name).unlink()


def read(path: Path) -> bytes:
    """Return the bytes of a file."""
    return path.read_bytes()


def damage(path: Path) -> None:
    """Overwrite a database with text."""
    path.write_bytes(b"this is no database" * 1_000)


def foreign_database(path: Path) -> bytes:
    """Create the database of another program, and return its bytes."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.commit()
    return read(path)


async def test_removed_file_is_replaced(disk: SqliteStore, path: Path) -> None:
    """Events that are recorded after the file was removed are in a new file with a new id."""
    before = disk.database_id
    remove(path)

    await disk.write(WriteBatch(events=[an_event("1")]))

    assert disk.database_id != before
    assert await event_ids(disk, 1e12) == [an_event("1").id]
    assert "state.db" in file_modes(path)


async def test_removed_wal_loses_nothing(disk: SqliteStore, path: Path) -> None:
    """What is recorded before and after the WAL of an open database was removed is in the file."""
    await disk.write(WriteBatch(events=[an_event("1")]))
    path.with_name("state.db-wal").unlink()

    await disk.write(WriteBatch(events=[an_event("2", "job-2")]))

    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT id FROM events").fetchall() == [("evt_1",), ("evt_2",)]


async def test_wal_shrinks_after_a_long_reader(disk: SqliteStore, path: Path) -> None:
    """The WAL grows while another program reads; once it has gone, it is truncated."""
    large = WriteBatch(flags={"large": "x" * (opening.MAX_IDLE_WAL_BYTES + 1)})
    wal = path.with_name("state.db-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        await disk.write(large)
    grown = wal.stat().st_size

    await disk.write(WriteBatch(flags={"small": ""}))  # moves all that is in the WAL
    await disk.write(WriteBatch(flags={"small": "1"}))

    assert grown > opening.MAX_IDLE_WAL_BYTES >= wal.stat().st_size


async def test_foreign_database_is_unchanged(path: Path, now: ManualClock) -> None:
    """A SQLite file with other tables is unusable, and not a byte of it changes."""
    content = foreign_database(path)

    with pytest.raises(StoreUnusable, match="another program"):
        await a_store(path, now).__aenter__()

    assert read(path) == content


def interrupt_change(path: Path) -> None:
    """Leave an unfinished change in a database in rollback mode, as a killed process does."""
    poll_log = path.with_name(path.name + "-journal")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        db.execute("UPDATE events SET body = zeroblob(1000000)")
        left = contents(path, poll_log)
    path.write_bytes(left[0])
    poll_log.write_bytes(left[1])


async def test_kill_during_creation_does_not_lock_the_file(path: Path, now: ManualClock) -> None:
    """A change that a kill interrupted outside of WAL mode is rolled back at the next start."""
    await fill(path, now)
    interrupt_change(path)

    async with a_store(path, now) as store:
        due_ids = await event_ids(store, 1e12)

    assert due_ids == [an_event("1").id]


async def test_damaged_file_that_cannot_be_renamed_is_unavailable(
    disk: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a damaged file cannot be renamed, the store is unavailable; nothing crashes."""

    def deny(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", deny)
    disk._database._disconnect()
    damage(path)

    with pytest.raises(StoreUnavailable, match="is damaged and cannot be renamed"):
        await disk.get_flags()
