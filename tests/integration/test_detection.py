"""Every start and end says how late it was noticed, and how late it can have been."""

from datetime import timedelta

import anyio
import pytest

from poller.core.errors import Transient
from poller.core.jobs import format_rfc3339
from poller.core.pacing import PollPolicy
from poller.store import Store
from tests.support.builders import a_job
from tests.support.fakes import FakeApi, a_store, ended, recorded, running, watching
from tests.support.virtual_time import START

pytestmark = pytest.mark.virtual(limit=7_200.0)
FIXED = PollPolicy(minimum=10.0, maximum=10.0)


def at(seconds: float) -> str:
    """Write the moment so long after the start."""
    return format_rfc3339(START + timedelta(seconds=seconds))


def detection(store: Store, kind: str) -> dict | None:
    """Give what the one recorded event of a type says."""
    (event,) = [it for it in recorded(store) if it.type == kind]
    return event.data["detection"]


async def test_an_end_between_two_looks():
    """The lag counts from the end, its bound from the last look that did not show it."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(26.0)
        api.answers["job-1"] = ended(datetime_completed=at(24.0))
        await anyio.sleep(10.0)

    assert detection(store, "job.succeeded") == {
        "previous_poll_at": at(20.0),
        "lag_seconds": 6.0,
        "lag_max_seconds": 10.0,
        "visibility_delay_seconds": 0.0,
    }


async def test_a_look_that_failed_shows_nothing():
    """A look that failed is no bound: the job may have ended before it."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(15.0)
        api.trouble = Transient("down")
        await anyio.sleep(10.0)
        api.trouble, api.answers["job-1"] = None, ended(datetime_completed=at(18.0))
        await anyio.sleep(30.0)

    told = detection(store, "job.succeeded")
    assert told["previous_poll_at"] == at(10.0)
    assert told["lag_max_seconds"] == 20.0
    assert told["lag_seconds"] == 12.0


async def test_waiting_for_the_cost_is_no_lag():
    """The end of a job that settles was noticed when it was first seen, not when it is told."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(15.0)
        api.answers["job-1"] = a_job("SUCCEEDED", datetime_completed=at(17.0))
        await anyio.sleep(12.0)
        api.answers["job-1"] = ended(datetime_completed=at(17.0))
        await anyio.sleep(30.0)

    told = detection(store, "job.succeeded")
    assert (told["lag_seconds"], told["lag_max_seconds"]) == (3.0, 10.0)
    assert told["previous_poll_at"] == at(10.0)


async def test_what_the_api_held_back_is_told_apart():
    """An end that a later look did not show yet is not the schedule's lag."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(26.0)
        api.answers["job-1"] = ended(datetime_completed=at(13.0))
        await anyio.sleep(10.0)

    told = detection(store, "job.succeeded")
    assert (told["lag_seconds"], told["visibility_delay_seconds"]) == (10.0, 7.0)


async def test_the_first_look_has_no_bound():
    """A job that had ended before it was first looked at tells its lag, and no previous look."""
    api, store = FakeApi(job_1=ended(datetime_completed=at(-40.0))), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(1.0)

    assert detection(store, "job.succeeded") == {
        "previous_poll_at": None,
        "lag_seconds": 40.0,
        "lag_max_seconds": None,
        "visibility_delay_seconds": None,
    }


async def test_a_start_has_one_and_a_late_cost_has_none():
    """A start is dated like an end; what the API does not date has no lag."""
    api, store = FakeApi(job_1=a_job("QUEUED")), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(15.0)
        api.answers["job-1"] = running(datetime_started=at(19.0))
        await anyio.sleep(10.0)
        api.answers["job-1"] = ended(status="FAILED", datetime_completed=at(29.0), job_cost=None)
        await anyio.sleep(60.0)
        api.answers["job-1"] = ended(status="FAILED", datetime_completed=at(29.0))
        await anyio.sleep(700.0)

    assert detection(store, "job.started")["lag_seconds"] == 1.0
    assert detection(store, "job.failed")["lag_max_seconds"] == 10.0
    assert detection(store, "job.settled") is None
