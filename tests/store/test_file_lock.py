"""The lock of a database, and who may read its files."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from stat import S_IMODE

import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreLocked, StoreUnusable
from poller.core.outbox import WriteBatch
from poller.store.admin import StoreAdmin
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import NOON, ManualClock, a_store, an_event, event_ids


def by_symbolic_link(path: Path) -> Path:
    """Return a symbolic link to a database, in another folder."""
    link = path.parent / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    return link


def by_hard_link(path: Path) -> Path:
    """Return another name of a database."""
    link = path.with_name("link.db")
    link.hardlink_to(path)
    return link


def without_lock_file(path: Path) -> Path:
    """Remove the lock file of a database."""
    path.with_name("state.db.lock").unlink()
    return path


def with_another_lock_file(path: Path) -> Path:
    """Replace the lock file of a database."""
    without_lock_file(path).with_name("state.db.lock").touch()
    return path


@pytest.mark.parametrize(
    "name_of", [by_symbolic_link, by_hard_link, without_lock_file, with_another_lock_file]
)
async def test_second_daemon_is_locked_out_by_any_name(
    disk: SqliteStore, path: Path, now: ManualClock, name_of: Callable[[Path], Path]
) -> None:
    """One daemon owns one file, whatever its name, and whoever removes what."""
    with pytest.raises(StoreLocked, match="is in use by another process"):
        await a_store(name_of(path), now).__aenter__()

    await disk.write(WriteBatch(events=[an_event("1")]))
    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_replaced_file_is_locked(disk: SqliteStore, path: Path, now: ManualClock) -> None:
    """A file that replaces the database of a running daemon is locked from its first use on."""
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    await disk.get_flags()
    path.with_name("state.db.lock").unlink()

    with pytest.raises(StoreLocked):
        await a_store(path, now).__aenter__()


@pytest.mark.parametrize("change", [without_lock_file, with_another_lock_file])
async def test_removed_lock_file_is_created_again(
    disk: SqliteStore, path: Path, change: Callable[[Path], Path]
) -> None:
    """A lock file that was removed or replaced is reported, and commands find the daemon again."""
    change(path)
    assert not StoreAdmin(path).is_running

    with capture_logs() as lines:
        await disk.get_flags()
        await disk.get_flags()

    assert StoreAdmin(path).is_running
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("store.lock_replaced", "error")
    ]


async def test_lock_file_that_is_being_tried_is_locked_later(disk: SqliteStore, path: Path) -> None:
    """A command that tries the lock at that moment does not end the daemon."""
    with_another_lock_file(path)
    marker = path.with_name("state.db.lock")
    with marker.open() as tried:
        fcntl.flock(tried, fcntl.LOCK_SH)
        await disk.get_flags()
    await disk.get_flags()

    assert StoreAdmin(path).is_running


async def test_system_without_such_locks_has_the_lock_file(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file itself cannot be locked, the lock file still keeps a second daemon out."""
    monkeypatch.delattr(fcntl, "F_OFD_SETLK")
    async with a_store(path, now):
        with pytest.raises(StoreLocked):
            await a_store(path, now).__aenter__()


async def test_daemon_behind_a_link_runs_for_commands(path: Path, now: ManualClock) -> None:
    """By a symbolic link or not, the files are beside the real file, and commands find them."""
    link = by_symbolic_link(path)

    async with a_store(link, now):
        assert StoreAdmin(link).status().is_running
        assert StoreAdmin(path).status().is_running

    assert [*link.parent.iterdir()] == [link]


def restore(path: Path, copy: Path) -> None:
    """Copy a database with its WAL, readable by everybody."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        Path(f"{copy}{suffix}").chmod(0o644)


async def test_restored_files_become_private(path: Path, now: ManualClock) -> None:
    """A database that others may read gets mode 0600 again, with a line."""
    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
        left = path.with_name("left.db")
        restore(path, left)

    with capture_logs() as lines:
        async with a_store(left, now):
            modes = {S_IMODE(file.stat().st_mode) for file in path.parent.glob("left.db*")}

    assert modes == {0o600}
    assert [line["path"] for line in lines if line["event"] == "store.made_private"] == [
        str(left),
        f"{left}-wal",
    ]


async def test_folder_that_cannot_be_written_to_is_unusable(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite cannot create its other files, the folder is named, not the disk."""
    async with a_store(path, now):
        pass
    monkeypatch.setattr(os, "access", lambda file, _: file != path.parent)

    with pytest.raises(StoreUnusable, match="cannot create files in its directory"):
        await a_store(path, now).__aenter__()
