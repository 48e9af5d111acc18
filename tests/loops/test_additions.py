"""What was added while the daemon ran, when the store fails, forgets, or is replaced."""

import anyio
import pytest

from poller.additions import Additions
from poller.errors import StoreUnavailable
from poller.repeats import Repeats
from poller.store.memory import MemoryStore
from poller.watchlist import Watchlist
from tests.loops.fakes import FailingStore, a_store
from tests.virtual import virtual_clock

pytestmark = pytest.mark.virtual(limit=1_000.0)


@pytest.fixture
async def store() -> FailingStore:
    """Give a store that can be made to fail."""
    return FailingStore(a_store())


@pytest.fixture
async def additions(store: FailingStore) -> Additions:
    """Give additions to a watch list that has one job from elsewhere."""
    return Additions(store, Watchlist(["job-1"]))


async def test_a_store_that_fails_at_the_start_is_waited_for(store, additions):
    """What was added before is taken in once the store can be read."""
    await store.add(["job-2"])
    store.fails = {"added"}
    async with anyio.create_task_group() as group:
        group.start_soon(additions.load, Repeats(virtual_clock().steady))
        await anyio.sleep(30.0)
        store.fails = set()

    assert additions._watchlist.job_ids == ("job-1", "job-2")


@pytest.mark.parametrize("verb", ["add", "remove"])
async def test_what_was_not_written_is_not_done(store, additions, verb):
    """A change that the store refuses changes nothing here either."""
    await additions.add(["job-2"])
    store.fails = {verb}
    with pytest.raises(StoreUnavailable):
        await getattr(additions, verb)(["job-2" if verb == "remove" else "job-3"])

    assert additions._watchlist.job_ids == ("job-1", "job-2")


async def test_what_the_store_has_forgotten_is_let_go_of(store, additions):
    """What the store forgot after its time leaves the watch list."""
    await additions.add(["job-2", "job-3"])
    await store.remove(["job-2"])
    await additions.reconcile()

    assert additions._watchlist.job_ids == ("job-1", "job-3")


async def test_a_store_that_was_replaced_is_told_again(store, additions):
    """What was added outlives a damaged database that was set aside."""
    await additions.add(["job-2"])
    store.store = MemoryStore(routes={}, deployment="api.example", now=virtual_clock().steady)
    await additions.reconcile()
    await additions.reconcile()

    assert additions._watchlist.job_ids == ("job-1", "job-2")
    assert await store.added() == ["job-2"]


async def test_a_new_database_is_noticed_by_the_look_into_it(store, additions):
    """Where the look for what was added is what opens a new database, it is told it all again."""
    await additions.add(["job-2"])

    class Replaced(FailingStore):
        async def added(self):
            self.store = a_store()
            return await self.store.added()

    additions._store = Replaced(store.store)
    await additions.reconcile()

    assert additions._watchlist.added == ("job-2",)
    assert await additions._store.store.added() == ["job-2"]
