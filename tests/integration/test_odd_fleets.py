"""A few odd jobs among many do not mislead the daemon about the others."""

from datetime import timedelta
from functools import partial
from itertools import pairwise

import anyio
import pytest

from poller.core.errors import (
    DeliveryError,
    NotFound,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
)
from poller.core.events import DaemonEventType, daemon_event
from poller.core.outbox import WriteBatch
from poller.core.pacing import PollPolicy
from tests.support.builders import a_job
from tests.support.fakes import (
    HOOK,
    ORIGIN,
    FailingStore,
    FakeApi,
    TimedSink,
    a_store,
    dispatching,
    ended,
    recorded,
    recorded_types,
    running,
    watching,
)
from tests.support.virtual_time import START, virtual_clock

pytestmark = pytest.mark.virtual(limit=20_000.0)
FIXED = PollPolicy(minimum=10.0, maximum=10.0)
UNAUTHORIZED = Unauthorized("API key rejected (401)", status=401)
FORBIDDEN = Unauthorized("API key rejected (403)", status=403)
LONG_AGO = (START - timedelta(days=2)).isoformat()


def fleet(size: int) -> tuple[FakeApi, list[str]]:
    """Return an API with so many running jobs, and their ids."""
    job_ids = [f"job-{number}" for number in range(size)]
    api = FakeApi()
    api.answers = {job_id: running(job_id) for job_id in job_ids}
    return api, job_ids


def longest_silence(api: FakeApi, job_id: str) -> float:
    """Return for how long a job was not polled."""
    times = api.times(job_id)
    return max(after - before for before, after in pairwise(times))


@pytest.mark.slow
async def test_job_with_401s_delays_no_other():
    """One job that is rejected for ever costs the others neither their ends nor their interval."""
    (api, job_ids), store = fleet(100), a_store()
    async with watching(api, store, *job_ids, policy=FIXED):
        await anyio.sleep(300.0)
        api.answers["job-7"] = UNAUTHORIZED
        await anyio.sleep(20.0)
        api.answers["job-3"] = ended("job-3")
        await anyio.sleep(7_200.0)

    assert recorded_types(store).count("job.succeeded") == 1
    assert not [it for it in recorded_types(store) if it.startswith("poller.")]
    assert longest_silence(api, "job-4") < 60.0


@pytest.mark.slow
@pytest.mark.parametrize("forbidden", [1, 2, 5, 20])
async def test_new_forbidden_jobs_close_no_gate(forbidden):
    """New ids that are forbidden close no gate for jobs that have responded."""
    (api, job_ids), store = fleet(40), a_store()
    others = [f"other-{number}" for number in range(forbidden)]
    api.answers |= dict.fromkeys(others, FORBIDDEN)
    async with watching(api, store, *job_ids, policy=FIXED) as watcher:
        await anyio.sleep(300.0)
        await watcher.watch(job_ids + others)
        await anyio.sleep(7_200.0)

    assert not [it for it in recorded_types(store) if it.startswith("poller.")]
    assert longest_silence(api, "job-4") < 60.0


@pytest.mark.parametrize("trouble", [NotFound("404"), Transient("500")])
async def test_gate_is_probed_with_a_job_that_responds(trouble):
    """Whether one job alone is rejected is probed with a job that responds."""
    (api, job_ids), store = fleet(10), a_store()
    api.answers = {it: running(it, datetime_started=LONG_AGO) for it in job_ids}
    odd = [f"odd-{number}" for number in range(20)]
    api.answers |= dict.fromkeys(odd, trouble) | {"forbidden": FORBIDDEN}
    async with watching(api, store, *job_ids) as watcher:
        for number in range(20):
            await anyio.sleep(1.0)
            await watcher.watch(job_ids + odd[: number + 1])
        await watcher.watch([*job_ids, *odd, "forbidden"])
        api.answers["job-4"] = ended("job-4")
        await anyio.sleep(400.0)

    assert recorded_types(store).count("job.succeeded") == 1


async def test_young_jobs_are_not_missing_before_old_ones_are_polled():
    """Young jobs, polled often, are not missing because old ones have not been polled yet."""
    api, store = FakeApi(), a_store()
    old, young = ([f"{age}-{number}" for number in range(300)] for age in ("old", "young"))
    young = young[:10]
    api.answers = {it: running(it, datetime_started=LONG_AGO) for it in old}
    api.answers |= {it: running(it, datetime_started=START.isoformat()) for it in young}
    async with watching(api, store, *old, *young, per_minute=30.0):
        await anyio.sleep(1_500.0)
        api.answers = {}
        await anyio.sleep(1_500.0)

    assert "job.missing" not in recorded_types(store)


