"""What was added while the daemon ran, when the store fails, forgets, or is replaced."""

import anyio
import pytest

from poller.core.errors import StoreUnavailable
from poller.polling.watchlist import PersistentAdditions, Watchlist
from poller.runtime.log_throttle import LogThrottle
from poller.store.memory import MemoryStore
from tests.support.fakes import FailingStore, SlowStore, a_store, settled
from tests.support.running_app import an_app, living
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=1_000.0)


@pytest.fixture
async def store() -> FailingStore:
    """Give a store that can be made to fail."""
    return FailingStore(a_store())


@pytest.fixture
async def additions(store: FailingStore) -> PersistentAdditions:
    """Give additions to a watch list that has one job from elsewhere."""
    return PersistentAdditions(store, Watchlist(["job-1"]))


async def test_a_store_that_fails_at_the_start_is_waited_for(store, additions):
    """What was added before is taken in once the store can be read."""
    await store.add_ids(["job-2"])
    store.fails = {"added_ids"}
    async with anyio.create_task_group() as group:
        group.start_soon(additions.load, LogThrottle(virtual_clock().steady))
        await anyio.sleep(30.0)
        store.fails = set()

    assert additions._watchlist.job_ids == ("job-1", "job-2")


@pytest.mark.parametrize("verb", ["add", "remove"])
async def test_what_was_not_written_is_not_done(store, additions, verb):
    """A change that the store refuses changes nothing here either."""
    await additions.add(["job-2"])
    store.fails = {f"{verb}_ids"}
    with pytest.raises(StoreUnavailable):
        await getattr(additions, verb)(["job-2" if verb == "remove" else "job-3"])

    assert additions._watchlist.job_ids == ("job-1", "job-2")


async def test_what_the_store_has_forgotten_is_let_go_of(store, additions):
    """What the store forgot after its time leaves the watch list."""
    await additions.add(["job-2", "job-3"])
    await store.remove_ids(["job-2"])
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1", "job-3")


async def test_a_store_that_was_replaced_is_told_again(store, additions):
    """What was added outlives a damaged database that was set aside."""
    await additions.add(["job-2"])
    store.store = MemoryStore(routes={}, deployment="api.example", now=virtual_clock().steady)
    await additions.sync_with_store()
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1", "job-2")
    assert await store.added_ids() == ["job-2"]


async def test_a_store_that_was_replaced_is_believed_from_then_on(store, additions):
    """Once it was told again, what the new store lets go of is let go of."""
    await additions.add(["job-2"])
    store.store = a_store()
    await additions.sync_with_store()
    await store.remove_ids(["job-2"])
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1",)


async def test_a_store_that_was_replaced_and_fails(store, additions):
    """What a new store could not be told is not taken for forgotten: it is told later."""
    await additions.add(["job-2"])
    store.store, store.fails = a_store(), {"add_ids"}
    with pytest.raises(StoreUnavailable):
        await additions.sync_with_store()
    store.fails = set()
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1", "job-2")
    assert await store.added_ids() == ["job-2"]


async def test_a_new_database_is_noticed_by_the_look_into_it(store, additions):
    """Where the look for what was added is what opens a new database, it is told it all again."""
    await additions.add(["job-2"])

    class Replaced(FailingStore):
        async def added_ids(self):
            self.store = a_store()
            return await self.store.added_ids()

    additions._store = Replaced(store.store)
    await additions.sync_with_store()

    assert additions._watchlist.added == ("job-2",)
    assert await additions._store.store.added_ids() == ["job-2"]


async def test_a_job_that_is_added_while_the_store_is_looked_through(store, additions):
    """What an answer of the store is too old to hold does not count as forgotten."""

    class Slow(FailingStore):
        async def added_ids(self):
            kept = await self.store.added_ids()
            await anyio.sleep(1.0)
            return kept

    additions._store = Slow(store.store)
    async with anyio.create_task_group() as group:
        group.start_soon(additions.sync_with_store)
        await settled()
        await additions.add(["job-2"])

    assert additions._watchlist.added == ("job-2",)


async def test_changes_are_made_one_after_the_other(store, additions):
    """A job that is removed while it is being added is gone, here and in the store."""
    additions._store = slow = SlowStore(store.store)
    slow.slow = "add_ids"
    async with anyio.create_task_group() as group:
        group.start_soon(additions.add, ["job-2"])
        await slow.reached.wait()
        await additions.remove(["job-2"])

    assert additions._watchlist.added == ()
    assert await store.added_ids() == []


async def test_the_store_is_looked_through_with_the_upkeep():
    """A daemon lets go by itself of what its store has forgotten."""
    app = an_app("http://127.0.0.1:1", "http://127.0.0.1:1")
    async with living(app):
        app._watchlist.add(["job-2"])
        await anyio.sleep(20.0)
        before = app._watchlist.added
        await anyio.sleep(20.0)

        assert (before, app._watchlist.added) == (("job-2",), ())
