"""The watcher looks at the right jobs at the right times, and applies what it sees in order."""

import itertools

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import RateLimited, Rejected, Transient
from poller.core.pacing import PollPolicy
from poller.polling import tracker
from tests.support.builders import a_job
from tests.support.fakes import (
    FakeApi,
    FakeSource,
    a_store,
    a_watcher,
    ended,
    recorded_types,
    running,
    settled,
    watching,
)
from tests.support.virtual_time import START, virtual_clock

pytestmark = pytest.mark.virtual(limit=90_000.0)
FIXED = PollPolicy(minimum=10.0, maximum=10.0)


def gaps(times: list[float]) -> list[float]:
    """Give the waits between moments."""
    return [round(after - before, 1) for before, after in itertools.pairwise(times)]


async def test_a_job_is_looked_at_until_its_end():
    """A job is looked at again and again, and never again once its end is told."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(25.0)
        api.answers["job-1"] = ended()
        await anyio.sleep(1_000.0)

    assert recorded_types(store) == ["job.started", "job.succeeded"]
    assert gaps(api.times("job-1")) == [10.0, 10.0, 10.0]


async def test_jitter_is_a_tenth_either_way():
    """An interval is stretched or shortened by at most a tenth."""
    api = FakeApi(job_1=running())
    clock = virtual_clock()

    for draw, expected in ((0.0, 9.0), (0.999999, 11.0)):
        api.asked.clear()
        async with watching(api, a_store(), "job-1", policy=FIXED) as watcher:
            watcher._scheduler.random = lambda draw=draw: draw
            await anyio.sleep(60.0)

        assert gaps(api.times("job-1"))[-1] == pytest.approx(expected)
    assert clock.now() > START


async def test_a_job_that_is_added_is_looked_at_at_once():
    """An id that joins the watched ones at run time is looked at without waiting for others."""
    api, store = FakeApi(job_1=running(), job_2=ended("job-2")), a_store()

    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await anyio.sleep(3.0)
        await watcher.watch(["job-1", "job-2"])
        await settled()

        assert recorded_types(store) == ["job.started", "job.succeeded"]


async def test_a_watcher_without_jobs_waits_for_the_first():
    """With nothing to watch it idles, and begins with the first job that is added."""
    api, store = FakeApi(job_1=ended()), a_store()

    async with watching(api, store) as watcher:
        await anyio.sleep(3_600.0)
        await watcher.watch(["job-1"])
        await settled()

        assert recorded_types(store) == ["job.succeeded"]


async def test_a_job_that_is_removed_is_looked_at_no_more():
    """An id that leaves the watched ones costs no further request."""
    api = FakeApi(job_1=running(), job_2=running("job-2"))

    async with watching(api, a_store(), "job-1", "job-2", policy=FIXED) as watcher:
        await watcher.watch(["job-2"])
        asked = len(api.times("job-1"))
        await anyio.sleep(100.0)

        assert len(api.times("job-1")) == asked
        assert len(api.times("job-2")) > 5


async def test_an_answer_about_a_removed_job_is_dropped():
    """What comes back for a job that was removed meanwhile is not recorded."""
    api, store = FakeApi(job_1=ended()), a_store()
    api.latency = 2.0

    async with watching(api, store, "job-1") as watcher:
        await anyio.sleep(1.0)
        await watcher.watch([])
        await anyio.sleep(60.0)

    assert recorded_types(store) == []


async def test_a_job_that_comes_back_goes_on_from_its_record():
    """A job that is removed and added again has not forgotten what was told of it."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await settled()
        await watcher.watch([])
        await watcher.watch(["job-1"])
        await anyio.sleep(60.0)

    assert recorded_types(store) == ["job.started"]


async def test_a_job_that_is_done_costs_no_request_after_a_restart():
    """A job whose end was told is not asked for again by the next process."""
    api, store = FakeApi(job_1=ended()), a_store()
    async with watching(api, store, "job-1"):
        await settled()
    api.asked.clear()

    async with watching(api, store, "job-1"):
        await anyio.sleep(7_200.0)

    assert api.asked == []


async def test_an_older_answer_that_comes_late_is_dropped():
    """An observation asked for before the one that was applied last changes nothing."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=FIXED)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(["job-1"])
        await settled()
        await source.answer(running(), asked_at=clock.steady())
        await anyio.sleep(10.0)
        await source.answer(ended(), asked_at=clock.steady() - 60.0)
        group.cancel_scope.cancel()

    assert recorded_types(store) == ["job.started"]


async def test_a_dropped_answer_does_not_end_the_watching():
    """A job whose late answer was dropped is asked for again."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=FIXED)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(["job-1"])
        await settled()
        await source.answer(running(), asked_at=clock.steady())
        await anyio.sleep(10.0)
        await source.answer(ended(), asked_at=clock.steady() - 60.0)
        await anyio.sleep(60.0)
        await source.answer(ended(), asked_at=clock.steady())
        group.cancel_scope.cancel()

    assert recorded_types(store) == ["job.started", "job.succeeded"]


async def test_a_bug_in_deciding_quarantines_one_job(monkeypatch):
    """A job that cannot be decided is tried every 15 minutes, loudly; the others go on."""
    decide = tracker.decide

    def broken(state, seen, now, rules):
        if state.job_id == "job-1":
            raise ZeroDivisionError
        return decide(state, seen, now, rules)

    monkeypatch.setattr(tracker, "decide", broken)
    api, store = FakeApi(job_1=running(), job_2=running("job-2")), a_store()

    with capture_logs() as lines:
        async with watching(api, store, "job-1", "job-2", policy=FIXED):
            await anyio.sleep(1_000.0)

    assert gaps(api.times("job-1")) == [900.0]
    assert len(api.times("job-2")) >= 100
    assert recorded_types(store) == ["job.started"]
    assert [it["event"] for it in lines].count("job.decision_failed") == 2


