"""The watcher polls the right jobs at the right times, and applies observations in order."""

import itertools

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import RateLimited, Rejected, Transient
from poller.core.pacing import PollPolicy
from poller.polling import tracker
from poller.sutro.port import Observation
from tests.support.builders import a_job
from tests.support.fakes import (
    FailingStore,
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
TIMES = {
    "datetime_created": "2024-01-15T10:00:00Z",
    "datetime_started": "2024-01-15T10:00:10Z",
}


def gaps(times: list[float]) -> list[float]:
    """Return the waits between moments."""
    return [round(after - before, 1) for before, after in itertools.pairwise(times)]


async def test_job_is_polled_until_its_end():
    """A job is polled again and again, and never again once its end is announced."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(25.0)
        api.answers["job-1"] = ended()
        await anyio.sleep(1_000.0)

    assert recorded_types(store) == ["job.started", "job.succeeded"]
    assert gaps(api.times("job-1")) == [10.0, 10.0, 10.0]


async def test_poll_interval_is_jittered_by_a_tenth():
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


async def test_added_job_is_polled_at_once():
    """An id that is added at run time is polled without waiting for others."""
    api, store = FakeApi(job_1=running(), job_2=ended("job-2")), a_store()

    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await anyio.sleep(3.0)
        await watcher.watch(["job-2"])
        await settled()

        assert recorded_types(store) == ["job.started", "job.succeeded"]


async def test_watcher_without_jobs_waits_for_the_first():
    """Without jobs the watcher idles, and starts with the first job that is added."""
    api, store = FakeApi(job_1=ended()), a_store()

    async with watching(api, store) as watcher:
        await anyio.sleep(3_600.0)
        await watcher.watch(["job-1"])
        await settled()

        assert recorded_types(store) == ["job.succeeded"]


async def test_removed_job_is_not_polled():
    """A removed id costs no further request."""
    api = FakeApi(job_1=running(), job_2=running("job-2"))

    async with watching(api, a_store(), "job-1", "job-2", policy=FIXED) as watcher:
        await watcher.watch([], removed=["job-1"])
        asked = len(api.times("job-1"))
        await anyio.sleep(100.0)

        assert len(api.times("job-1")) == asked
        assert len(api.times("job-2")) > 5


async def test_response_about_a_removed_job_is_dropped():
    """A response about a job that was removed meanwhile is not recorded."""
    api, store = FakeApi(job_1=ended()), a_store()
    api.latency = 2.0

    async with watching(api, store, "job-1") as watcher:
        await anyio.sleep(1.0)
        await watcher.watch([], removed=["job-1"])
        await anyio.sleep(60.0)

    assert recorded_types(store) == []


async def test_job_added_again_continues_from_its_record():
    """A job that is removed and added again repeats none of its events."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await settled()
        await watcher.watch([], removed=["job-1"])
        await watcher.watch(["job-1"])
        await anyio.sleep(60.0)

    assert recorded_types(store) == ["job.started"]


async def test_finished_job_is_not_polled_after_a_restart():
    """A job whose end was announced is not polled by the next process."""
    api, store = FakeApi(job_1=ended()), a_store()
    async with watching(api, store, "job-1"):
        await settled()
    api.asked.clear()

    async with watching(api, store, "job-1"):
        await anyio.sleep(7_200.0)

    assert api.asked == []


async def test_outdated_response_is_dropped():
    """A response that was requested before the one applied last changes nothing."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=FIXED)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(["job-1"])
        await settled()
        await source.answer(running(), requested_at=clock.steady())
        await anyio.sleep(10.0)
        await source.answer(ended(), requested_at=clock.steady() - 60.0)
        group.cancel_scope.cancel()

    assert recorded_types(store) == ["job.started"]


async def test_row_that_changes_nothing_outdates_no_get():
    """A slow GET counts although a page that was requested later shows the job as known."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=FIXED)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(["job-1"])
        await settled()
        await source.answer(running(), requested_at=clock.steady())
        await anyio.sleep(10.0)
        row = Observation("job-1", clock.steady(), running(), from_list=True)
        await watcher.ingest([row])
        await source.answer(ended(), requested_at=clock.steady() - 1.0)
        group.cancel_scope.cancel()

    assert recorded_types(store) == ["job.started", "job.succeeded"]


async def test_job_with_a_dropped_response_stays_watched():
    """A job whose outdated response was dropped is polled again."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=FIXED)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(["job-1"])
        await settled()
        await source.answer(running(), requested_at=clock.steady())
        await anyio.sleep(10.0)
        await source.answer(ended(), requested_at=clock.steady() - 60.0)
        await anyio.sleep(60.0)
        await source.answer(ended(), requested_at=clock.steady())
        group.cancel_scope.cancel()

    assert recorded_types(store) == ["job.started", "job.succeeded"]


async def test_bug_in_a_decision_quarantines_one_job(monkeypatch):
    """A job that cannot be decided is polled every 15 minutes and logged; the others go on."""
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


async def test_quarantine_ends_with_the_first_decision(monkeypatch):
    """The first observation that can be decided ends a quarantine."""
    api, store = FakeApi(job_1=running()), a_store()
    async with watching(api, store, "job-1", policy=FIXED):
        with monkeypatch.context() as patch:
            patch.setattr(tracker, "job_event", lambda *_: 1 / 0)
            await settled()
        await anyio.sleep(1_000.0)

    assert recorded_types(store) == ["job.started"]
    assert gaps(api.times("job-1"))[:3] == [900.0, 10.0, 10.0]


async def test_rejected_job_is_polled_ever_less_often():
    """A 4xx for one job is polled after 1, 2, 5, and each 15 minutes, and delays no other."""
    api = FakeApi(job_1=Rejected("422"), job_2=running("job-2"))

    async with watching(api, a_store(), "job-1", "job-2", policy=FIXED):
        await anyio.sleep(2_500.0)

    assert gaps(api.times("job-1")) == [60.0, 120.0, 300.0, 900.0, 900.0]
    assert set(gaps(api.times("job-2"))) == {10.0}


async def test_failed_polls_back_off():
    """A failed poll is repeated after the larger of the interval and a growing backoff."""
    api = FakeApi(job_1=Transient("503"))

    async with watching(api, a_store(), "job-1", policy=FIXED):
        await anyio.sleep(300.0)

    assert gaps(api.times("job-1"))[:7] == [10.0, 10.0, 10.0, 10.0, 20.0, 40.0, 60.0]


async def test_response_ends_the_backoff():
    """After the first good response a job is polled at its usual interval again."""
    api = FakeApi(job_1=Transient("503"))

    async with watching(api, a_store(), "job-1", policy=FIXED):
        await anyio.sleep(300.0)
        api.answers["job-1"] = running()
        api.asked.clear()
        await anyio.sleep(180.0)

    assert set(gaps(api.times("job-1"))) == {10.0}


async def test_retry_after_pauses_all_jobs():
    """No job is polled inside the API's Retry-After, and all are polled after it."""
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


async def test_unknown_status_never_ends_a_job():
    """An unknown status keeps the state, and is logged once."""
    api, store = FakeApi(job_1=running()), a_store()

    with capture_logs() as lines:
        async with watching(api, store, "job-1", policy=FIXED):
            await anyio.sleep(5.0)
            api.answers["job-1"] = a_job("MELTED")
            await anyio.sleep(100.0)

    assert recorded_types(store) == ["job.started"]
    assert [it["event"] for it in lines].count("job.unknown_status") == 1


async def test_invalid_field_is_logged_once():
    """A field of a wrong type is logged once, whatever the number of polls and jobs."""
    odd = {"num_rows": "many"}
    api = FakeApi(job_1=running(**odd), job_2=running("job-2", **odd))

    with capture_logs() as lines:
        async with watching(api, a_store(), "job-1", "job-2", policy=FIXED):
            await anyio.sleep(100.0)

    logged = [it for it in lines if it["event"] == "job.invalid_field"]
    assert [it["field"] for it in logged] == ["num_rows"]


async def test_late_polls_are_logged_once():
    """When more jobs are due than the rate limit allows, that is logged once, and so is its end."""
    ids = [f"job-{number}" for number in range(30)]
    api = FakeApi(**{job_id: running(job_id) for job_id in ids})
    with capture_logs() as logs:
        async with watching(api, a_store(), *ids, policy=FIXED, per_minute=60.0):
            await anyio.sleep(600.0)
            api.answers = {job_id: ended(job_id) for job_id in ids[5:]} | {
                job_id: running(job_id) for job_id in ids[:5]
            }
            await anyio.sleep(600.0)

    logged = [it for it in logs if it["event"].startswith("polling.")]
    assert [it["event"] for it in logged] == ["polling.delayed", "polling.recovered"]
    assert logged[0]["factor"] == pytest.approx(3.0, abs=0.5)


async def test_late_first_polls_are_logged():
    """First polls that wait for minutes are late too."""
    ids = [f"job-{number}" for number in range(300)]
    api = FakeApi(**{job_id: running(job_id) for job_id in ids})
    slow = PollPolicy(minimum=100.0, maximum=100.0)
    with capture_logs() as logs:
        async with watching(api, a_store(), *ids, policy=slow, per_minute=60.0) as watcher:
            await anyio.sleep(200.0)
            ratio = watcher.lateness_ratio
            await anyio.sleep(300.0)

    assert ratio > 2.5
    assert [it["event"] for it in logs if it["event"].startswith("polling.")]


async def test_polls_on_time_are_not_logged_as_late():
    """A few first polls that wait for a token, and an outage that ends, are not late polls."""
    ids = [f"job-{number}" for number in range(50)]
    api = FakeApi(**{job_id: running(job_id) for job_id in ids})
    with capture_logs() as logs:
        async with watching(
            api, a_store(), *ids, policy=PollPolicy(minimum=300.0, maximum=300.0), per_minute=60.0
        ):
            await anyio.sleep(1_000.0)
            api.trouble = RateLimited("wait", retry_after=45.0)
            await anyio.sleep(50.0)
            api.trouble = None
            await anyio.sleep(1_000.0)

    assert not [it for it in logs if it["event"].startswith("polling.")]


async def test_history_is_loaded_and_goes_on_with_what_ends():
    """Jobs that ended before the start count as those that end later do, each of them once."""
    store = a_store()
    api = FakeApi(job_1=running(), job_2=running())
    async with watching(api, store, "job-1", "job-2", policy=FIXED) as watcher:
        api.answers["job-1"] = ended("job-1", **TIMES)
        await anyio.sleep(30.0)
        before = len(watcher.tracker.history)
    async with watching(api, store, "job-2", policy=FIXED) as watcher:
        await anyio.sleep(1.0)
        loaded = len(watcher.tracker.history)
        api.answers["job-2"] = ended("job-2", **TIMES)
        await anyio.sleep(30.0)

        assert (before, loaded, len(watcher.tracker.history)) == (1, 1, 2)


async def test_history_is_loaded_once_the_store_is_available():
    """A store that fails at first delays the history, and polls go on."""
    inner, api = a_store(), FakeApi(job_1=running())
    async with watching(FakeApi(job_2=ended("job-2", **TIMES)), inner, "job-2", policy=FIXED):
        await anyio.sleep(60.0)
    store = FailingStore(inner)
    store.fails = {"past_jobs"}
    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await anyio.sleep(60.0)
        before = len(watcher.tracker.history)
        store.fails = set()
        await anyio.sleep(60.0)

        assert (before, len(watcher.tracker.history), len(api.times("job-1")) > 5) == (0, 1, True)
