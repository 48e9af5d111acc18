"""The daemon while its store is unavailable."""

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.counters import Counters
from poller.core.errors import Transient
from poller.core.pacing import PollPolicy
from poller.core.routing import Route
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
RECOVERY_SECONDS = 30.0


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path) -> FailingStore:
    """Return a store of each kind that can be made to fail."""
    if request.param == "memory":
        yield FailingStore(a_store())
        return
    types = frozenset({"job.started", "job.succeeded", "job.failed", "job.settled"})
    async with SqliteStore(
        tmp_path / "state.db",
        routes={HOOK: Route(types=types)},
        deployment="api.example",
        now=virtual_clock().steady,
        in_thread=False,
    ) as opened:
        yield FailingStore(opened)


async def run_scenario(store: Store, api: FakeApi, sink: TimedSink, steps) -> None:
    """Watch and deliver while the steps of a scenario run, and for a while after them."""
    async with (
        dispatching(store, hook=sink) as dispatcher,
        watching(api, store, *api.answers, policy=FIXED, wake=dispatcher.wake),
    ):
        await steps()
        await anyio.sleep(RECOVERY_SECONDS)


@pytest.mark.parametrize("way", ["fails", "lies"])
@pytest.mark.parametrize("verb", ["write", "settle", "load_states", "get_flags", "due_deliveries"])
async def test_end_survives_a_failing_store(store, verb, way):
    """Whichever verb fails, written or not, each event arrives once, within 30 s of recovery."""
    api, sink = FakeApi(job_1=running(), job_2=running("job-2")), TimedSink()

    async def steps():
        await anyio.sleep(15.0)
        setattr(store, way, {verb})
        api.answers |= {"job-1": ended(), "job-2": ended("job-2", "FAILED")}
        await anyio.sleep(600.0)
        setattr(store, way, set())

    await run_scenario(store, api, sink, steps)

    assert sorted(sink.types) == ["job.failed", "job.started", "job.started", "job.succeeded"]
    assert len(set(sink.ids)) == 4
    assert (await counts(store))[HOOK] == (0, 0)


@pytest.mark.parametrize("way", ["fails", "lies"])
async def test_end_is_counted_once_after_an_unknown_outcome(store, way):
    """An end is counted once, with its cost, whether the failed transaction was written or not."""
    api, counters = FakeApi(job_1=running()), Counters()
    async with watching(api, store, "job-1", policy=FIXED, counts=counters):
        await anyio.sleep(15.0)
        setattr(store, way, {"write"})
        api.answers["job-1"] = ended()
        await anyio.sleep(60.0)
        setattr(store, way, set())
        await anyio.sleep(RECOVERY_SECONDS)

    assert counters.events == {"job.started": 1, "job.succeeded": 1}
    assert sum(counters.jobs_ended.values()) == 1
    assert sum(counters.costs.values()) == ended().job_cost


async def test_sequence_continues_after_an_unknown_outcome(store):
    """An event that was written despite an error counts: no sequence number is used twice."""
    api, sink = FakeApi(job_1=running()), TimedSink()
    store.lies = {"write"}

    async def steps():
        await anyio.sleep(1.0)
        store.lies = set()
        api.answers["job-1"] = ended()

    await run_scenario(store, api, sink, steps)

    assert [(event.type, event.data["sequence"]) for _, event in sink.received] == [
        ("job.started", 1),
        ("job.succeeded", 2),
    ]


async def test_nothing_uncommitted_is_sent(store):
    """While nothing can be written nothing is sent, and polling continues."""
    api, sink = FakeApi(job_1=ended()), TimedSink()
    store.fails = {"write"}

    async def steps():
        await anyio.sleep(600.0)
        assert sink.attempted == []
        assert len(api.asked) >= 60
        store.fails = set()

    await run_scenario(store, api, sink, steps)

    assert sink.types == ["job.succeeded"]


async def test_jobs_that_cannot_be_loaded_are_watched_later(store):
    """Jobs that are added while the store cannot be read are watched once it can."""
    api, sink = FakeApi(job_1=ended()), TimedSink()
    store.fails = {"load_states"}

    async def heal():
        await anyio.sleep(300.0)
        store.fails = set()

    async with anyio.create_task_group() as group:
        group.start_soon(heal)
        await run_scenario(store, api, sink, lambda: anyio.sleep(0.0))

    assert sink.types == ["job.succeeded"]


@pytest.mark.parametrize("way", ["fails", "lies"])
async def test_settling_end_survives_a_failing_store(store, way):
    """An end that is due while neither store nor API works is reported when the store recovers."""
    api, sink = FakeApi(job_1=ended(job_cost=None)), TimedSink()

    async def steps():
        await anyio.sleep(10.0)
        setattr(store, way, {"write"})
        api.trouble = Transient("reset")
        await anyio.sleep(300.0)
        setattr(store, way, set())

    await run_scenario(store, api, sink, steps)

    assert sink.types == ["job.succeeded"]


async def test_failed_commit_leaves_no_state_in_memory(store):
    """After a failed commit, a job is decided again from the stored state."""
    api, sink = FakeApi(job_1=running()), TimedSink()

    async def steps():
        await anyio.sleep(15.0)
        store.lies = {"write"}
        api.answers["job-1"] = ended(job_cost=None)
        await anyio.sleep(12.0)
        store.lies = set()
        api.answers["job-1"] = ended()

    await run_scenario(store, api, sink, steps)

    assert sink.types == ["job.started", "job.succeeded"]
    assert [event.data["sequence"] for _, event in sink.received] == [1, 2]


async def test_failing_store_is_logged_less_and_less(store):
    """A store that fails for hours does not fill the log."""
    api, sink = FakeApi(job_1=ended()), TimedSink()
    store.fails = {"write", "due_deliveries", "settle"}

    with capture_logs() as lines:
        await run_scenario(store, api, sink, lambda: anyio.sleep(3_600.0))

    assert 2 <= [line["event"] for line in lines].count("store.unavailable") <= 40


async def test_job_readded_during_its_write():
    """A job that is removed and added again during its write is still watched."""
    api, slow = FakeApi(job_1=running()), SlowStore(a_store())
    async with watching(api, slow, "job-1") as watcher:
        await anyio.sleep(1.0)
        slow.slow = "write"
        api.answers["job-1"] = ended(job_cost=None)
        await slow.reached.wait()
        await watcher.watch([], removed=["job-1"])
        await anyio.sleep(2.0)
        await watcher.watch(["job-1"])
        api.answers["job-1"] = ended()
        await anyio.sleep(60.0)

    assert recorded_types(slow)[-1] == "job.succeeded"