async def test_a_job_that_heals_leaves_quarantine(monkeypatch):
    """The first look that can be decided ends a quarantine."""
    api, store = FakeApi(job_1=running()), a_store()
    async with watching(api, store, "job-1", policy=FIXED):
        with monkeypatch.context() as patch:
            patch.setattr(tracker, "job_event", lambda *_: 1 / 0)
            await settled()
        await anyio.sleep(1_000.0)

    assert recorded_types(store) == ["job.started"]
    assert gaps(api.times("job-1"))[:3] == [900.0, 10.0, 10.0]


async def test_a_rejected_job_is_asked_for_seldom():
    """A 4xx for one job is tried every 15 minutes and holds up no other."""
    api = FakeApi(job_1=Rejected("422"), job_2=running("job-2"))

    async with watching(api, a_store(), "job-1", "job-2", policy=FIXED):
        await anyio.sleep(2_000.0)

    assert gaps(api.times("job-1")) == [900.0, 900.0]
    assert set(gaps(api.times("job-2"))) == {10.0}


async def test_failures_back_off():
    """A failing look is repeated after the larger of the interval and a growing backoff."""
    api = FakeApi(job_1=Transient("503"))

    async with watching(api, a_store(), "job-1", policy=FIXED):
        await anyio.sleep(300.0)

    assert gaps(api.times("job-1"))[:7] == [10.0, 10.0, 10.0, 10.0, 20.0, 40.0, 60.0]


async def test_an_answer_ends_the_backoff():
    """After the first good answer a job is looked at in its usual interval again."""
    api = FakeApi(job_1=Transient("503"))

    async with watching(api, a_store(), "job-1", policy=FIXED):
        await anyio.sleep(300.0)
        api.answers["job-1"] = running()
        api.asked.clear()
        await anyio.sleep(180.0)

    assert set(gaps(api.times("job-1"))) == {10.0}


async def test_a_pause_is_waited_for_by_all_jobs():
    """No job is asked for inside the host's Retry-After, and all are asked for after it."""
    api = FakeApi(job_1=running(), job_2=running("job-2"))

    async with watching(api, a_store(), "job-1", "job-2", policy=FIXED):
        await anyio.sleep(15.0)
        api.trouble = RateLimited("429", retry_after=120.0)
        await anyio.sleep(10.0)
        api.trouble = None
        paused_at = api.asked[-1][0]
        await anyio.sleep(130.0)

    later = [at for at, _ in api.asked if at > paused_at]
    assert len(later) >= 2
    assert paused_at + 120.0 <= min(later) <= paused_at + 121.0


async def test_an_unknown_word_never_ends_a_job():
    """A status that nobody knows keeps the state, and is told once in the log."""
    api, store = FakeApi(job_1=running()), a_store()

    with capture_logs() as lines:
        async with watching(api, store, "job-1", policy=FIXED):
            await anyio.sleep(5.0)
            api.answers["job-1"] = a_job("MELTED")
            await anyio.sleep(100.0)

    assert recorded_types(store) == ["job.started"]
    assert [it["event"] for it in lines].count("job.unknown_status") == 1


async def test_odd_fields_are_told_once():
    """A field of a wrong type is logged once, whatever the number of looks and jobs."""
    odd = {"num_rows": "many"}
    api = FakeApi(job_1=running(**odd), job_2=running("job-2", **odd))

    with capture_logs() as lines:
        async with watching(api, a_store(), "job-1", "job-2", policy=FIXED):
            await anyio.sleep(100.0)

    told = [it for it in lines if it["event"] == "job.invalid_field"]
    assert [it["field"] for it in told] == ["num_rows"]


async def test_a_binding_budget_is_told_once():
    """When more is due than the budget allows that is one line, and its end is another."""
    ids = [f"job-{number}" for number in range(30)]
    api = FakeApi(**{job_id: running(job_id) for job_id in ids})
    with capture_logs() as logs:
        async with watching(api, a_store(), *ids, policy=FIXED, per_minute=60.0):
            await anyio.sleep(600.0)
            api.answers = {job_id: ended(job_id) for job_id in ids[5:]} | {
                job_id: running(job_id) for job_id in ids[:5]
            }
            await anyio.sleep(600.0)

    told = [it for it in logs if it["event"].startswith("polling.")]
    assert [it["event"] for it in told] == ["polling.delayed", "polling.recovered"]
    assert told[0]["factor"] == pytest.approx(3.0, abs=0.5)


async def test_a_budget_that_does_not_bind_is_not_told():
    """First looks that wait for their turn, and an outage that ends, stretch nothing."""
    ids = [f"job-{number}" for number in range(200)]
    api = FakeApi(**{job_id: running(job_id) for job_id in ids})
    with capture_logs() as logs:
        async with watching(
            api, a_store(), *ids, policy=PollPolicy(minimum=300.0), per_minute=60.0
        ):
            await anyio.sleep(1_000.0)
            api.trouble = RateLimited("wait", retry_after=45.0)
            await anyio.sleep(50.0)
            api.trouble = None
            await anyio.sleep(1_000.0)

    assert not [it for it in logs if it["event"].startswith("polling.")]
