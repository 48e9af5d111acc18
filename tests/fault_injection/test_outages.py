"""Outages of days in virtual time: their cost for the other side, and the recovery."""

from itertools import pairwise

import anyio
import pytest

from poller.core.errors import DeliveryError, RateLimited, Transient
from poller.core.outbox import WriteBatch
from poller.core.pacing import PollPolicy
from tests.fault_injection.harness import SCALE, tally
from tests.integration.test_rejected_key import FIXED, FORBIDDEN, REJECTED, an_api, poller_types
from tests.support.fakes import (
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
from tests.support.store_builders import an_event

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
DOWN = DeliveryError("the receiver returned 503")
TIMEOUT, PROBE = 15.0, 300.0
RATE = 120 / MINUTE
SETTLE = 30.0

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=400 * HOUR),
    pytest.mark.usefixtures("quiet"),
]

SLOW = PollPolicy(maximum=300.0, factor=1.0)
"""Intervals that are longer than any backoff: retries that come too early would show."""

WEEK = "a receiver that is down for 7 days loses nothing, and gets one probe in 300 s"
CHEAP = "an API that is down for 72 h gets at most 1.1 times the healthy requests, then no stampede"
KEY = "a rejected key costs the requests in flight and 8 in the first hour, with any number of jobs"
SETTLED = "an end whose cost is late is sent within 30 s, whatever the API does"


async def hang_and_fail(_delivery) -> None:
    """Time out, as a receiver that never responds does."""
    await anyio.sleep(TIMEOUT)
    raise DOWN


async def test_webhook_down_for_seven_days_gets_every_event():
    """After a week down, every event arrives in order, the first within a probe and a timeout."""
    store, sink, events = a_store(), TimedSink(), 500
    sink.failure = hang_and_fail
    async with dispatching(store, hook=sink) as dispatcher:
        for number in range(events):
            await anyio.sleep(7 * DAY / events)
            await store.write(WriteBatch(events=[an_event(str(number), f"job-{number // 2}")]))
            dispatcher.wake()
        sink.failure, back_at = None, anyio.current_time()
        await anyio.sleep(900.0)

    climbed = sink.attempted[0][0] + 1_200.0
    probes = [at for at, _ in sink.attempted if climbed < at < back_at]
    wrong = [f"probes {b - a:.0f} s apart" for a, b in pairwise(probes) if b - a < PROBE]
    wrong += [f"lost: {number}" for number in range(events) if f"evt_{number}" not in sink.ids]
    wrong += ["something came twice"] if len(sink.ids) > len(set(sink.ids)) else []
    late = min(at for at, _ in sink.received) - back_at
    wrong += [f"noticed after {late:.0f} s"] if late > PROBE + TIMEOUT else []
    order = {event_id: place for place, event_id in enumerate(sink.ids)}
    for job in range(events // 2):
        first, then = (order.get(f"evt_{2 * job + offset}", -1) for offset in (0, 1))
        wrong += [f"out of order: job-{job}"] if first > then else []
    tally(WEEK, cases=events, violations=wrong)


async def requests(
    trouble: Transient | RateLimited | None, hours: float
) -> tuple[list[float], int]:
    """Watch jobs through hours of trouble; return the times of polls and the number of ends."""
    ids, began = [f"job-{number}" for number in range(6)], anyio.current_time()
    api, store, random = FakeApi(), a_store(), SCALE.random("requests", hours)
    api.answers = {
        job_id: running(job_id, datetime_started="2024-01-15T09:59:50Z") for job_id in ids
    }
    policy = SLOW if hours > DAY / HOUR else PollPolicy()
    async with watching(api, store, *ids, per_minute=60 * RATE, policy=policy) as watcher:
        watcher._scheduler.random = random.random
        await anyio.sleep(600.0)
        api.trouble = trouble
        api.asked.clear()
        await anyio.sleep(hours * HOUR)
        api.trouble = None
        api.answers = {job_id: ended(job_id) for job_id in ids}
        await anyio.sleep(600.0)
    times = [at - began for at, _ in api.asked]
    return times, recorded_types(store).count("job.succeeded")


@pytest.mark.parametrize("hours", [1, 72])
async def test_api_outage_costs_no_more_requests(hours: float):
    """Requests while the API is down are at most 1.1 times those while it is up."""
    span = hours * HOUR + 600.0
    well, down = [
        sum(at < span for at in (await requests(trouble, hours))[0])
        for trouble in (None, Transient("503"))
    ]

    tally(CHEAP, cases=down, violations=[f"{down} for {well}"] if down > 1.1 * well else [])


@pytest.mark.parametrize("trouble", [Transient("503"), RateLimited("429", retry_after=HOUR)])
async def test_api_return_is_no_stampede(trouble: Transient | RateLimited):
    """After an outage no second has more than 1.5 times the rate and one, and all ends come."""
    times, ends = await requests(trouble, 3)

    most = int(1.5 * RATE + 1)
    packed = [
        f"{most + 1} in {b - a:.2f} s"
        for a, b in zip(times, times[most:], strict=False)
        if b - a < 0.999
    ]
    lost = [] if ends == 6 else [f"{ends} of 6 ends"]
    tally(CHEAP, cases=len(times), violations=packed + lost)


@pytest.mark.parametrize("refusal", [REJECTED, FORBIDDEN], ids=["401", "403"])
@pytest.mark.parametrize("jobs", [1, 100, 10_000])
async def test_revoked_key_costs_few_requests(jobs: int, refusal: Exception):
    """The first hour of a revoked key costs the requests in flight and eight more at most."""
    (api, ids), store = an_api(jobs), a_store()
    api.latency = 1.0
    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(300.5)  # between two polls, which take a second
        api.trouble, revoked_at = refusal, anyio.current_time()
        in_flight = sum(at > revoked_at - api.latency for at, _ in api.asked)
        await anyio.sleep(HOUR)

    after = sum(at >= revoked_at for at, _ in api.asked)
    wrong = [] if 2 <= after <= max(in_flight, 16) + 8 else [f"{after} requests"]
    wrong += [] if poller_types(store) == ["poller.auth_failed"] else [f"{poller_types(store)}"]
    tally(KEY, cases=jobs, violations=wrong)


async def test_ends_are_sent_in_time_when_the_api_fails():
    """If the API fails after the first observation of an end, the event is sent within 30 s."""
    ids, random = [f"job-{number}" for number in range(SCALE.cases(60, 2_000))], SCALE.random("end")
    wrong, cases = [], 0
    for start in range(0, len(ids), 20):
        fleet, api, store = ids[start : start + 20], FakeApi(), a_store()
        api.answers = {job_id: ended(job_id, job_cost=None) for job_id in fleet}
        async with watching(api, store, *fleet):
            await anyio.sleep(random.uniform(0.1, 29.0))
            api.trouble = Transient("reset")
            seen = {job_id: times[0] for job_id in fleet if (times := api.times(job_id))}
            await anyio.sleep(max(seen.values()) + SETTLE + 0.1 - anyio.current_time())
            sent = {event.subject for event in recorded(store) if event.type == "job.succeeded"}
        wrong += [f"not sent: {job_id}" for job_id in seen if job_id not in sent]
        cases += len(seen)
    tally(SETTLED, cases=cases, violations=wrong)
