"""Every store remembers which jobs were added while the daemon ran."""

import sqlite3
from pathlib import Path

import pytest

from poller.core.outbox import WriteBatch
from poller.core.state import Phase
from poller.store import schema
from tests.support.store_builders import DAY, AnyStore, Hands, a_state, a_store, reopen


async def test_what_was_added_is_there_after_a_restart(store: AnyStore) -> None:
    """Added jobs are named in the order of their coming, each once."""
    await store.add_ids(["job-2", "job-1"])
    await store.add_ids(["job-3", "job-1"])
    await reopen(store)

    assert await store.added_ids() == ["job-2", "job-1", "job-3"]


async def test_what_was_removed_is_gone(store: AnyStore) -> None:
    """A removed job is not named any more; one that was never added changes nothing."""
    await store.add_ids(["job-1", "job-2"])
    await store.remove_ids(["job-1", "job-9"])
    await reopen(store)

    assert await store.added_ids() == ["job-2"]


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.MISSING])
async def test_what_is_over_leaves_by_itself(store: AnyStore, now: Hands, phase: Phase) -> None:
    """Thirty days after its end, or after it went missing, a job is not an added one any more."""
    await store.add_ids(["job-1", "job-2"])
    await store.write(WriteBatch(states=[a_state("job-1", phase=phase), a_state("job-2")]))

    assert await store.prune(now.turn(30 * DAY - 1), []) == 0
    assert await store.added_ids() == ["job-1", "job-2"]
    assert await store.prune(now.turn(1), []) == 1
    assert await store.added_ids() == ["job-2"]


async def test_additions_are_of_one_api(path: Path, now: Hands) -> None:
    """What was added for one deployment is not watched at another."""
    async with a_store(path, now) as store:
        await store.add_ids(["job-1"])
    async with a_store(path, now, deployment="elsewhere.example") as store:
        await store.add_ids(["job-2"])
        await store.remove_ids(["job-1"])
    async with a_store(path, now) as store:
        assert await store.added_ids() == ["job-1"]


async def test_a_database_of_the_first_version(path: Path, now: Hands) -> None:
    """A database from before jobs could be added is brought up to date, with all that it holds."""
    with sqlite3.connect(path) as db:
        db.executescript(f"{schema.VERSION_1}; PRAGMA user_version = 1")
        db.execute("INSERT INTO marks VALUES ('born', 'then')")
    db.close()

    async with a_store(path, now) as store:
        await store.add_ids(["job-1"])
        assert await store.added_ids() == ["job-1"]
        assert await store.get_flags() == {"born": "then"}
