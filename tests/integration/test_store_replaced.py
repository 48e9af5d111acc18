"""A database that is replaced while the daemon runs."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from poller.store.maintenance import watch_for_replacement
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.integration.test_app import sqlite_inline
from tests.support.builders import a_job, check_event
from tests.support.fakes import (
    FailingStore,
    FakeApi,
    SlowStore,
    a_store,
    ended,
    recorded,
    recorded_types,
    running,
    settled,
    watching,
)
from tests.support.running_app import KEY, Receiver, an_app, running_app, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)


async def test_state_of_unknown_outcome_is_read_again():
    """A job whose write raised but succeeded continues from the written state."""
    api, store = FakeApi(job_1=running()), FailingStore(a_store())
    store.lies = {"write"}

    async with watching(api, store, "job-1"):
        await anyio.sleep(1.0)
        store.lies = set()
        api.answers["job-1"] = ended()
        await anyio.sleep(60.0)

    end = check_event(recorded(store)[-1].body)
    assert end["type"] == "job.succeeded"
    assert end["data"]["previous_status"] == "RUNNING"
    assert end["data"]["sequence"] == 2


async def test_end_in_a_damaged_database_is_reported_again(tmp_path):
    """An end pending in a damaged database is observed and reported again, with the same id."""
    hook, path = Receiver(status=503), tmp_path / "state.db"
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    simulator.add(JobScript(job_id="job-1", run_seconds=5.0))
    stores = []

    def keep_store(config, clock):
        stores.append(sqlite_inline(config, clock))
        return stores[0]

    async with served(hook.take) as url, serve(simulator) as api:
        app = an_app(api, url, POLLER_STORE=str(path), new_store=keep_store)
        async with running_app(app):
            await anyio.sleep(60.0)
            stores[0]._database._disconnect()  # as after any error of the disk
            path.write_bytes(b"this is no database" * 1_000)
            hook.status = 200
            app._watchlist.add(["job-1"])
            await anyio.sleep(900.0)
            added = await stores[0].added_ids()

    assert added == ["job-1"]
    assert hook.types == ["job.succeeded"]
    assert len({message_id for _, message_id in hook.tried}) == 1
    assert list(tmp_path.glob("state.db.corrupt-*"))


@pytest.mark.parametrize("name", ["state.db", "state.db.lock"])
async def test_removed_file_is_noticed_while_nothing_happens(tmp_path, name):
    """A file that is removed while nothing else uses the store is noticed within 10 seconds."""
    nowhere = "http://127.0.0.1:9"
    app = an_app(nowhere, nowhere, POLLER_STORE=str(tmp_path / "state.db"))
    async with sqlite_inline(app.config, app.clock) as store, anyio.create_task_group() as group:
        group.start_soon(watch_for_replacement, store, checkpoint)
        (tmp_path / name).unlink()
        await anyio.sleep(10.1)
        group.cancel_scope.cancel()

        assert (tmp_path / name).exists()


async def test_database_replaced_during_a_write():
    """A job that is being written during a resync is still watched."""
    api, store = FakeApi(job_1=running()), SlowStore(a_store())
    async with watching(api, store, "job-1") as watcher:
        await anyio.sleep(1.0)
        store.store, store.slow = a_store(), "write"
        api.answers["job-1"] = a_job("CANCELLING")
        await store.reached.wait()
        await watcher.resync()
        store.slow = ""
        api.answers["job-1"] = ended()
        await anyio.sleep(600.0)

    assert recorded_types(store) == ["job.succeeded"]


async def test_database_replaced_during_a_read():
    """A resync while states are read again breaks nothing, and the end is reported."""
    api, store = FakeApi(job_1=running()), SlowStore(a_store())
    async with watching(api, store, "job-1") as watcher:
        await anyio.sleep(1.0)
        store.fails, store.slow = {"write"}, "load_states"
        api.answers["job-1"] = a_job("CANCELLING")
        await store.reached.wait()
        store.fails, store.store = set(), a_store()
        await watcher.resync()
        api.answers["job-1"] = ended()
        await anyio.sleep(600.0)

    assert recorded_types(store) == ["job.succeeded"]


async def test_new_database_that_is_not_readable_yet():
    """The resync happens as soon as the new database can be read."""
    api, store = FakeApi(job_1=running()), FailingStore(a_store())
    async with watching(api, store, "job-1") as watcher, anyio.create_task_group() as group:
        await settled()
        store.store, store.fails = a_store(), {"load_states"}
        group.start_soon(watcher.resync)
        await anyio.sleep(60.0)
        store.fails = set()
        api.answers["job-1"] = ended()
        await anyio.sleep(600.0)

    assert recorded_types(store) == ["job.succeeded"]


async def test_end_of_a_removed_job_in_the_old_database():
    """An end that is still being reported is reported in the new database, watched or not."""
    api, store = FakeApi(job_1=a_job("SUCCEEDED")), FailingStore(a_store())
    async with watching(api, store, "job-1") as watcher:
        await settled()
        await watcher.watch([], removed=["job-1"])
        store.store = a_store()
        await watcher.resync()
        api.answers["job-1"] = ended()
        await anyio.sleep(600.0)

    assert recorded_types(store) == ["job.succeeded"]
