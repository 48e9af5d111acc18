"""Jobs added at run time, when the store fails, prunes them, or is replaced."""

import anyio
import pytest

from poller.core.errors import StoreUnavailable
from poller.polling.watchlist import PersistentAdditions, Watchlist
from poller.runtime.log_throttle import LogThrottle
from poller.store.memory import MemoryStore
from poller.sutro.simulator.server import Simulator, serve
from tests.support.fakes import FailingStore, SlowStore, a_store, settled
from tests.support.running_app import KEY, an_app, running_app
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=1_000.0)


@pytest.fixture
async def store() -> FailingStore:
    """Return a store that can be made to fail."""
    return FailingStore(a_store())


@pytest.fixture
async def additions(store: FailingStore) -> PersistentAdditions:
    """Return additions to a watch list that has one job from the settings."""
    return PersistentAdditions(store, Watchlist(["job-1"]))


async def test_additions_wait_for_the_store_at_start(store, additions):
    """Recorded additions are loaded once the store can be read."""
    await store.add_ids(["job-2"])
    store.fails = {"added_ids"}
    async with anyio.create_task_group() as group:
        group.start_soon(additions.load, LogThrottle(virtual_clock().steady))
        await anyio.sleep(30.0)
        store.fails = set()

    assert additions._watchlist.job_ids == ("job-1", "job-2")


@pytest.mark.parametrize("verb", ["add", "remove"])
async def test_additions_change_nothing_when_the_store_fails(store, additions, verb):
    """A change that the store cannot record changes nothing in the watch list either."""
    await additions.add(["job-2"])
    store.fails = {f"{verb}_ids"}
    with pytest.raises(StoreUnavailable):
        await getattr(additions, verb)(["job-2" if verb == "remove" else "job-3"])

    assert additions._watchlist.job_ids == ("job-1", "job-2")


async def test_additions_that_the_store_pruned_are_removed(store, additions):
    """An id that the store has pruned leaves the watch list."""
    await additions.add(["job-2", "job-3"])
    await store.remove_ids(["job-2"])
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1", "job-3")


async def test_additions_are_recorded_again_in_a_replaced_store(store, additions):
    """Additions survive a damaged database that was set aside."""
    await additions.add(["job-2"])
    store.store = MemoryStore(routes={}, deployment="api.example", now=virtual_clock().steady)
    await additions.sync_with_store()
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1", "job-2")
    assert await store.added_ids() == ["job-2"]


async def test_additions_follow_a_replaced_store_from_then_on(store, additions):
    """Once recorded again, an id that the new store prunes is removed."""
    await additions.add(["job-2"])
    store.store = a_store()
    await additions.sync_with_store()
    await store.remove_ids(["job-2"])
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1",)


async def test_additions_are_recorded_later_when_a_replaced_store_fails(store, additions):
    """An id that the new store could not record is not taken for pruned: it is recorded later."""
    await additions.add(["job-2"])
    store.store, store.fails = a_store(), {"add_ids"}
    with pytest.raises(StoreUnavailable):
        await additions.sync_with_store()
    store.fails = set()
    await additions.sync_with_store()

    assert additions._watchlist.job_ids == ("job-1", "job-2")
    assert await store.added_ids() == ["job-2"]


async def test_additions_notice_a_database_that_their_query_opens(store, additions):
    """When the query for additions is what opens a new database, they are recorded again."""
    await additions.add(["job-2"])

    class Replaced(FailingStore):
        async def added_ids(self):
            self.store = a_store()
            return await self.store.added_ids()

    additions._store = Replaced(store.store)
    await additions.sync_with_store()

    assert additions._watchlist.added == ("job-2",)
    assert await additions._store.store.added_ids() == ["job-2"]


async def test_additions_during_a_sync_stay(store, additions):
    """An id that is added while the store is read does not count as pruned."""

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


async def test_additions_change_one_after_the_other(store, additions):
    """A job that is removed while it is being added is gone, in the list and in the store."""
    additions._store = slow = SlowStore(store.store)
    slow.slow = "add_ids"
    async with anyio.create_task_group() as group:
        group.start_soon(additions.add, ["job-2"])
        await slow.reached.wait()
        await additions.remove(["job-2"])

    assert additions._watchlist.added == ()
    assert await store.added_ids() == []


async def test_additions_are_synced_with_retention():
    """A daemon removes by itself what its store has pruned."""
    app = an_app("http://127.0.0.1:1", "http://127.0.0.1:1")
    async with running_app(app):
        app._watchlist.add(["job-2"])
        await anyio.sleep(20.0)
        before = app._watchlist.added
        await anyio.sleep(20.0)

        assert (before, app._watchlist.added) == (("job-2",), ())


async def test_job_that_is_added_again_is_polled_at_once():
    """Adding a job that is watched already polls it, though it is missing."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    async with serve(simulator) as url:
        app = an_app(url, "http://127.0.0.1:1", POLLER_NOT_FOUND_GRACE="1s")
        async with running_app(app):
            await anyio.sleep(60.0)
            before = simulator.requests["jobs"]
            app._watchlist.add(["job-1"])
            await anyio.sleep(5.0)

            assert app.status.jobs == {"MISSING": 1}
            assert simulator.requests["jobs"] - before == 1