async def test_large_job_is_not_missing_without_a_status_endpoint():
    """A 404 for the status of a job that was just there does not make the job missing."""
    api, store = FakeApi(job_1=ResponseTooLarge("over the cap")), a_store()

    async def get_status(_job_id, _known):
        raise NotFound("the API knows no such job (404)")

    api.get_status = get_status
    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(3_600.0)

    assert recorded_types(store) == []


async def test_job_added_during_a_resync_stays():
    """A resync after a lost database loads what was added meanwhile."""
    (api, job_ids), store = fleet(2), FailingStore(a_store())
    async with (
        watching(api, store, *job_ids, policy=FIXED) as watcher,
        anyio.create_task_group() as it,
    ):
        store.fails = {"load_states"}
        it.start_soon(watcher.resync)
        await anyio.sleep(1.0)
        store.fails = set()
        api.answers["new"] = ended("new")
        it.start_soon(watcher.watch, [*job_ids, "new"])
        await anyio.sleep(60.0)

    assert recorded_types(store).count("job.succeeded") == 1


async def test_removed_settling_job_is_announced_after_a_lost_database():
    """An end that the API has shown is announced, whatever the list and the database have lost."""
    api, store = FakeApi(job_1=running()), FailingStore(a_store())
    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await anyio.sleep(20.0)
        api.answers["job-1"] = a_job("SUCCEEDED", job_id="job-1")
        await anyio.sleep(12.0)
        await watcher.watch([], removed=["job-1"])
        store.store = a_store()
        await watcher.resync()
        await anyio.sleep(600.0)

    assert "job.succeeded" in recorded_types(store)


async def test_event_of_a_wrong_clock_is_retried():
    """An event that seems to be decades old is no dead letter at its first failure."""
    store, sink = a_store(), TimedSink()
    event = daemon_event(
        DaemonEventType.AUTH_FAILED,
        ORIGIN,
        virtual_clock().now(),
        instance="x",
        occurrence=1,
        detail={"reason": "it was 1970"},
    )
    await store.write(WriteBatch(events=[event]))
    clock, sink.failure = virtual_clock(START + timedelta(days=9_000)), DeliveryError("503")

    async with dispatching(store, clock=clock, hook=sink):
        await anyio.sleep(10.0)
        sink.failure = None
        await anyio.sleep(3_600.0)

    assert [state.dead for state in await store.backlogs() if state.name == HOOK] == [0]
    assert len(sink.received) == 1


@pytest.mark.parametrize("odd", [Rejected("400"), UNAUTHORIZED, Transient("500")])
async def test_odd_responses_of_one_second_hide_no_end(odd):
    """Jobs whose polls fail within one second are polled again a minute later at the latest."""
    (api, job_ids), store = fleet(60), a_store()

    def answer(job_id):
        now = anyio.current_time()
        if 104.0 <= now < 105.0:
            return odd
        return ended(job_id) if now > 160.0 else running(job_id)

    api.answers = {job_id: partial(answer, job_id) for job_id in job_ids}
    async with watching(api, store, *job_ids, policy=FIXED, per_minute=600.0):
        await anyio.sleep(104.0 + 60.0 + 15.0)

    assert recorded_types(store).count("job.succeeded") == 60
    assert not [it for it in recorded_types(store) if it.startswith("poller.")]


@pytest.mark.parametrize("answer", [ended, lambda _job_id: NotFound("no such job")])
async def test_burst_of_new_ids_hides_no_end(answer):
    """While 2,000 new ids wait for their first polls, an end is detected nearly as soon."""
    (api, job_ids), store = fleet(20), a_store()
    api.answers = {job_id: running(job_id) for job_id in job_ids}
    new = [f"new-{number}" for number in range(2_000)]
    api.answers |= {job_id: answer(job_id) for job_id in new}
    async with watching(api, store, *job_ids, per_minute=120.0) as watcher:
        await anyio.sleep(600.0)
        await watcher.watch(job_ids + new)
        await anyio.sleep(1.0)
        api.answers["job-4"] = ended("job-4")
        await anyio.sleep(45.0)
        told = [it.subject for it in recorded(store) if it.type == "job.succeeded"]

    assert "job-4" in told


async def test_added_job_is_polled_soon_though_the_budget_binds():
    """While ten times as many jobs run as requests are allowed for, a new one is polled at once."""
    (api, job_ids), store = fleet(600), a_store()
    api.answers = {job_id: running(job_id) for job_id in job_ids} | {"new": ended("new")}
    async with watching(api, store, *job_ids, per_minute=120.0) as watcher:
        await anyio.sleep(1_000.0)
        await watcher.watch([*job_ids, "new"])
        await anyio.sleep(2.0)

    assert api.times("new")
