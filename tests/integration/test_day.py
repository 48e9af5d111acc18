"""A day of many jobs through the whole product, while all around it fails."""

from collections import Counter
from random import Random

import anyio
import pytest
from aiohttp import web

from poller.core.events import DEFAULT_NAMESPACE, event_id
from poller.sutro.simulator.script import JobScript, SimulatedJob
from tests.support.faulty_api import HostileApi
from tests.support.running_app import Receiver, an_app, living, served
from tests.support.virtual_time import virtual_clock

HOUR = 3_600.0
DAY = 24 * HOUR
OUTAGES = ((5 * HOUR, 7 * HOUR), (15 * HOUR, 15.5 * HOUR))
DEAF = ((6 * HOUR, 11 * HOUR), (18 * HOUR, 18.2 * HOUR))
RATE = 120 / 60.0

pytestmark = pytest.mark.virtual(limit=2 * DAY)


def lives(random: Random, now: float) -> dict[str, SimulatedJob]:
    """Give a hundred jobs of mixed ends_as that begin over the day and run up to three hours."""
    scripts = [
        JobScript(
            job_id=f"job-{number}",
            ends_as=random.choice(["succeeded", "succeeded", "failed", "cancelled"]),
            queue_seconds=random.uniform(0.0, 16 * HOUR),
            run_seconds=random.choice([20.0, 600.0, 1 * HOUR, 3 * HOUR]),
            cost_delay=random.choice([0.0, 0.0, 10.0, 300.0]),
            case=random.choice(["upper", "lower"]),
        )
        for number in range(100)
    ]
    begun = enumerate(scripts)
    return {it.job_id: SimulatedJob.begin(it, number, now=now, speed=1.0) for number, it in begun}


class DeafReceiver(Receiver):
    """A receiver that is down for hours."""

    async def take(self, request: web.Request) -> web.Response:
        """Take an event, unless it is down."""
        at = anyio.current_time()
        self.status = 503 if any(start <= at < end for start, end in DEAF) else 200
        return await super().take(request)


@pytest.fixture
async def day():
    """Live through a day, and give the API and the receiver of it."""
    clock, random = virtual_clock(), Random(7)
    api = HostileApi(lives(random, clock.steady()), clock.steady, random, outages=OUTAGES)
    receiver = DeafReceiver()
    types = "job.started,job.succeeded,job.failed,job.cancelled,job.missing"
    async with served(api.take) as url, served(receiver.take) as hook:
        app = an_app(
            url + "/v1",
            hook,
            clock=clock,
            random=random.random,
            POLLER_JOB_IDS=",".join(api.lives),
            POLLER_WEBHOOK_EVENTS=types,
            POLLER_MAX_INTERVAL="15m",
            POLLER_INTERVAL_FACTOR="4",
        )
        async with living(app):
            await anyio.sleep(DAY)
    return api, receiver


@pytest.mark.slow
async def test_a_day_of_faults(day):
    """Each end comes once, in order, verified, and the API's wishes are heeded."""
    api, receiver = day

    check_ends(api, receiver)
    check_order(receiver)
    check_pace(api)


def check_ends(api: HostileApi, receiver: Receiver) -> None:
    """Every job's end came exactly once, under its one id, and nothing came twice."""
    ends = {
        event_id(DEFAULT_NAMESPACE, life.script.job_id, f"job.{life.script.ends_as}")
        for life in api.lives.values()
    }
    counted = Counter(message_id for _, message_id, _ in receiver.got)

    assert ends <= set(counted)
    assert set(counted.values()) == {1}
    facts = Counter((it["type"], it["data"]["job"]["job_id"]) for it in receiver.events)
    assert set(facts.values()) == {1}
    told = {kind for kind, _ in facts}
    assert told == {
        "job.started",
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "job.cost_settled",
    }


def check_order(receiver: Receiver) -> None:
    """The events of each job came in the order of their sequence."""
    by_job: dict[str, list[int]] = {}
    for event in receiver.events:
        by_job.setdefault(event["data"]["job"]["job_id"], []).append(event["data"]["sequence"])
    for sequence in by_job.values():
        assert sequence == sorted(sequence)


def check_pace(api: HostileApi) -> None:
    """No request came inside a pause, and no second held more than the bucket allows."""
    for start, end in api.pauses:
        inside = [at for at in api.asked if start + 0.5 < at < end]
        assert not inside
    most = int(1.5 * RATE + 1)
    for first, after in zip(api.asked, api.asked[most:], strict=False):
        assert after - first > 0.999
