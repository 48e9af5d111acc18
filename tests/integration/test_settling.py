"""Ends that are not final are announced in time, whatever becomes of the API meanwhile."""

from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import Transient
from poller.core.outbox import WriteBatch
from poller.core.pacing import LATE_WATCH_SECONDS, PollPolicy
from poller.core.routing import Route
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


async def test_response_after_the_settle_deadline_keeps_the_watch():
    """A poll that the deadline overtakes does not stop the polls for what is missing."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1"):
        await settled()
        api.latency = 20.0
        await anyio.sleep(60.0)
        api.latency = 0.0
        api.answers["job-1"] = ended()
        await anyio.sleep(700.0)

    assert recorded_types(store) == ["job.succeeded", "job.settled"]


async def test_late_fields_are_sent_to_the_sinks_of_the_end():
    """What comes later goes to every sink that had the end, whatever is configured by then."""
    api = FakeApi(job_1=ended(**COSTLESS))
    store = a_store()
    store._routes = {
        "hook": Route(types=frozenset({"job.succeeded"}), min_cost=0.3, min_duration=900.0),
        "other": Route(types=frozenset({"job.failed"})),
    }
    hook, other = TimedSink(), TimedSink()

    async with (
        dispatching(store, hook=hook, other=other) as dispatcher,
        watching(api, store, "job-1", wake=dispatcher.wake),
    ):
        await anyio.sleep(100.0)
        store._routes = {
            "hook": Route(types=frozenset(), min_cost=1.0),
            "other": Route(types=frozenset({"job.settled"})),
        }
        api.answers["job-1"] = ended(job_cost=0.25)
        await anyio.sleep(700.0)

    assert hook.types == ["job.succeeded", "job.settled"]
    assert hook.received[1][1].data["job"]["job_cost"] == 0.25
    assert other.types == []


async def test_late_watch_ends_after_a_week():
    """A field that never comes is polled for no longer than a week after the end."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()
    async with watching(api, store, "job-1"):
        await anyio.sleep(60.0)
    (end,) = await store.load_states([])
    await store.write(WriteBatch(states=[replace(end, since=end.since - LATE_WATCH_SECONDS + 3e4)]))
    before = len(api.asked)

    async with watching(api, store, "job-1"):
        await anyio.sleep(80_000.0)

    assert [round(at, -2) for at in api.times("job-1")[before:]] == [100.0, 30_000.0]
    assert recorded_types(store) == ["job.succeeded"]
    assert await store.load_states([]) == []


STORIES = [
    ("FAILED", {"failure_reason"}, [({"failure_reason"}, 300.0)]),
    ("FAILED", {"datetime_completed"}, [({"datetime_completed"}, 2_000.0)]),
    ("SUCCEEDED", {"input_tokens", "output_tokens"}, [({"input_tokens", "output_tokens"}, 90.0)]),
    ("CANCELLED", {"job_cost"}, [({"job_cost"}, 700.0)]),
    ("SUCCEEDED", {"job_cost", "output_tokens"}, [({"output_tokens"}, 40.0), ({"job_cost"}, 2e3)]),
    ("SUCCEEDED", {"job_cost", "output_tokens"}, [({"job_cost"}, 3.0), ({"output_tokens"}, 2e3)]),
]


@pytest.mark.parametrize(("status", "missing", "arrivals"), STORIES, ids=range(len(STORIES)))
async def test_late_fields_are_reported_once(status, missing, arrivals):
    """Whatever follows an end with final: false is reported once, also over restarts."""
    api, store = FakeApi(job_1=ended(status=status, **dict.fromkeys(missing))), a_store()
    began, missing = anyio.current_time(), set(missing)

    for fields, at in [*arrivals, (set(), 5e3)]:
        async with watching(api, store, "job-1"):
            await anyio.sleep((began + at - anyio.current_time()) / 2.0)
        async with watching(api, store, "job-1"):
            await anyio.sleep(began + at - anyio.current_time())
        missing -= fields
        api.answers["job-1"] = ended(status=status, **dict.fromkeys(missing))

    assert recorded_types(store) == [f"job.{status.lower()}", "job.settled"]
    assert [it.data["final"] for it in recorded(store)] == [False, True]


async def test_list_row_brings_late_fields():
    """A page that is read for other jobs saves the wait; one that lags does not put off the GET."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1") as watcher:
        await anyio.sleep(500.0)
        for _ in range(20):
            await anyio.sleep(10.0)
            row = ended(**COSTLESS)
            await watcher.ingest([Observation("job-1", watcher._now(), row, from_list=True)])
        polls = [at for at in api.times("job-1") if at > 60.0]
        assert [round(at, -2) for at in polls] == [600.0]
        row = Observation("job-1", watcher._now(), ended(), from_list=True)
        await watcher.ingest([row])
        assert recorded_types(store) == ["job.succeeded", "job.settled"]
        await anyio.sleep(5_000.0)

    assert len([at for at in api.times("job-1") if at > 60.0]) == 1


async def test_lagging_row_takes_nothing_away():
    """What a GET has shown of an end stays known when a page is behind."""
    api, store = FakeApi(job_1=ended(**COSTLESS)), a_store()

    async with watching(api, store, "job-1") as watcher:
        await anyio.sleep(10.0)
        row = ended(job_cost=0.5, output_tokens=None)
        await watcher.ingest([Observation("job-1", watcher._now(), row, from_list=True)])

    assert recorded_types(store) == ["job.succeeded"]
    assert recorded(store)[0].data["final"] is True


async def test_settling_job_is_polled_on_time_in_a_fleet():
    """When more polls are due than requests are allowed, a settling job is still on time."""
    ids = [f"job-{number}" for number in range(600)]
    api, store = FakeApi(), a_store()
    api.answers = {job_id: running(job_id) for job_id in ids}

    async with watching(api, store, *ids, per_minute=120.0):
        await anyio.sleep(800.0)
        api.answers["job-7"] = ended("job-7", **COSTLESS)
        before = len(api.times("job-7"))
        await anyio.sleep(600.0)

    first, *polls = api.times("job-7")[before:]
    assert [at - first for at in polls[:4]] == pytest.approx([1.0, 3.0, 7.0, 15.0], abs=1.0)


async def test_missing_costs_do_not_delay_the_ends_of_others():
    """Many jobs whose cost never comes take no turn from those that run."""
    gone = [f"gone-{number}" for number in range(100)]
    api, store = FakeApi(job_1=running()), a_store()
    api.answers |= {job_id: ended(job_id, "CANCELLED", **COSTLESS) for job_id in gone}

    async with watching(api, store, "job-1", *gone, per_minute=6.0):
        await anyio.sleep(3_000.0)

    late = [at for at, job_id in api.asked if job_id in gone and at > 1_200.0]
    waits = [later - at for at, later in pairwise(api.times("job-1")) if at > 1_200.0]
    assert len(late) > 80
    assert max(waits) < PollPolicy().interval(3_000.0) + 2 * 10.0


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
        await watcher.watch([], removed=["job-1"])
        await anyio.sleep(40.0)
        api.answers["job-1"] = ended()
        await anyio.sleep(700.0)
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
        await watcher.watch([], removed=["job-1"])
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
        await anyio.sleep(9.0)
        api.answers["job-1"] = running()
        await anyio.sleep(60.0)
        assert recorded_types(store) == ["job.started"]
        api.answers["job-1"] = ended()
        await anyio.sleep(60.0)

    assert recorded_types(store) == ["job.started", "job.succeeded"]
