"""What a crash leaves beside the file, and how the store opens on it."""

import os
import shutil
from pathlib import Path

import pytest

from poller.core.outbox import WriteBatch
from tests.support.store_builders import NOON, Hands, a_state, a_store, an_event, event_ids

PAGE = 4096
JOURNAL = bytes.fromhex("d9d505f920a163d7 00000000 9cbf8aef 00000000 00000200 00001000")
"""The journal of the first page of a new file, as SQLite 3.40 leaves it when the power goes."""


def torn(path: Path) -> None:
    """Leave a new file as it is when its first page was being written."""
    path.write_bytes(b"SQLite format 3\0" + bytes(PAGE - 16))
    path.with_name(f"{path.name}-journal").write_bytes(JOURNAL.ljust(512, b"\0"))


async def test_a_crash_while_the_file_was_made_is_overcome(path: Path, now: Hands) -> None:
    """A first page that is half there, with the journal that undoes it, hinders no start."""
    torn(path)

    async with a_store(path, now) as store:
        await store.write(WriteBatch(events=[an_event("1")]))

        assert await event_ids(store, NOON) == ["evt_1"]
    assert not list(path.parent.glob("*.corrupt-*"))


async def test_what_a_killed_process_wrote_is_made_durable_first(
    path: Path, now: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A -wal that nobody may have synced is synced, and its name is, when the store opens."""
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
