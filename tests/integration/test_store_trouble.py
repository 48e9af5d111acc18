"""A store that fails delays what is told; it loses nothing and sends nothing uncommitted."""

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import Transient
from poller.core.pacing import PollPolicy
from poller.store import Store
from poller.store.sqlite import SqliteStore
from tests.integration.test_worker import counts
from tests.support.fakes import (
    HOOK,
    FailingStore,
    FakeApi,
    SlowStore,
    TimedSink,
    a_store,
    dispatching,
    ended,
    recorded_types,
    running,
    watching,
)
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)
FIXED = PollPolicy(minimum=10.0, maximum=10.0)
HEALED = 30.0


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path) -> FailingStore:
    """Give a store of each kind that can be made to fail."""
    if request.param == "memory":
        yield FailingStore(a_store())
        return
    routes = {HOOK: frozenset({"job.started", "job.succeeded", "job.failed", "job.cost_settled"})}
    async with SqliteStore(
        tmp_path / "state.db",
        routes=routes,
        deployment="api.example",
        now=virtual_clock().steady,
        in_thread=False,
    ) as opened:
        yield FailingStore(opened)


async def play(store: Store, api: FakeApi, sink: TimedSink, acts) -> None:
    """Watch and deliver while the acts of a play go on, and for a while after them."""
    async with (
        dispatching(store, hook=sink) as dispatcher,
        watching(api, store, *api.answers, policy=FIXED, wake=dispatcher.wake),
    ):
        await acts()
        await anyio.sleep(HEALED)


@pytest.mark.parametrize("way", ["fails", "lies"])
@pytest.mark.parametrize("verb", ["write", "settle", "load_states", "get_flags", "due_deliveries"])
async def test_an_end_survives_a_store_that_fails(store, verb, way):
    """Whichever verb fails, written or not, each event comes once, within 30 s of the healing."""
    api, sink = FakeApi(job_1=running(), job_2=running("job-2")), TimedSink()

    async def acts():
        await anyio.sleep(15.0)
        setattr(store, way, {verb})
        api.answers |= {"job-1": ended(), "job-2": ended("job-2", "FAILED")}
        await anyio.sleep(600.0)
        setattr(store, way, set())

    await play(store, api, sink, acts)

    assert sorted(sink.types) == ["job.failed", "job.started", "job.started", "job.succeeded"]
    assert len(set(sink.ids)) == 4
    assert (await counts(store))[HOOK] == (0, 0)


async def test_events_are_numbered_on_after_an_unknown_outcome(store):
    """What was written although the store said otherwise counts: no number is given twice."""
    api, sink = FakeApi(job_1=running()), TimedSink()
    store.lies = {"record"}

    async def acts():
        await anyio.sleep(1.0)
        store.lies = set()
        api.answers["job-1"] = ended()

    await play(store, api, sink, acts)

    assert [(event.type, event.data["sequence"]) for _, event in sink.received] == [
        ("job.started", 1),
        ("job.succeeded", 2),
    ]


async def test_nothing_uncommitted_is_sent(store):
    """While nothing can be recorded nothing is sent, and the asking goes on."""
    api, sink = FakeApi(job_1=ended()), TimedSink()
    store.fails = {"write"}

    async def acts():
        await anyio.sleep(600.0)
        assert sink.attempted == []
        assert len(api.asked) >= 60
        store.fails = set()

    await play(store, api, sink, acts)

    assert sink.types == ["job.succeeded"]


async def test_jobs_that_cannot_be_loaded_are_watched_later(store):
    """Jobs that are added while the store cannot be read are watched when it can be."""
    api, sink = FakeApi(job_1=ended()), TimedSink()
    store.fails = {"load_states"}

    async def heal():
        await anyio.sleep(300.0)
        store.fails = set()

    async with anyio.create_task_group() as group:
        group.start_soon(heal)
        await play(store, api, sink, lambda: anyio.sleep(0.0))

    assert sink.types == ["job.succeeded"]


@pytest.mark.parametrize("way", ["fails", "lies"])
async def test_a_settled_end_survives_a_store_that_fails(store, way):
    """An end that falls due while neither store nor API works is told when the store does."""
    api, sink = FakeApi(job_1=ended(job_cost=None)), TimedSink()

    async def acts():
        await anyio.sleep(10.0)
        setattr(store, way, {"record"})
        api.trouble = Transient("reset")
        await anyio.sleep(300.0)
        setattr(store, way, set())

    await play(store, api, sink, acts)

    assert sink.types == ["job.succeeded"]


async def test_a_failed_commit_leaves_no_trace_in_memory(store):
    """After a commit that failed, a job is decided anew from what the store holds."""
    api, sink = FakeApi(job_1=running()), TimedSink()

    async def acts():
        await anyio.sleep(15.0)
        store.lies = {"record"}
        api.answers["job-1"] = ended(job_cost=None)
        await anyio.sleep(12.0)
        store.lies = set()
        api.answers["job-1"] = ended()

    await play(store, api, sink, acts)

    assert sink.types == ["job.started", "job.succeeded"]
    assert [event.data["sequence"] for _, event in sink.received] == [1, 2]


async def test_a_failing_store_is_told_less_and_less(store):
    """A store that fails for hours fills no log."""
    api, sink = FakeApi(job_1=ended()), TimedSink()
    store.fails = {"write", "due_deliveries", "settle"}

    with capture_logs() as lines:
        await play(store, api, sink, lambda: anyio.sleep(3_600.0))

    assert 2 <= [it["event"] for it in lines].count("store.unavailable") <= 40


async def test_a_job_that_comes_back_after_it_was_recorded():
    """A job that is taken away while it is being recorded, and comes back, is watched on."""
    api, slow = FakeApi(job_1=running()), SlowStore(a_store())
    async with watching(api, slow, "job-1") as watcher:
        await anyio.sleep(1.0)
        slow.slow = "write"
        api.answers["job-1"] = ended(job_cost=None)
        await slow.reached.wait()
        await watcher.watch([])
        await anyio.sleep(2.0)
        await watcher.watch(["job-1"])
        api.answers["job-1"] = ended()
        await anyio.sleep(60.0)

    assert recorded_types(slow)[-1] == "job.succeeded"
