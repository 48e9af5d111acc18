"""Jobs that are added at run time."""

import sqlite3
from pathlib import Path

import pytest

from poller.core.auth_notice import AuthNotice
from poller.core.outbox import WriteBatch
from poller.core.state import Phase
from poller.store import schema, sql
from poller.store.rows import event_row
from tests.support.store_builders import (
    DAY,
    NOON,
    AnyStore,
    ManualClock,
    a_state,
    a_store,
    an_event,
    event_ids,
    reopen,
)


async def test_added_ids_survive_a_restart(store: AnyStore) -> None:
    """Added jobs are returned in the order of addition, each once."""
    await store.add_ids(["job-2", "job-1"])
    await store.add_ids(["job-3", "job-1"])
    await reopen(store)

    assert await store.added_ids() == ["job-2", "job-1", "job-3"]


async def test_removed_ids_are_gone(store: AnyStore) -> None:
    """A removed job is not returned any more; removing an unknown one changes nothing."""
    await store.add_ids(["job-1", "job-2"])
    await store.remove_ids(["job-1", "job-9"])
    await reopen(store)

    assert await store.added_ids() == ["job-2"]


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.MISSING])
async def test_added_ids_are_pruned_after_their_end(
    store: AnyStore, now: ManualClock, phase: Phase
) -> None:
    """Thirty days after its end, or after it went missing, an added job is removed."""
    await store.add_ids(["job-1", "job-2"])
    await store.write(WriteBatch(states=[a_state("job-1", phase=phase), a_state("job-2")]))

    assert await store.prune(now.advance(30 * DAY - 1), []) == 0
    assert await store.added_ids() == ["job-1", "job-2"]
    assert await store.prune(now.advance(1), []) == 1
    assert await store.added_ids() == ["job-2"]


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.MISSING])
async def test_added_ids_are_kept_for_thirty_days_after_the_last_addition(
    store: AnyStore, now: ManualClock, phase: Phase
) -> None:
    """A job that is added again, long after it went missing, is kept for thirty days more."""
    await store.add_ids(["job-1", "job-2"])
    await store.write(WriteBatch(states=[a_state("job-1", phase=phase)]))
    now.advance(60 * DAY)
    await store.add_ids(["job-1"])

    assert await store.prune(now.advance(30 * DAY - 1), []) == 0
    assert await store.added_ids() == ["job-1", "job-2"]
    assert await store.prune(now.advance(1), []) == 1


async def test_added_ids_belong_to_one_deployment(path: Path, now: ManualClock) -> None:
    """A job that was added for one deployment is not watched at another."""
    async with a_store(path, now) as store:
        await store.add_ids(["job-1"])
    async with a_store(path, now, deployment="elsewhere.example") as store:
        await store.add_ids(["job-2"])
        await store.remove_ids(["job-1"])
    async with a_store(path, now) as store:
        assert await store.added_ids() == ["job-1"]


@pytest.mark.parametrize("version", [1, 2])
async def test_migration_keeps_everything(path: Path, now: ManualClock, version: int) -> None:
    """A database of an older version is migrated when it is opened, with everything in it."""
    event = event_row(an_event("1")) | {"now": NOON}
    with sqlite3.connect(path) as db:
        db.executescript("".join(schema.MIGRATIONS[:version]))
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO marks VALUES ('born', 'then'), ('auth', 'refused 3')")
        db.execute("INSERT INTO sinks (name) VALUES ('webhook')")
        db.execute(sql.WRITE_EVENT, event)
        db.execute(sql.ADD_DELIVERIES, event | {"sinks": '["webhook"]'})
    db.close()

    async with a_store(path, now) as store:
        await store.add_ids(["job-1"])
        assert await store.added_ids() == ["job-1"]
        flags = await store.get_flags()
        assert flags["born"] == "then"
        assert AuthNotice.parse(flags["auth"]) == AuthNotice(is_rejected=True, occurrence=3)
        assert await event_ids(store, NOON) == ["evt_1"]
