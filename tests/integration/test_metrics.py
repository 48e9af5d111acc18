"""The daemon as Prometheus reads it."""

import timeit

import anyio
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from poller.api.metrics import Metrics
from poller.core.counters import Counters
from poller.core.errors import Transient
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.integration.test_vitals import alive
from tests.support.fakes import FakeApi, SlowStore, a_store, settled
from tests.support.running_app import KEY, Receiver, an_app, living, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)

OPEN = "application/openmetrics-text; version=1.0.0"


async def metrics_of(app, parse=parse_text, accept=""):
    """Draw all metrics and read them back: values by name and labels."""
    drawn, _ = await Metrics(app.counters, app.status, app.clock.steady).render(accept)
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in parse(drawn.decode())
        for sample in family.samples
        if sample.name.startswith("sutro_poller_")
    }


@pytest.fixture
async def api():
    """Serve a simulated API that goes by virtual time, with two jobs."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    for job_id, seconds in (("job-1", 55.0), ("job-2", 5_000.0)):
        simulator.add(JobScript(job_id=job_id, run_seconds=seconds))
    async with serve(simulator) as url:
        yield simulator, url


async def test_what_a_day_looks_like(api):
    """Jobs, requests, events, deliveries, cost and tokens are what the API and receiver saw."""
    receiver = Receiver(delay=0.0)
    async with served(receiver.take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-1,job-2")
        async with living(app):
            await anyio.sleep(200.0)
            seen = await metrics_of(app)

    assert seen["sutro_poller_jobs", "state=RUNNING"] == 1
    assert seen["sutro_poller_jobs", "state=SUCCEEDED"] == 1
    requests = {
        kind: seen["sutro_poller_requests_total", f"kind={kind}"] for kind in ("job", "list")
    }
    assert requests == {"job": api[0].requests["jobs"], "list": api[0].requests["list-jobs"]}
    assert seen["sutro_poller_polls_total", "outcome=answered"] == sum(requests.values())
    assert seen["sutro_poller_events_total", "type=job.succeeded"] == 1
    assert seen["sutro_poller_deliveries_total", "outcome=delivered", "sink=webhook"] == 1
    (end,) = receiver.events
    job = end["data"]["job"]
    model = f"model={job['model']}"
    assert seen["sutro_poller_cost_usd_total", model] == job["job_cost"]
    tokens = seen["sutro_poller_tokens_total", "direction=output", model]
    assert tokens == job["output_tokens"]
    assert seen["sutro_poller_end_lag_seconds_count",] == 1
    assert 0.0 <= seen["sutro_poller_end_lag_seconds_sum",] <= 20.0
    assert seen["sutro_poller_ready",] == 1
    assert seen["sutro_poller_trouble", "trouble=api_unreachable"] == 0
    assert seen["sutro_poller_outbox_pending", "sink=webhook"] == 0
    last = virtual_clock().steady() - seen["sutro_poller_api_last_answer_timestamp_seconds",]
    assert 0.0 <= last <= 60.0


async def test_what_waits_has_an_age(api):
    """What a dead receiver has not got is counted, with the age of the oldest."""
    receiver = Receiver(status=500)
    async with served(receiver.take) as hook:
        app = an_app(api[1], hook)
        async with living(app):
            await anyio.sleep(600.0)
            seen = await metrics_of(app)

    assert seen["sutro_poller_outbox_pending", "sink=webhook"] == 1
    assert 500.0 <= seen["sutro_poller_outbox_oldest_age_seconds", "sink=webhook"] <= 600.0
    assert seen["sutro_poller_deliveries_total", "outcome=unavailable", "sink=webhook"] >= 5


async def test_both_formats_say_the_same(api):
    """OpenMetrics and the older text format carry the same numbers, and no job's id."""
    async with served(Receiver().take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-1,job-2")
        async with living(app):
            await anyio.sleep(100.0)
            text = await metrics_of(app)
            other = await metrics_of(app, parse_openmetrics, OPEN)

    assert text == other
    assert len(text) > 50
    assert not [name for name in text if "job-" in str(name)]


async def test_before_the_store_is_open(api):
    """A daemon that waits for its store says so, and has no numbers of what it does not know."""
    seen = await metrics_of(an_app(api[1], "http://127.0.0.1:1"))

    assert seen["sutro_poller_ready",] == 0
    assert ("sutro_poller_api_last_answer_timestamp_seconds",) not in seen
    assert not [name for name in seen if name[0] == "sutro_poller_outbox_pending"]


async def test_counting_costs_next_to_nothing():
    """All that one more look counts takes about a microsecond."""
    counts, error = Counters(), Transient("no")

    def look():
        counts.requests["job"] += 1
        counts.record_poll(None)
        counts.record_poll(error)

    best = min(timeit.repeat(look, number=10_000, repeat=5)) / 10_000

    assert best < 1e-5  # on a slow machine, for two outcomes


async def test_what_waits_is_counted_once_a_second():
    """Who asks what waits soon after another is told the same.

    Of a store that fails, or that is about to close, nothing is told.
    """
    store = SlowStore(a_store())
    async with alive(FakeApi(), store=store) as daemon_status:
        await settled()
        store.calls.clear()
        store.slow = "backlogs"
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(daemon_status.backlog)
        (known,) = await daemon_status.backlog()
        counted = len(store.calls["backlogs"])
        store.fails = {"backlogs"}
        await anyio.sleep(1.0)
        unknown, store.fails = await daemon_status.backlog(), set()
        await anyio.sleep(1.0)
        (again,) = await daemon_status.backlog()
        daemon_status.detach()
        closed = await daemon_status.backlog()

    assert (known, counted, unknown, closed) == (again, 1, (), ())
