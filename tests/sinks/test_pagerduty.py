"""The pagerduty sink, against a receiver of the documented shape: one incident for each job."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from poller.core.errors import ConfigError, DeliveryError
from poller.core.events import DaemonEventType, daemon_event
from poller.core.outbox import Delivery
from poller.sinks import Sink
from poller.sinks.incidents import MAX_KEY, incident_key
from poller.sinks.pagerduty import KIND, PagerDutySettings, content
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import open_sink, sample_delivery
from tests.support.builders import GOLDEN
from tests.support.event_builders import OBSERVED, ORIGIN
from tests.support.http_peers import peer, responds
from tests.support.pagerduty import ROUTING_KEY, PagerDuty
from tests.support.webhook_receiver import listening

pytestmark = pytest.mark.anyio

JOB_KEY = "sutro/api.sutro.sh/job/job-12345"
JOB_URL = "https://app.example/jobs/{job_id}"


@pytest.fixture
async def service() -> AsyncIterator[PagerDuty]:
    """Yield PagerDuty."""
    async with listening(PagerDuty()) as receiver:
        yield receiver


@pytest.fixture
async def sink(service: PagerDuty) -> AsyncIterator[Sink]:
    """Yield a sink that sends to it."""
    async with open_sink(KIND, routing_key=ROUTING_KEY, url=service.url) as opened:
        yield opened


def of_daemon(kind: DaemonEventType, **detail: str) -> Delivery:
    """Return the delivery of an event of the daemon."""
    event = daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)
    return replace(sample_delivery(), event=event)


async def failure(*errors: str) -> DeliveryError:
    """Return the error of a response with 400 and these errors."""
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
    async with (
        peer(responds(400, json.dumps(body).encode())) as receiver,
        open_sink(KIND, routing_key=ROUTING_KEY, url=receiver.base) as opened,
    ):
        with pytest.raises(DeliveryError) as raised:
            await opened.send(sample_delivery("job.failed"))
    return raised.value


def test_request_has_fixed_bytes():
    """The request is written down: a retry may be sent by a later version."""
    settings = PagerDutySettings(routing_key=SecretStr(ROUTING_KEY))
    found = content(sample_delivery("job.failed").event, settings, JOB_URL)

    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    assert text == (GOLDEN / "job-12345.pagerduty.json").read_text("utf-8")


@pytest.mark.parametrize("kind", ["job.failed", "job.missing", "job.unrecognised"])
@pytest.mark.parametrize("end", ["job.found", "job.succeeded", "job.cancelled"])
async def test_incident_of_a_job_is_resolved(service: PagerDuty, sink: Sink, kind: str, end: str):
    """What goes wrong with a job opens its incident; its return or its good end resolves it."""
    await sink.send(sample_delivery(kind))
    assert service.unresolved == {JOB_KEY}

    await sink.send(sample_delivery(end))
    assert not service.unresolved


async def test_job_never_has_two_incidents(service: PagerDuty, sink: Sink):
    """Whatever else goes wrong with a job, and however often it is sent, has the same incident."""
    for kind in ("job.missing", "job.unrecognised", "job.failed", "job.failed"):
        await sink.send(sample_delivery(kind, name=kind))

    assert service.opened == [JOB_KEY]
    assert "job.failed" in service.summaries[JOB_KEY]


async def test_late_fields_do_not_open_a_second_incident(service: PagerDuty, sink: Sink):
    """After somebody has resolved an incident, the late cost of the job does not open another."""
    await sink.send(sample_delivery("job.failed"))
    service.unresolved.clear()
    await sink.send(sample_delivery("job.settled"))

    assert len(service.log) == 1


def test_cost_is_less_severe_than_a_failure():
    """A cost over its estimate is a warning; what wakes somebody up is as severe as it is set."""
    settings = PagerDutySettings(routing_key=SecretStr(ROUTING_KEY))
    severities = [
        content(sample_delivery(kind).event, settings, None)["payload"]["severity"]
        for kind in ("job.cost_over_estimate", "job.failed")
    ]

    assert severities == ["warning", "error"]


async def test_cost_has_an_incident_of_its_own(service: PagerDuty, sink: Sink):
    """A cost over its estimate opens an incident, which the end of the job leaves open."""
    await sink.send(sample_delivery("job.cost_over_estimate"))
    await sink.send(sample_delivery("job.succeeded"))

    assert service.unresolved == {"sutro/api.sutro.sh/cost/job-12345"}


async def test_end_of_an_overdue_job_resolves_its_incident(service: PagerDuty, sink: Sink):
    """An overdue job opens the incident of that job, which its end resolves."""
    await sink.send(sample_delivery("job.overdue"))
    opened = set(service.unresolved)
    await sink.send(sample_delivery("job.succeeded"))

    assert opened == {"sutro/api.sutro.sh/job/job-12345"}
    assert service.unresolved == set()


async def test_incident_of_a_rejected_key_is_resolved(service: PagerDuty, sink: Sink):
    """An accepted API key resolves the incident of the rejected one, and no other."""
    await sink.send(of_daemon(DaemonEventType.SINK_DISABLED, sink="webhook", reason="410"))
    await sink.send(of_daemon(DaemonEventType.AUTH_FAILED, reason="API key rejected"))
    await sink.send(of_daemon(DaemonEventType.AUTH_RECOVERED, reason="API key accepted"))

    assert service.opened[1] == "sutro/api.sutro.sh/api-key"
    assert service.unresolved == {"sutro/api.sutro.sh/sink/webhook"}


@pytest.mark.parametrize("kind", ["poller.test", "job.failed", "job.succeeded"])
async def test_test_event_never_touches_the_incident_of_a_job(
    service: PagerDuty, sink: Sink, kind: str
):
    """Test events share an incident of their own, which a test of a success resolves."""
    now = datetime(2024, 1, 15, tzinfo=UTC)
    event = a_test_event(kind, ORIGIN, now, sink="pagerduty", instance="i")
    await sink.send(sample_delivery("job.failed"))
    await sink.send(replace(sample_delivery(), event=event))

    is_good = kind == "job.succeeded"
    assert service.log[1] == ("resolve" if is_good else "trigger", "sutro/api.sutro.sh/test")
    assert JOB_KEY in service.unresolved


def test_key_is_short_and_differs_for_jobs_and_deployments():
    """The key fits the limit for the longest job ID, and no two jobs share one."""
    ids = ["j" * 256, "j" * 255, "a", "a/b"]
    keys = {
        incident_key({"deployment": deployment, "job": {"job_id": job_id}}, "job.failed")
        for job_id in ids
        for deployment in ("x", "y")
    }

    assert len(keys) == 8
    assert max(map(len, keys)) <= MAX_KEY


async def test_rejected_event_says_what_is_wrong_with_it():
    """The errors that PagerDuty lists are the reason."""
    error = await failure("'payload.summary' is missing or blank")

    assert error.reason == "the receiver returned 400: 'payload.summary' is missing or blank"
    assert (error.is_rejected, error.is_suspect) == (True, False)


async def test_rejected_routing_key_is_not_the_fault_of_the_event():
    """A wrong routing key must not make a dead letter of each event."""
    error = await failure("Length of 'routing_key' is incorrect (should be 32 characters)")

    assert (error.is_rejected, error.is_suspect) == (False, True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "POLLER_TEST_ROUTING_KEY: is required"),
        ({"routing_key": "c4n4ry"}, "POLLER_TEST_ROUTING_KEY: must be the 32 letters"),
        ({"severity": "high"}, "POLLER_TEST_SEVERITY: must be 'critical', 'error'"),
    ],
)
async def test_bad_setting_is_one_line(settings: dict[str, str], problem: str):
    """A problem names the variable and the rule, and never the key."""
    defaults = {"routing_key": ROUTING_KEY} if "severity" in settings else {}
    with pytest.raises(ConfigError) as raised:
        async with open_sink(KIND, **(defaults | settings)):
            pass

    (line,) = raised.value.problems
    assert line.startswith(problem)
    assert "c4n4ry" not in line
