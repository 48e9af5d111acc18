"""Ends whose cost comes late are announced in time, whatever becomes of the API meanwhile."""

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import Transient
from poller.core.state import Signal
from poller.polling import tracker
from poller.sutro.port import Observation
from tests.support.fakes import (
    FakeApi,
    TimedSink,
    a_store,
    dispatching,
    ended,
    recorded,
    recorded_types,
    running,
    settled,
    watching,
)

pytestmark = pytest.mark.virtual(limit=90_000.0)
COSTLESS = {"job_cost": None}


async def test_complete_end_is_announced_at_once():
    """An end that has its cost at first is not held back."""
    store = a_store()

    async with watching(FakeApi(job_1=ended()), store, "job-1"):
        await settled()

        assert recorded_types(store) == ["job.succeeded"]


async def test_settling_job_is_polled_until_its_cost_comes():
    """While the cost is awaited the job is polled after 1, 2, 4 and 8 seconds."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1"):
        await anyio.sleep(14.0)
        assert recorded_types(store) == []
        api.answers["job-1"] = ended()
        await anyio.sleep(1.1)

    assert [round(at) for at in api.times("job-1")] == [0, 1, 3, 7, 15]
    assert [it.data["final"] for it in recorded(store)] == [True]


async def test_settling_ends_in_time_though_the_api_fails():
    """An end is announced 30 s after it was first seen, without a cost, when every poll fails."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1"):
        await settled()
        api.trouble = Transient("reset")
        await anyio.sleep(29.9)
        assert recorded_types(store) == []
        await anyio.sleep(0.2)

        assert recorded_types(store) == ["job.succeeded"]
    assert recorded(store)[0].data["final"] is False


async def test_response_after_the_settle_deadline_keeps_the_cost_watch():
    """A poll that the deadline overtakes does not stop the polls for the cost."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1"):
        await settled()
        api.latency = 20.0
        await anyio.sleep(60.0)
        api.latency = 0.0
        api.answers["job-1"] = ended()
        await anyio.sleep(120.0)

    assert recorded_types(store) == ["job.succeeded", "job.settled"]


async def test_late_cost_is_sent_to_the_sinks_of_the_end():
    """A cost that comes later goes to every sink that had the end, whatever its event types."""
    api = FakeApi(job_1=ended(**COSTLESS))
    store = a_store(types=frozenset({"job.succeeded"}))
    store._routes = {"hook": frozenset({"job.succeeded"}), "other": frozenset({"job.failed"})}
    hook, other = TimedSink(), TimedSink()

    async with (
        dispatching(store, hook=hook, other=other) as dispatcher,
        watching(api, store, "job-1", wake=dispatcher.wake),
    ):
        await anyio.sleep(100.0)
        api.answers["job-1"] = ended(job_cost=0.25)
        await anyio.sleep(300.0)

    assert hook.types == ["job.succeeded", "job.settled"]
    assert hook.received[1][1].data["job"]["job_cost"] == 0.25
    assert other.types == []


async def test_cost_watch_ends_after_an_hour():
    """A cost that never comes is polled for no longer than an hour."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1"):
        await anyio.sleep(86_000.0)

    assert recorded_types(store) == ["job.succeeded"]
    assert 3_300.0 <= api.asked[-1][0] <= 4_000.0


async def test_cost_watch_continues_after_a_restart():
    """A cost that comes while the daemon is restarted is announced by the next process."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()
    async with watching(api, store, "job-1"):
        await anyio.sleep(60.0)
    api.answers["job-1"] = ended()

    async with watching(api, store, "job-1"):
        await anyio.sleep(600.0)

    assert recorded_types(store) == ["job.succeeded", "job.settled"]


async def test_settling_end_is_announced_after_a_restart():
    """A process that loads a settling job announces its end in time though the API is down."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()
    async with watching(api, store, "job-1"):
        await settled()
    api.trouble = Transient("reset")
    await anyio.sleep(25.0)

    async with watching(api, store, "job-1"):
        await anyio.sleep(5.1)

        assert recorded_types(store) == ["job.succeeded"]


async def test_removed_settling_job_is_still_announced():
    """A job that is removed while it settles is still announced."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1") as watcher:
        await settled()
        await watcher.watch([])
        await anyio.sleep(40.0)
        api.answers["job-1"] = ended()
        await anyio.sleep(400.0)
        asked = len(api.asked)
        await anyio.sleep(4_000.0)

        assert recorded_types(store) == ["job.succeeded", "job.settled"]
        assert len(api.asked) == asked


async def test_removed_settling_job_is_announced_after_a_restart():
    """A job that was settling when it left the configuration is announced by the next process."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()
    async with watching(api, store, "job-1"):
        await settled()

    async with watching(api, store):
        await anyio.sleep(31.0)

    assert recorded_types(store) == ["job.succeeded"]


async def test_response_and_deadline_in_one_batch_announce_one_end():
    """A response and the deadline in one batch announce one end and crash nothing."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1") as watcher:
        await settled()
        await watcher.watch([])
        api.trouble = Transient("reset")
        now = watcher._now()
        response = Observation("job-1", now, ended())
        await watcher.ingest([response, Observation("job-1", now, Signal.TIMER)])
        await settled()

    assert recorded_types(store) == ["job.succeeded"]


async def test_bug_at_the_settle_deadline_quarantines_the_job(monkeypatch):
    """A settling job whose deadline cannot be decided is quarantined like any other."""
    decide = tracker.decide
    monkeypatch.setattr(
        tracker, "decide", lambda *of: 1 / 0 if of[1] is Signal.TIMER else decide(*of)
    )
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    with capture_logs() as lines:
        async with watching(api, store, "job-1"):
            await settled()
            api.trouble = Transient("reset")
            await anyio.sleep(1_000.0)

    assert [it["event"] for it in lines].count("job.decision_failed") == 2


async def test_settling_job_that_goes_on_ends_once():
    """An end that two polls 5 s apart contradict was none: the job goes on, and ends once."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1"):
        await settled()
        api.answers["job-1"] = ended(**COSTLESS)
        await anyio.sleep(12.0)
        api.answers["job-1"] = running()
        await anyio.sleep(60.0)
        assert recorded_types(store) == ["job.started"]
        api.answers["job-1"] = ended()
        await anyio.sleep(60.0)

    assert recorded_types(store) == ["job.started", "job.succeeded"]
