"""The metrics of a running daemon, as Prometheus parses them."""

import time
import timeit

import anyio
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from poller.api.metrics import render
from poller.core.counters import Counters
from poller.core.errors import Transient
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.integration.test_status import status_of
from tests.support.fakes import FakeApi, SlowStore, a_store, settled
from tests.support.running_app import KEY, Receiver, an_app, running_app, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def metrics_of(app, parse=parse_text, accept=""):
    """Return the values of all metrics, rendered and parsed, by name and labels."""
    rendered, _ = await render(app.counters, app.status, accept)
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in parse(rendered.decode())
        for sample in family.samples
        if sample.name.startswith("sutro_poller_")
    }


@pytest.fixture
async def api():
    """Serve a simulated API with two jobs, in virtual time."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    for job_id, seconds in (("job-1", 55.0), ("job-2", 5_000.0)):
        simulator.add(JobScript(job_id=job_id, run_seconds=seconds))
    async with serve(simulator) as url:
        yield simulator, url


async def test_metrics_count_what_the_api_and_the_receiver_saw(api):
    """Metrics of jobs, requests, events, deliveries, cost and tokens have the right values."""
    receiver = Receiver(delay=0.0)
    async with served(receiver.take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-1,job-2")
        async with running_app(app):
            await anyio.sleep(200.0)
            values = await metrics_of(app)

    assert values["sutro_poller_watched_jobs", "state=RUNNING"] == 1
    assert values["sutro_poller_watched_jobs", "state=SUCCEEDED"] == 1
    requests = {
        endpoint: values["sutro_poller_api_requests_total", f"endpoint={endpoint}"]
        for endpoint in ("job", "list")
    }
    assert requests == {"job": api[0].requests["jobs"], "list": api[0].requests["list-jobs"]}
    assert values["sutro_poller_api_responses_total", "result=success"] == sum(requests.values())
    assert values["sutro_poller_events_recorded_total", "type=job.succeeded"] == 1
    assert values["sutro_poller_delivery_attempts_total", "result=delivered", "sink=webhook"] == 1
    (end,) = receiver.events
    job = end["data"]["job"]
    model = f"model={job['model']}"
    assert values["sutro_poller_job_cost_dollars_total", model] == job["job_cost"]
    tokens = values["sutro_poller_tokens_total", "direction=output", model]
    assert tokens == job["output_tokens"]
    assert values["sutro_poller_detection_lag_seconds_count",] == 1
    assert 0.0 <= values["sutro_poller_detection_lag_seconds_sum",] <= 20.0
    assert values["sutro_poller_ready",] == 1
    assert values["sutro_poller_issue", "issue=api_unreachable"] == 0
    assert values["sutro_poller_outbox_pending_deliveries", "sink=webhook"] == 0
    last = virtual_clock().steady() - values["sutro_poller_api_last_success_timestamp_seconds",]
    assert 0.0 <= last <= 60.0


async def test_metrics_have_durations_of_requests_and_attempts(api):
    """Each API request and each delivery attempt is in a histogram of durations."""
    receiver = Receiver(delay=3.0)
    async with served(receiver.take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-1,job-2")
        async with running_app(app):
            await anyio.sleep(200.0)
            values = await metrics_of(app)

    assert values["sutro_poller_sink_circuit_open", "sink=webhook"] == 0
    for endpoint, kind in (("job", "jobs"), ("list", "list-jobs"), ("status", "job-status")):
        name = "sutro_poller_api_request_duration_seconds_count"
        assert values[name, f"endpoint={endpoint}"] == api[0].requests[kind]
    name = "sutro_poller_delivery_duration_seconds"
    assert values[f"{name}_bucket", "le=2.5", "sink=webhook"] == 0
    assert values[f"{name}_bucket", "le=5.0", "sink=webhook"] == 1
    assert 3.0 <= values[f"{name}_sum", "sink=webhook"] <= 3.5


async def test_metrics_count_jobs_without_a_recent_poll(api):
    """A running job is stale once no poll has succeeded for ten minutes; an ended one never is."""
    async with served(Receiver().take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-1,job-2", POLLER_MAX_INTERVAL="60s")
        async with running_app(app):
            await anyio.sleep(200.0)
            api[0].key = "another"
            await anyio.sleep(530.0)
            before = await metrics_of(app)
            await anyio.sleep(90.0)
            stale = await metrics_of(app)
            api[0].key = KEY
            app.reload()
            await anyio.sleep(60.0)
            after = await metrics_of(app)

    counts = [values["sutro_poller_watched_jobs_stale",] for values in (before, stale, after)]
    assert counts == [0, 1, 0]


async def test_metrics_count_pending_deliveries_with_the_age_of_the_oldest(api):
    """The backlog of a receiver that is down is counted, with the age of the oldest delivery."""
    receiver = Receiver(status=500)
    async with served(receiver.take) as hook:
        app = an_app(api[1], hook)
        async with running_app(app):
            await anyio.sleep(600.0)
            values = await metrics_of(app)

    assert values["sutro_poller_outbox_pending_deliveries", "sink=webhook"] == 1
    assert values["sutro_poller_sink_circuit_open", "sink=webhook"] == 1
    assert 500.0 <= values["sutro_poller_outbox_oldest_age_seconds", "sink=webhook"] <= 600.0
    assert values["sutro_poller_delivery_attempts_total", "result=unavailable", "sink=webhook"] >= 5


async def test_metrics_start_at_zero_before_the_first_end(api):
    """Counters with the labels of a running job and of a sink exist before anything happened."""
    api[0].add(JobScript(job_id="job-9", queue_seconds=0.0, run_seconds=1e6, model="llama"))
    async with served(Receiver().take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-9")
        async with running_app(app):
            await anyio.sleep(5.0)
            values = await metrics_of(app)

    assert values["sutro_poller_jobs_ended_total", "model=llama", "status=FAILED"] == 0
    assert values["sutro_poller_job_cost_dollars_total", "model=llama"] == 0
    assert values["sutro_poller_delivery_attempts_total", "result=delivered", "sink=webhook"] == 0


async def test_metrics_have_the_time_from_the_end_to_the_first_attempt(api):
    """The lag of a delivery includes detection and settling, and is counted once per event."""
    receiver = Receiver(status=500)
    async with served(receiver.take) as hook:
        app = an_app(api[1], hook)
        async with running_app(app):
            await anyio.sleep(600.0)
            values = await metrics_of(app)

    detected = values["sutro_poller_detection_lag_seconds_sum",]
    sent = values["sutro_poller_delivery_lag_seconds_sum", "sink=webhook"]
    assert values["sutro_poller_delivery_lag_seconds_count", "sink=webhook"] == 1
    assert detected - 1.0 <= sent < detected + 60.0  # the API's Date header has whole seconds


async def test_metrics_are_the_same_in_both_formats(api):
    """OpenMetrics and the text format have the same values, and no job id."""
    async with served(Receiver().take) as hook:
        app = an_app(api[1], hook, POLLER_JOB_IDS="job-1,job-2")
        async with running_app(app):
            await anyio.sleep(100.0)
            text = await metrics_of(app)
            openmetrics = await metrics_of(app, parse_openmetrics, OPENMETRICS)

    assert text == openmetrics
    assert len(text) > 50
    assert not [name for name in text if "job-" in str(name)]


async def test_metrics_before_the_store_is_open(api):
    """A daemon that waits for its store is not ready, and has no metrics of unknown values."""
    values = await metrics_of(an_app(api[1], "http://127.0.0.1:1"))

    assert values["sutro_poller_ready",] == 0
    assert ("sutro_poller_api_last_success_timestamp_seconds",) not in values
    assert not [name for name in values if name[0] == "sutro_poller_outbox_pending_deliveries"]


async def test_counters_cost_microseconds():
    """All that is counted for one poll takes a few microseconds."""
    counters, error = Counters(), Transient("no")

    def poll():
        counters.requests["job"] += 1
        counters.request_durations["job"].observe(0.2)
        counters.record_poll(None)
        counters.record_poll(error)

    best = min(timeit.repeat(poll, timer=time.thread_time, number=10_000, repeat=5)) / 10_000

    assert best < 2e-5  # on a slow and busy machine, for two results


async def test_backlog_is_read_at_most_once_a_second():
    """The backlog is read from the store at most once a second, however often it is asked for.

    It is empty while the store fails, and once it is about to close.
    """
    store = SlowStore(a_store())
    async with status_of(FakeApi(), store=store) as daemon_status:
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
