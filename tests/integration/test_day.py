"""A day of many jobs in the whole daemon, with outages of the API and of the receiver."""

import json
from collections import Counter
from random import Random

import anyio
import pytest
from aiohttp import web

from poller.core.events import DEFAULT_NAMESPACE, event_id
from poller.sutro.simulator.script import JobScript, SimulatedJob
from tests.support.builders import check_event
from tests.support.faulty_api import FaultyApi
from tests.support.running_app import Receiver, an_app, running_app, served
from tests.support.virtual_time import virtual_clock

HOUR = 3_600.0
DAY = 24 * HOUR
API_OUTAGES = ((5 * HOUR, 7 * HOUR), (15 * HOUR, 15.5 * HOUR))
RECEIVER_OUTAGES = ((6 * HOUR, 11 * HOUR), (18 * HOUR, 18.2 * HOUR))
REQUESTS_PER_SECOND = 120 / 60.0

pytestmark = pytest.mark.virtual(limit=2 * DAY)


def simulated_jobs(random: Random, now: float) -> dict[str, SimulatedJob]:
    """Return a hundred jobs with various ends that start over 16 hours and run up to three."""
    scripts = [
        JobScript(
            job_id=f"job-{number}",
            ends_as=random.choice(["succeeded", "succeeded", "failed", "cancelled"]),
            queue_seconds=random.uniform(0.0, 16 * HOUR),
            run_seconds=random.choice([20.0, 600.0, 1 * HOUR, 3 * HOUR]),
            cost_delay=random.choice([0.0, 0.0, 10.0, 300.0]),
            tokens_delay=random.choice([0.0, 0.0, 20.0, 1_000.0]),
            reason_delay=random.choice([0.0, 0.0, 5.0, 200.0]),
            case=random.choice(["upper", "lower"]),
        )
        for number in range(100)
    ]
    return {
        script.job_id: SimulatedJob(script=script, number=number, created=now, speed=1.0)
        for number, script in enumerate(scripts)
    }


class FailingReceiver(Receiver):
    """A receiver that is down for hours."""

    async def take(self, request: web.Request) -> web.Response:
        """Receive an event, unless it is down."""
        at = anyio.current_time()
        self.status = 503 if any(start <= at < end for start, end in RECEIVER_OUTAGES) else 200
        return await super().take(request)


@pytest.fixture
async def day():
    """Run the daemon for a day, and return its API and its receiver."""
    clock, random = virtual_clock(), Random(7)
    api = FaultyApi(
        simulated_jobs(random, clock.steady()), clock.steady, random, outages=API_OUTAGES
    )
    receiver = FailingReceiver()
    types = "job.started,job.succeeded,job.failed,job.cancelled,job.missing"
    async with served(api.handle) as url, served(receiver.take) as hook:
        app = an_app(
            url + "/v1",
            hook,
            clock=clock,
            random=random.random,
            POLLER_JOB_IDS=",".join(api.jobs),
            POLLER_WEBHOOK_EVENTS=types,
            POLLER_MAX_INTERVAL="15m",
            POLLER_INTERVAL_FACTOR="4",
        )
        async with running_app(app):
            await anyio.sleep(DAY)
    return api, receiver


@pytest.mark.slow
async def test_day_of_outages_delivers_each_event_once(day):
    """Each end is delivered once, in order and verified, and no rate limit is exceeded."""
    api, receiver = day

    check_ends(api, receiver)
    check_finality(receiver)
    check_order(receiver)
    check_rate(api)


def check_ends(api: FaultyApi, receiver: Receiver) -> None:
    """Assert that every end and every other event was delivered exactly once."""
    ends = {
        event_id(DEFAULT_NAMESPACE, life.script.job_id, f"job.{life.script.ends_as}")
        for life in api.jobs.values()
    }
    counted = Counter(message_id for _, message_id, _ in receiver.got)

    assert ends <= set(counted)
    assert set(counted.values()) == {1}
    delivered = Counter(
        (event["type"], event["data"]["job"]["job_id"]) for event in receiver.events
    )
    assert set(delivered.values()) == {1}
    assert {kind for kind, _ in delivered} == {
        "job.started",
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "job.settled",
    }


def check_finality(receiver: Receiver) -> None:
    """Assert that ends that were not final, and no others, were followed by what they lacked."""
    settled, not_final = set(), set()
    for event in receiver.events:
        data = check_event(json.dumps(event).encode())["data"]
        if event["type"] == "job.settled":
            settled.add(data["job"]["job_id"])
        elif data["final"] is False:
            not_final.add(data["job"]["job_id"])

    assert settled == not_final
    assert settled


def check_order(receiver: Receiver) -> None:
    """Assert that the events of each job were delivered in order."""
    by_job: dict[str, list[int]] = {}
    for event in receiver.events:
        by_job.setdefault(event["data"]["job"]["job_id"], []).append(event["data"]["sequence"])
    for sequence in by_job.values():
        assert sequence == sorted(sequence)


def check_rate(api: FaultyApi) -> None:
    """Assert that no request came in a pause, nor more in a second than the limit allows."""
    for start, end in api.pauses:
        inside = [at for at in api.requested_at if start + 0.5 < at < end]
        assert not inside
    most = int(1.5 * REQUESTS_PER_SECOND + 1)
    for first, after in zip(api.requested_at, api.requested_at[most:], strict=False):
        assert after - first > 0.999
