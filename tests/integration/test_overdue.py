"""Overdue jobs are announced once, never after an end, and not while nothing is known."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import anyio
import pytest

from poller.core.durations import JobClass, PastJob, Stage
from poller.core.errors import Transient, Unauthorized
from poller.core.jobs import Job
from poller.core.overdue import Overdue, OverduePolicy
from poller.core.pacing import PollPolicy
from poller.core.state import LifecyclePolicy
from poller.sutro.port import Observation
from tests.support.builders import FINAL, a_job
from tests.support.fakes import FakeApi, a_store, recorded, recorded_types, watching
from tests.support.virtual_time import START

pytestmark = pytest.mark.virtual(limit=200_000.0)
POLICY = PollPolicy(minimum=120.0, maximum=120.0)
RULES = LifecyclePolicy(overdue=OverduePolicy(queued=900.0, running=1_800.0))
AUTO = LifecyclePolicy()


def at(seconds: float) -> Any:
    """Return a time after the start of the virtual clock."""
    return START + timedelta(seconds=seconds)


def a_run(
    sent: float = 0.0, started: float | None = 0.0, ended: float | None = None, **more
) -> Job:
    """Return a job with these times."""
    job = a_job("RUNNING" if started is not None else "QUEUED", model="m", num_rows=100, **more)
    times = {
        "datetime_created": at(sent),
        "datetime_started": None if started is None else at(started),
    }
    if ended is None:
        return replace(job, **times)
    final = a_job("SUCCEEDED", **FINAL)
    return replace(final, model="m", num_rows=100, **times, datetime_completed=at(ended))


def overdue_times(store) -> list[float]:
    """Return the elapsed seconds of each job.overdue."""
    return [
        event.data["overdue"]["elapsed_seconds"]
        for event in recorded(store)
        if event.type == "job.overdue"
    ]


async def test_a_job_that_runs_for_too_long_is_announced_once():
    """Within a poll and a check after its limit the job is announced, and its end says so."""
    store, api = a_store(), FakeApi(job_1=a_run())
    async with watching(api, store, "job-1", policy=POLICY, rules=RULES):
        await anyio.sleep(6_000.0)
        api.answers["job-1"] = a_run(ended=6_000.0)
        await anyio.sleep(60.0)

    assert recorded_types(store) == ["job.started", "job.overdue", "job.succeeded"]
    (elapsed,) = overdue_times(store)
    assert 1_800.0 <= elapsed <= 1_800.0 + 132.0 + 20.0
    assert recorded(store)[-1].data["was_overdue"] is True


async def test_each_stage_is_announced():
    """A job that waits for too long and then runs for too long is announced twice."""
    store, api = a_store(), FakeApi(job_1=a_run(started=None))
    async with watching(api, store, "job-1", policy=POLICY, rules=RULES):
        await anyio.sleep(2_000.0)
        api.answers["job-1"] = a_run(started=2_000.0)
        await anyio.sleep(4_000.0)

    events = [event for event in recorded(store) if event.type == "job.overdue"]
    assert [event.data["overdue"]["phase"] for event in events] == ["queued", "running"]
    assert len({event.id for event in events}) == 2


@pytest.mark.parametrize("trouble", [Transient("timeout"), Unauthorized("HTTP 401", status=401)])
async def test_a_silent_api_makes_no_job_overdue(trouble):
    """While the API does not respond, or rejects the key, no job is announced."""
    store, api = a_store(), FakeApi(job_1=a_run())
    async with watching(api, store, "job-1", policy=POLICY, rules=RULES):
        await anyio.sleep(1_000.0)
        api.trouble = trouble
        await anyio.sleep(20_000.0)
        before = recorded_types(store).count("job.overdue")
        api.trouble, api.answers["job-1"] = None, a_run(ended=1_500.0)
        await anyio.sleep(2_000.0)

    assert before == 0
    assert "job.overdue" not in recorded_types(store)
    assert "was_overdue" not in recorded(store)[-1].data


async def test_a_job_is_announced_once_over_restarts():
    """What was announced is recorded with the job: another process does not announce it again."""
    store, api = a_store(), FakeApi(job_1=a_run())
    for _ in range(3):
        async with watching(api, store, "job-1", policy=POLICY, rules=RULES):
            await anyio.sleep(2_000.0)
    api.answers["job-1"] = a_run(ended=6_000.0)
    async with watching(api, store, "job-1", policy=POLICY, rules=RULES):
        await anyio.sleep(60.0)

    assert recorded_types(store) == ["job.started", "job.overdue", "job.succeeded"]
    assert recorded(store)[-1].data["was_overdue"] is True


async def test_two_daemons_announce_the_same_event():
    """The id has no time in it: a second daemon, or one that lost its database, has the same."""
    ids = []
    for length in (2_000.0, 3_333.0):
        store, api = a_store(), FakeApi(job_1=a_run())
        async with watching(api, store, "job-1", policy=POLICY, rules=RULES):
            await anyio.sleep(length)
        ids.append([event.id for event in recorded(store) if event.type == "job.overdue"])

    assert ids[0] == ids[1]
    assert len(ids[0]) == 1


async def test_auto_needs_twenty_ends():
    """By default a job is compared with those that have ended: with nineteen none is overdue."""
    found = []
    for count in (19, 20):
        store, api = a_store(), FakeApi(job_1=a_run(started=anyio.current_time()))
        async with watching(api, store, "job-1", policy=POLICY, rules=AUTO) as watcher:
            watcher.tracker.history.add_older(
                PastJob(f"past-{n}", JobClass("m", 7, None), 1.0, 400.0) for n in range(count)
            )
            await anyio.sleep(3_000.0)
        found.append(overdue_times(store))

    assert found[0] == []
    assert [1_200.0 <= elapsed <= 1_350.0 for elapsed in found[1]] == [True]


async def test_many_jobs_are_checked_in_portions(monkeypatch: pytest.MonkeyPatch):
    """Every job of a large account is checked, a portion at a time."""
    monkeypatch.setattr("poller.polling.overdue.PORTION_JOBS", 7)
    names = [f"job-{number}" for number in range(20)]
    store, api = a_store(), FakeApi()
    api.answers = {name: replace(a_run(), job_id=name) for name in names}
    async with watching(api, store, *names, policy=POLICY, rules=RULES):
        await anyio.sleep(2_000.0)

    assert recorded_types(store).count("job.overdue") == 20


async def test_drawn_jobs_are_not_announced_after_their_end_and_seldom_at_all():
    """Of jobs that turn out normal at most 2 % are announced, and none once its end was seen."""
    random, store, api = Random(11), a_store(), FakeApi()
    jobs: dict[str, tuple[float, float]] = {}

    def answer(job_id: str) -> Job:
        sent, length = jobs[job_id]
        ended = sent + length
        is_over = anyio.current_time() >= ended
        return replace(a_run(sent, sent, ended if is_over else None), job_id=job_id)

    async with watching(api, store, "none", policy=POLICY, rules=AUTO) as watcher:
        for number in range(300):
            job_id = f"job-{number}"
            jobs[job_id] = anyio.current_time(), random.lognormvariate(6.0, 1.0)
            api.answers[job_id] = lambda job_id=job_id: answer(job_id)
            await watcher.watch([job_id])
            await anyio.sleep(random.expovariate(1 / 200.0))
        await anyio.sleep(10_000.0)

    events = [event for event in recorded(store) if event.subject in jobs]
    ended: set[str] = set()
    overdue: set[str] = set()
    for event in events:
        if event.type == "job.overdue":
            assert event.subject not in ended | overdue
            overdue.add(event.subject)
        elif event.type == "job.succeeded":
            ended.add(event.subject)
            assert event.data.get("was_overdue", False) is (event.subject in overdue)
    assert len(ended) == 300
    assert len(overdue) <= 0.02 * len(jobs)


async def test_an_end_that_arrives_with_the_notice_comes_first():
    """An end that waits to be recorded with the notice is recorded alone."""
    store, api = a_store(), FakeApi(job_1=a_run())
    async with watching(api, store, "job-1", policy=POLICY, rules=AUTO) as watcher:
        await anyio.sleep(5.0)
        now = watcher.tracker.clock.steady()
        overdue = Overdue(stage=Stage.RUNNING, elapsed=9.0, threshold=8.0)
        ended = Observation("job-1", now, a_run(ended=4.0))
        await watcher.ingest([Observation("job-1", now, overdue), ended])

        assert recorded_types(store) == ["job.started", "job.succeeded"]
