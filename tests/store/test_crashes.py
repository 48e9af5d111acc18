"""Recovery of a database after its process or the machine crashed."""

import os
import shutil
from pathlib import Path

import pytest

from poller.core.outbox import WriteBatch
from tests.support.store_builders import NOON, ManualClock, a_state, a_store, an_event, event_ids

PAGE = 4096
JOURNAL = bytes.fromhex("d9d505f920a163d7 00000000 9cbf8aef 00000000 00000200 00001000")
"""The journal of the first page of a new file, as SQLite 3.40 leaves it when the power goes."""


def tear_first_page(path: Path) -> None:
    """Leave a new file in the middle of the write of its first page."""
    path.write_bytes(b"SQLite format 3\0" + bytes(PAGE - 16))
    path.with_name(f"{path.name}-journal").write_bytes(JOURNAL.ljust(512, b"\0"))


async def test_crash_during_creation_is_recovered(path: Path, now: ManualClock) -> None:
    """A half-written first page with its rollback journal does not prevent a start."""
    tear_first_page(path)

    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

        assert await event_ids(store, NOON) == ["evt_1"]
    assert not list(path.parent.glob("*.corrupt-*"))


async def test_writes_of_a_killed_process_are_synced_first(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A -wal file that may not be synced yet is synced, with its name, when the store opens."""
    left, synced = path.with_name("left.db"), list[str]()
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state()], events=[an_event("1")]))
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{left}{suffix}")
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(str(Path(f"/dev/fd/{file}").readlink()))
    )

    async with a_store(left, now) as store:
        assert await event_ids(store, NOON) == ["evt_1"]

    assert synced == [f"{left}-wal", str(left.parent)]
