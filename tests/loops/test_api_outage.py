"""An API that is down is asked no more often than one that answers."""

from random import Random

import anyio
import pytest

from poller.errors import Throttled, Transient
from tests.loops.fakes import FakeApi, a_store, ended, recorded_types, running, watching

HOUR = 3_600.0
pytestmark = pytest.mark.virtual(limit=400 * HOUR)


async def requests(trouble: Transient | None, hours: float) -> tuple[FakeApi, list[str]]:
    """Watch a few jobs through hours of trouble, and let them end after it."""
    ids = [f"job-{number}" for number in range(6)]
    api, store, random = FakeApi(), a_store(), Random(3)
    api.answers = {it: running(it, datetime_started="2024-01-15T09:59:50Z") for it in ids}
    async with watching(api, store, *ids, per_minute=120.0) as watcher:
        watcher._agenda.random = random.random
        await anyio.sleep(600.0)
        api.trouble = trouble
        api.asked.clear()
        await anyio.sleep(hours * HOUR)
        api.trouble = None
        api.answers = {job_id: ended(job_id) for job_id in ids}
        await anyio.sleep(600.0)
    return api, recorded_types(store)


@pytest.mark.parametrize("hours", [1, 72])
async def test_an_outage_costs_no_more_than_health(hours):
    """Requests while the API is down are at most 1.1 times those while it is well."""
    began = anyio.current_time()
    well, _ = await requests(None, hours)
    between = anyio.current_time()
    down, types = await requests(Transient("503"), hours)

    span = hours * HOUR + 600.0
    healthy = sum(at - began < span for at, _ in well.asked)
    assert sum(at - between < span for at, _ in down.asked) <= 1.1 * healthy
    assert types.count("job.succeeded") == 6


async def test_the_return_is_no_stampede():
    """After an outage, and after a pause, no second holds more than 1.5 times the rate plus one."""
    for trouble in (Transient("503"), Throttled("429", retry_after=HOUR)):
        down, _ = await requests(trouble, 3)

        times = [at for at, _ in down.asked]
        assert all(b - a > 0.999 for a, b in zip(times, times[4:], strict=False))
