"""Health and issues: stalled loops, loops that only wait, and problems outside the daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from poller.core.errors import (
    DeliveryError,
    NotFound,
    PollError,
    RateLimited,
    StoreUnavailable,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.issues import Issue, delayed_delivery
from poller.core.outbox import SinkBacklog
from poller.core.pacing import PollPolicy
from poller.polling.observations import UnknownOutcome
from poller.status import DaemonStatus
from poller.store.memory import MemoryStore
from poller.sutro.source import SutroSource
from tests.support.builders import a_job
from tests.support.fakes import (
    FailingStore,
    FakeApi,
    TimedSink,
    a_store,
    dispatching,
    ended,
    running,
    watching,
)
from tests.support.running_app import an_app, running_app
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=100_000.0)
FIXED = PollPolicy(minimum=10.0, maximum=10.0)


@asynccontextmanager
async def status_of(
    api: FakeApi, sink: TimedSink | None = None, store: FailingStore | None = None
) -> AsyncIterator[DaemonStatus]:
    """Watch all jobs of an API and deliver to a sink; yield the status of that."""
    store = store or FailingStore(a_store())
    async with (
        dispatching(store, hook=sink or TimedSink()) as dispatcher,
        watching(api, store, *api.answers, policy=FIXED, wake=dispatcher.wake) as watcher,
    ):
        daemon_status = DaemonStatus(watcher._source._rate_limiter, virtual_clock().steady)
        daemon_status.attach(store, watcher, dispatcher.heartbeats)
        yield daemon_status


async def test_health_of_an_idle_day_is_ready():
    """With no job and no event, all loops run for a day."""
    async with status_of(FakeApi()) as daemon_status:
        for _ in range(24 * 60):
            await anyio.sleep(60.0)
            assert daemon_status.health.is_ready


@pytest.mark.parametrize(
    "trouble",
    [
        RateLimited("a pause", retry_after=3_600.0),
        Unauthorized("no", status=401),
        Unauthorized("no", status=403),
        Transient("no answer"),
    ],
    ids=str,
)
async def test_health_is_not_affected_by_a_long_wait(trouble: PollError):
    """Neither a pause of an hour that the API asks for nor a rejected key counts as a stall."""
    api = FakeApi(job_1=running(), job_2=running("job-2"))
    api.trouble = trouble
    async with status_of(api) as daemon_status:
        for _ in range(3 * 360):
            await anyio.sleep(10.0)
            assert daemon_status.health.stalled == ()


@pytest.mark.parametrize(
    "trouble",
    [
        DeliveryError("down"),
        DeliveryError("busy", retry_after=86_400.0),
        DeliveryError("gone", is_gone=True),
    ],
    ids=str,
)
async def test_health_is_not_affected_by_a_failing_sink(trouble: DeliveryError):
    """A receiver that is down for a day, asks for a pause or is gone counts as no stall."""
    sink = TimedSink()
    sink.failure = trouble
    api = FakeApi(**{f"job_{n}": ended(f"job-{n}") for n in range(1, 40)})
    async with status_of(api, sink) as daemon_status:
        for _ in range(24 * 60):
            await anyio.sleep(60.0)
            assert daemon_status.health.stalled == ()


async def test_health_is_not_affected_by_slow_sends():
    """All concurrent sends of a sink may take as long as the time limit of a send."""
    sink = TimedSink()

    async def hang(_delivery):
        await anyio.sleep_forever()

    sink.failure = hang
    api = FakeApi(**{f"job_{n}": ended(f"job-{n}") for n in range(1, 40)})
    async with status_of(api, sink) as daemon_status:
        for _ in range(60):
            await anyio.sleep(10.0)
            assert daemon_status.health.stalled == ()


async def test_health_is_not_affected_by_slow_responses():
    """All concurrent polls may take as long as the time limit of a request."""
    api = FakeApi(**{f"job_{n}": running(f"job-{n}") for n in range(1, 40)})
    api.latency = 120.0
    async with status_of(api) as daemon_status:
        for _ in range(60):
            await anyio.sleep(10.0)
            assert daemon_status.health.stalled == ()


async def test_health_is_not_affected_by_a_full_disk():
    """A store that fails is an issue and no stall, also while a receiver is gone."""
    store, sink = FailingStore(a_store()), TimedSink()

    async def fill_the_disk(_delivery):
        await anyio.sleep(5.0)  # by then the sink has no free send
        store.fails = {
            "write",
            "settle",
            "due_deliveries",
            "load_states",
            "get_flags",
            "backlogs",
            "disable_sink",
        }
        raise DeliveryError("gone", is_gone=True)

    sink.failure = fill_the_disk
    api = FakeApi(**{f"job_{n}": ended(f"job-{n}") for n in range(1, 40)})
    async with status_of(api, sink, store) as daemon_status:
        for _ in range(60):
            await anyio.sleep(10.0)
            assert daemon_status.health.stalled == ()
        assert Issue.STORE_UNAVAILABLE in daemon_status.issues
        assert await daemon_status.backlog() == ()
        store.fails = set()
        await anyio.sleep(30.0)
        assert Issue.STORE_UNAVAILABLE not in daemon_status.issues


async def test_health_names_a_source_that_hangs(monkeypatch):
    """A watcher that waits for its source forever is named within half a minute."""
    api = FakeApi(job_1=running())

    async def hang(*_):
        await anyio.sleep_forever()

    async with status_of(api) as daemon_status:
        await anyio.sleep(100.0)
        monkeypatch.setattr(SutroSource, "plan", hang)
        await anyio.sleep(20.0)
        before = daemon_status.health
        await anyio.sleep(31.0)

    assert before.is_live
    assert daemon_status.health.stalled == ("polling",)
    assert not daemon_status.health.is_ready
    assert daemon_status.health.reasons == ("the loop 'polling' has stalled",)


@pytest.mark.parametrize(
    ("verb", "stalled"),
    [
        ("write", "recording"),
        ("due_deliveries", "sink hook"),
        ("settle", "outcomes"),
        ("load_states", "deadlines"),
    ],
)
async def test_health_names_the_loop_whose_store_call_hangs(verb: str, stalled: str):
    """A database that hangs is detected in each loop, though it has failed once before."""
    store = FailingStore(a_store())
    api = FakeApi(job_1=running())
    async with status_of(api, store=store) as daemon_status:
        store.fails = {"due_deliveries"}
        await anyio.sleep(6.0)
        store.fails = set()
        await anyio.sleep(9.0)
        assert store.last_error_at > 0.0
        store.hangs = {verb}
        api.answers["job-1"] = ended()
        if verb == "load_states":
            tracker = daemon_status._watcher.tracker
            tracker._stale["job-1"] = UnknownOutcome(tracker["job-1"], [])
            stalled = "recording"
        await anyio.sleep(60.0)

        assert stalled in daemon_status.health.stalled


@pytest.mark.parametrize(
    ("trouble", "after", "issues"),
    [
        (None, 1_000.0, ()),
        (Transient("down"), 200.0, ()),
        (Transient("down"), 400.0, (Issue.API_UNREACHABLE,)),
        (RateLimited("a pause", retry_after=3_600.0), 400.0, (Issue.API_UNREACHABLE,)),
        (WrongEndpoint("a redirect"), 20.0, (Issue.WRONG_ENDPOINT,)),
        (NotFound("no such job"), 200.0, (Issue.WRONG_ENDPOINT,)),
        (Unauthorized("no", status=401), 100.0, (Issue.API_KEY_REJECTED,)),
    ],
    ids=str,
)
async def test_issues_name_problems_of_the_api(trouble, after, issues):
    """A problem of the API is an issue until it is over, and does not affect health."""
    api = FakeApi(**{f"job_{n}": running(f"job-{n}") for n in range(1, 5)})
    async with status_of(api) as daemon_status:
        await anyio.sleep(20.0)
        api.trouble = trouble
        await anyio.sleep(after)
        assert daemon_status.issues == issues
        assert daemon_status.health.is_ready
        api.trouble = None
        await anyio.sleep(4_000.0)
        assert daemon_status.issues == ()


async def test_issues_name_an_unknown_job():
    """A named job that the API does not know is an issue until it is shown."""
    api = FakeApi(job_1=running(), job_2=NotFound("no such job (404)"))
    async with status_of(api) as daemon_status:
        await anyio.sleep(1.0)
        assert daemon_status.issues == (Issue.JOB_NOT_FOUND,)
        api.answers["job-2"] = running("job-2")
        await anyio.sleep(60.0)
        assert daemon_status.issues == ()


async def test_issues_name_a_sink_with_an_old_delivery():
    """A sink whose oldest delivery waits for over an hour is an issue, with its last reason."""
    sink, api = TimedSink(), FakeApi(job_1=ended(), job_2=ended("job-2"))
    sink.failure = DeliveryError("the receiver returned 503")
    async with status_of(api, sink) as daemon_status:
        await anyio.sleep(3_590.0)
        await daemon_status.backlog()
        early = daemon_status.issues
        await anyio.sleep(60.0)
        await daemon_status.backlog()
        late, text = daemon_status.issues, daemon_status.remedy(Issue.DELIVERY_DELAYED)
        line = await daemon_status.summary_line()
        sink.failure = None
        await anyio.sleep(400.0)
        await daemon_status.backlog()
        after = daemon_status.issues

    assert (early, late, after) == ((), (Issue.DELIVERY_DELAYED,), ())
    assert text == (
        "hook has 2 undelivered events since 2024-01-15T10:00:00Z (the receiver returned 503): fix"
        " its receiver, and they are sent. After 7 days they become dead letters."
    )
    assert line.endswith(text)


async def test_issues_name_a_removed_sink_with_an_old_delivery():
    """What waits for a sink that was removed from the configuration is an issue with a remedy."""
    text = delayed_delivery(
        SinkBacklog(name="hook", pending=1, oldest_pending_at=0.0, is_configured=False), 7_200.0
    )

    assert text == (
        "hook has 1 undelivered event since 1970-01-01T00:00:00Z, but is not in POLLER_SINKS any"
        " more: add it again, or they become dead letters after 7 days."
    )


async def test_summary_line():
    """One line has the jobs by status, the backlog, and the issues."""
    sink = TimedSink()
    sink.failure = DeliveryError("bad", is_permanent=True)
    api = FakeApi(job_1=running(), job_2=ended("job-2"))
    async with status_of(api, sink) as daemon_status:
        await anyio.sleep(20.0)
        well = await daemon_status.summary_line()
        api.trouble = Unauthorized("no", status=401)
        await anyio.sleep(100.0)
        ill = await daemon_status.summary_line()

    assert well == "jobs: 1 RUNNING, 1 SUCCEEDED; 0 pending, 2 dead"
    assert ill.startswith("jobs: 1 RUNNING, 1 SUCCEEDED; 0 pending, 3 dead; API key rejected: ")


async def test_health_before_the_store_is_open_is_live_but_not_ready():
    """While the disk is full at the start, the status says that the store is not open."""
    is_full = True

    class Full(MemoryStore):
        async def __aenter__(self):
            if is_full:
                raise StoreUnavailable("the disk is full")
            return self

    def new_store(config, clock):
        return Full(routes={}, deployment="test", now=clock.steady)

    app = an_app("http://127.0.0.1:1", "http://127.0.0.1:1", new_store=new_store)
    async with running_app(app):
        await anyio.sleep(60.0)
        waiting, issues, line = (
            app.status.health,
            app.status.issues,
            await app.status.summary_line(),
        )
        is_full = False
        await anyio.sleep(10.0)
        ready = app.status.health
    ended, last = app.status.health, await app.status.summary_line()

    assert (waiting.is_live, waiting.is_ready) == (True, False)
    assert waiting.reasons == ("the store is not open yet",)
    assert issues == (Issue.STORE_UNAVAILABLE,)
    assert line == "waiting for the store: the disk is full"
    assert ready.is_ready
    assert (ended.is_live, ended.is_ready, ended.reasons) == (True, False, ("it is stopping",))
    assert last == "stopping"


class LockedStore(FailingStore):
    """A store whose calls, one at a time, fail after five seconds while `is_locked`."""

    is_locked = False

    def __init__(self, store):
        super().__init__(store)
        self._limiter = anyio.CapacityLimiter(1)

    async def _call(self, verb, *values, **named):
        async with self._limiter:
            if self.is_locked:
                await anyio.sleep(5.0)
            self.fails = {verb} if self.is_locked else set()
            return await super()._call(verb, *values, **named)


async def test_health_is_not_affected_by_a_locked_database():
    """A database that another process locks for ten minutes is an issue, no stall."""
    api = FakeApi(**{f"job_{n}": running(f"job-{n}") for n in range(20)})
    store = LockedStore(a_store())
    async with status_of(api, store=store) as daemon_status:
        await anyio.sleep(30.0)
        api.answers["job-0"] = a_job("SUCCEEDED", job_id="job-0")
        await anyio.sleep(15.0)
        store.is_locked = True
        for _ in range(600):
            await anyio.sleep(1.0)
            assert daemon_status.health.is_live
        assert Issue.STORE_UNAVAILABLE in daemon_status.issues
        store.is_locked = False
        await anyio.sleep(60.0)
        assert daemon_status.health.is_ready
        assert not daemon_status.issues
