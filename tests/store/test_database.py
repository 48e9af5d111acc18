"""The file of a store: who may have it, and what becomes of it when the disk fails."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from resource import RLIMIT_FSIZE, RLIMIT_NOFILE
from stat import S_IMODE

import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreLocked, StoreUnavailable, StoreUnusable
from poller.core.outbox import WriteBatch
from poller.store import database
from poller.store import filesystem as mounts
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import (
    NOON,
    Hands,
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


def beside(path: Path) -> dict[str, int]:
    """Give the mode of every file of a folder."""
    return {entry.name: S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}


def contents(*paths: Path) -> list[bytes]:
    """Read files whole."""
    return [path.read_bytes() for path in paths]


def spoil(path: Path, start: int, junk: bytes = b"\xff" * 100_000) -> None:
    """Write junk into a file from some byte on."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(start)
        file.write(junk)


async def fill(path: Path, now: Hands) -> None:
    """Make a database that has something in it."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state()], events=[an_event("1")]))


async def test_files_are_for_their_owner_alone(tmp_path: Path, now: Hands) -> None:
    """Database and lock have mode 0600, and so have the other files."""
    path = tmp_path / "state.db"
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
        files = beside(path)

    names = ("state.db", "state.db.lock", "state.db-shm", "state.db-wal")
    assert files == dict.fromkeys(names, 0o600)


async def test_second_owner_is_locked_out(disk: SqliteStore, path: Path, now: Hands) -> None:
    """While one process has a store no other gets it, and the first is not disturbed."""
    with pytest.raises(StoreLocked, match=re.escape(str(path))):
        await a_store(path, now).__aenter__()

    await disk.write(WriteBatch(events=[an_event("1")]))
    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_lock_is_given_back(path: Path, now: Hands) -> None:
    """A store that was closed, or could not be opened, can be opened by another."""
    async with a_store(path, now):
        pass
    with limited(RLIMIT_FSIZE, 0), pytest.raises(StoreUnavailable):
        await a_store(path, now).__aenter__()

    async with a_store(path, now) as store:
        assert await store.get_flags() == {}


async def test_newer_database_is_left_as_it_is(path: Path, now: Hands) -> None:
    """A database of a newer version is refused, and not a byte of it changes."""
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
async def test_impossible_path_is_refused(tmp_path: Path, now: Hands, place: str) -> None:
    """A path that cannot be a database is refused in one line with the path and the rule."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnusable) as refusal:
        await a_store(tmp_path / place, now).__aenter__()

    message = str(refusal.value)
    assert message.startswith(f"POLLER_STORE: {tmp_path / place}: ")
    assert message.endswith("; use a file in a directory that this user can write to")
    assert "\n" not in message


async def test_network_disk_is_refused(
    path: Path, now: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store on a network file system is refused by name, untouched, with the way around."""
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / / rw,noatime - nfs4 server:/export rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", table)

    with pytest.raises(StoreUnusable, match=r"nfs4.*POLLER_ALLOW_NETWORK_STORE=on"):
        await a_store(path, now).__aenter__()

    assert "state.db" not in beside(path)
    async with a_store(path, now, allow_network=True) as store:
        assert await store.get_flags() == {}


@pytest.mark.parametrize("start", [0, PAGE])
async def test_damaged_file_is_set_aside(path: Path, now: Hands, start: int) -> None:
    """A database that is damaged when it is opened is kept aside, and a new one is made."""
    await fill(path, now)
    spoil(path, start)
    damaged = contents(path)

    with capture_logs() as lines:
        async with a_store(path, now) as store:
            await store.write(WriteBatch(events=[an_event("2")]))

            assert await event_ids(store, NOON) == ["evt_2"]
            assert await store.load_states(["job-1"]) == []

    (aside,) = path.parent.glob("state.db.corrupt-*Z")
    assert re.fullmatch(r"state\.db\.corrupt-\d{8}T\d{6}\.\d{6}Z", aside.name)
    assert contents(aside) == damaged
    assert [(line["event"], line["quarantine"]) for line in lines] == [
        ("store.corrupt", str(aside))
    ]


async def test_foreign_file_is_set_aside(path: Path, now: Hands) -> None:
    """A file that never was a database, and what stands for its log, are kept aside too."""
    spoil(path, 0, b"hello")
    spoil(path.with_name("state.db-wal"), 0, b"world")

    async with a_store(path, now):
        pass

    (aside,) = path.parent.glob("state.db.corrupt-*Z")
    assert contents(aside, aside.with_name(f"{aside.name}-wal")) == [b"hello", b"world"]


async def test_damage_while_running_is_set_aside(path: Path, now: Hands) -> None:
    """A database that turns out damaged at work is kept aside; the next verb has a new one."""
    await fill(path, now)
    async with a_store(path, now) as store:
        name = store.database_id
        spoil(path, PAGE)
        with pytest.raises(StoreUnavailable):
            await store.load_states(["job-1"])

        assert await store.load_states(["job-1"]) == []
        assert store.database_id != name
    assert len(list(path.parent.glob("state.db.corrupt-*Z"))) == 1


async def test_outcome_of_the_old_database_does_not_touch_the_new(path: Path, now: Hands) -> None:
    """What was under way when a database was replaced is not taken for another delivery."""
    await fill(path, now)
    async with a_store(path, now) as store:
        (delivery,) = await due(store, NOON)
        spoil(path, PAGE)
        with pytest.raises(StoreUnavailable):
            await store.load_states(["job-1"])
        await store.write(WriteBatch(events=[an_event("2")]))

        await store.settle([delivered(delivery)])

        assert await event_ids(store, NOON) == ["evt_2"]


async def test_full_disk_heals(disk: SqliteStore) -> None:
    """While the disk is full nothing is half written; with space the same batch goes through."""
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


def open_files(path: Path) -> int:
    """Count the open files of this process that are the database."""
    return sum(it.resolve() == path for it in Path("/proc/self/fd").iterdir())


async def test_failed_write_leaves_no_connection_open(disk: SqliteStore, path: Path) -> None:
    """A connection that is left after a failure is closed at once, whoever keeps the error.

    One that closes later would take the WAL away from whatever stands in its file's place.
    """
    await disk.write(WriteBatch(events=[an_event("1")]))
    (one,) = await due(disk, NOON)

    with limited(RLIMIT_FSIZE, PAGE), pytest.raises(StoreUnavailable):
        await disk.settle([delivered(one)])

    assert open_files(path) == 0


async def test_database_at_its_limit_is_unavailable(disk: SqliteStore) -> None:
    """SQLite's own word for a full disk is StoreUnavailable."""
    disk._database.transact(lambda db: db.execute("PRAGMA max_page_count = 1"))

    with pytest.raises(StoreUnavailable, match="full"):
        await disk.write(WriteBatch(events=[an_event("1", body=b"x" * 100_000)]))


async def test_no_files_left_is_unavailable(path: Path, now: Hands) -> None:
    """What the system refuses for the moment, at the start, is worth another try."""
    store = a_store(path, now, in_thread=False)

    with limited(RLIMIT_NOFILE, 0), pytest.raises(StoreUnavailable, match="Too many open files"):
        await store.__aenter__()

    async with store:
        assert await store.get_flags() == {}


async def test_no_files_left_later_is_unavailable(path: Path, now: Hands) -> None:
    """What the system refuses for the moment while the store connects anew is tried again."""
    async with a_store(path, now, in_thread=False) as store:
        with limited(RLIMIT_FSIZE, 0), pytest.raises(StoreUnavailable):
            await store.write(WriteBatch(flags={"a": "1"}))
        with limited(RLIMIT_NOFILE, 0), pytest.raises(StoreUnavailable):
            await store.get_flags()

        assert await store.get_flags() == {}


async def test_store_that_another_writes_to_is_unavailable(
    path: Path, now: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that holds the database for too long makes it unavailable, not broken.

    When that was is known.
    """
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.0)
    async with a_store(path, now) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.get_flags()
        now.turn(10.0)

        assert await store.get_flags() == {}
        assert store.last_error_at == NOON


async def test_bug_is_not_taken_for_a_disk(disk: SqliteStore) -> None:
    """An error that is ours is raised as it is, and the store works on."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        disk._database.transact(lambda db: db.execute("SELECT * FROM nowhere"))

    assert await disk.get_flags() == {}


def remove(path: Path) -> None:
    """Remove a database with all that is beside it."""
    for name in beside(path):
        path.with_name(name).unlink()


def read(path: Path) -> bytes:
    """Read a file."""
    return path.read_bytes()


def damage(path: Path) -> None:
    """Write over a database what is none."""
    path.write_bytes(b"this is no database" * 1_000)


def a_foreign_database(path: Path) -> bytes:
    """Make the database of another program, and give its content."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.commit()
    return read(path)


async def test_a_file_that_is_removed_is_made_anew(disk: SqliteStore, path: Path) -> None:
    """What is recorded after the file was removed is in a new file, of a new instance."""
    before = disk.database_id
    remove(path)

    await disk.write(WriteBatch(events=[an_event("1")]))

    assert disk.database_id != before
    assert await event_ids(disk, 1e12) == [an_event("1").id]
    assert "state.db" in beside(path)


async def test_the_database_of_another_program_is_left_alone(path: Path, now: Hands) -> None:
    """A SQLite file with other tables is refused and stays as it is."""
    content = a_foreign_database(path)

    with pytest.raises(StoreUnusable, match="another program"):
        await a_store(path, now).__aenter__()

    assert read(path) == content


def cut_off(path: Path) -> None:
    """Leave a change half done in a database that is not in WAL mode, as a kill does."""
    poll_log = path.with_name(path.name + "-journal")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        db.execute("UPDATE events SET body = zeroblob(1000000)")
        left = contents(path, poll_log)
    path.write_bytes(left[0])
    poll_log.write_bytes(left[1])


async def test_a_kill_while_the_file_is_made_does_not_lock_it_for_ever(
    path: Path, now: Hands
) -> None:
    """What a kill left half done outside of WAL mode is undone at the next start."""
    await fill(path, now)
    cut_off(path)

    async with a_store(path, now) as store:
        found = await event_ids(store, 1e12)

    assert found == [an_event("1").id]


async def test_a_damaged_file_that_cannot_be_renamed_is_waited_for(
    disk: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a damaged file cannot be set aside, the store is unavailable; nothing crashes."""

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    disk._database._disconnect()
    damage(path)

    with pytest.raises(StoreUnavailable, match="is damaged and cannot be renamed"):
        await disk.get_flags()
