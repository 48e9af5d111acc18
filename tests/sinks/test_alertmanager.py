"""The alertmanager sink: the labels of each alert, when it ends, and the instances of a cluster."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from poller.core.errors import DeliveryError
from poller.core.events import DaemonEventType, Event, daemon_event
from poller.core.state import JobEventType
from poller.settings.secrets import mask, texts_to_redact
from poller.sinks import Sink
from poller.sinks.alertmanager import KIND, AlertmanagerSettings, alerts
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import DETECTED_AT, open_sink, sample_delivery
from tests.support.builders import GOLDEN, a_job
from tests.support.config_builders import load_errors, load_with
from tests.support.event_builders import OBSERVED, ORIGIN, an_event
from tests.support.http_peers import Peer, peer, responds

pytestmark = pytest.mark.anyio

NOW = DETECTED_AT.timestamp() + 60.0
JOB_URL = "https://app.example/jobs/{job_id}"
SETTINGS = AlertmanagerSettings(url=(SecretStr("http://127.0.0.1:9093"),))
SAMPLES = [
    *("job.failed", "job.missing", "job.unrecognised"),
    *("job.found", "job.succeeded", "job.cancelled"),
]


def sent(event: Event, now: float = NOW) -> list[dict[str, Any]]:
    """Return the alerts of an event that is sent now."""
    return alerts(event, SETTINGS, JOB_URL, now)


def sent_sample(kind: str, now: float = NOW, **fields: Any) -> dict[str, Any]:
    """Return the alert of an event of a job with some fields."""
    return sent(sample_delivery(kind, **fields).event, now)[0]


def moment(text: str) -> float:
    """Return the seconds of a time."""
    return datetime.fromisoformat(text).timestamp()


@asynccontextmanager
async def cluster(*statuses: int) -> AsyncIterator[tuple[Sink, list[Peer]]]:
    """Yield a sink to instances that respond with these statuses, and the instances."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(peer(responds(status, b'"no"'))) for status in statuses
        ]
        urls = ",".join(instance.base for instance in peers)
        yield await stack.enter_async_context(open_sink(KIND, url=urls)), peers


def test_alert_has_fixed_bytes():
    """The alert is written down: a later version must find the alert of an earlier one."""
    text = json.dumps(sent_sample("job.failed"), ensure_ascii=False, indent=2) + "\n"

    assert text == (GOLDEN / "job-12345.alertmanager.json").read_text("utf-8")


@pytest.mark.parametrize("kind", SAMPLES)
def test_all_events_of_a_job_are_about_one_alert(kind: str):
    """Labels are the identity of an alert, so those of a job never change."""
    assert sent_sample(kind)["labels"] == sent_sample("job.failed")["labels"]


@pytest.mark.parametrize("kind", SAMPLES)
def test_problem_fires_for_a_while_and_a_good_end_ends_it(kind: str):
    """An alert ends by itself after RESOLVE_AFTER, and at once when the job is well."""
    is_good = kind in {JobEventType.FOUND, JobEventType.SUCCEEDED, JobEventType.CANCELLED}

    assert moment(sent_sample(kind)["endsAt"]) == NOW + (0.0 if is_good else 900.0)


def test_alert_that_was_delayed_still_fires():
    """An alert that could not be sent for a day fires as long as one that could."""
    late = sent_sample("job.failed", now=NOW + 86_400.0)

    assert moment(late["endsAt"]) == NOW + 86_400.0 + 900.0
    assert moment(late["startsAt"]) < NOW


def test_alert_never_starts_after_its_end():
    """The start is never in the future, whatever the API's clock shows: that would be rejected."""
    early = sent_sample("job.failed", now=NOW - 86_400.0)

    assert moment(early["startsAt"]) == NOW - 86_400.0


def test_job_that_was_never_seen_is_resolved_once_it_is_found():
    """A job that was missing from the beginning had no name: the alert without it ends too."""
    job = a_job("RUNNING", name="Nightly")
    (missing,) = sent(an_event("job.missing", job=None))
    resolved = sent(an_event("job.found", job=job, previous_status=None))

    assert missing["labels"] in [alert["labels"] for alert in resolved]
    assert "job_name" not in missing["labels"]


def test_cost_is_an_alert_of_its_own():
    """A cost over its estimate is a lesser alert, which the end of the job leaves alone."""
    labels = sent_sample("job.cost_over_estimate")["labels"]

    assert (labels["alertname"], labels["severity"]) == ("SutroJobCostOverEstimate", "warning")


@pytest.mark.parametrize(("part", "severity"), [(80.0, "warning"), (100.0, "critical")])
def test_budget_is_an_alert_of_its_period(part: float, severity: str):
    """A crossed budget is an alert for its day or month, severe when nothing of it is left."""
    event = a_test_event("budget.crossed", ORIGIN, OBSERVED, sink="x", instance="1")
    body = json.loads(event.body)
    body["data"]["threshold_percent"] = part
    labels = sent(replace(event, body=json.dumps(body).encode()))[0]["labels"]

    assert (labels["alertname"], labels["severity"]) == ("SutroBudgetCrossed", severity)
    assert (labels["budget"], labels["period"]) == ("daily", "2024-01-15")


def test_accepted_key_resolves_the_alert_of_the_rejected_one():
    """The alert about the API key is the same in both events, and that of a sink is another."""
    events = [
        daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)
        for kind, detail in (
            (DaemonEventType.AUTH_FAILED, {"reason": "API key rejected"}),
            (DaemonEventType.AUTH_RECOVERED, {"reason": "API key accepted"}),
            (DaemonEventType.SINK_DISABLED, {"sink": "webhook", "reason": "410"}),
        )
    ]
    failed, recovered, disabled = (sent(event)[0]["labels"] for event in events)

    assert failed == recovered
    assert failed["alertname"] == "SutroPollerKeyRejected"
    assert (disabled["alertname"], disabled["sink"]) == ("SutroPollerSinkDisabled", "webhook")


def test_test_event_is_another_alert():
    """A test has a label of its own, so that it touches no real alert."""
    delivery = sample_delivery("job.succeeded")
    body = json.loads(delivery.event.body)
    body["data"]["test"] = True
    event = replace(delivery.event, body=json.dumps(body).encode())

    assert sent(event)[0]["labels"] == sent_sample("job.succeeded")["labels"] | {"test": "true"}


@pytest.mark.parametrize("statuses", [(200, 200, 200), (503, 200, 400)])
async def test_every_instance_gets_the_alert(statuses: tuple[int, ...]):
    """Each instance of the cluster is sent the alert, and one that takes it is enough."""
    async with cluster(*statuses) as (sink, instances):
        await sink.send(sample_delivery("job.failed"))

    assert [instance.lines for instance in instances] == [["POST /api/v2/alerts HTTP/1.1"]] * 3


@pytest.mark.parametrize(
    ("statuses", "is_sink_fault"), [((400, 503), True), ((503, 400), True), ((400, 400), False)]
)
async def test_alert_that_no_instance_takes_is_retried(
    statuses: tuple[int, ...], *, is_sink_fault: bool
):
    """While one instance may still take the alert, it is retried as long as that one fails."""
    async with cluster(*statuses) as (sink, _):
        with pytest.raises(DeliveryError) as raised:
            await sink.send(sample_delivery("job.failed"))

    assert raised.value.is_sink_fault == is_sink_fault
    assert raised.value.is_rejected != is_sink_fault


async def test_reason_has_the_words_of_alertmanager():
    """The text that Alertmanager sends as JSON is in the reason."""
    async with cluster(400) as (sink, _):
        with pytest.raises(DeliveryError, match="the receiver returned 400: no"):
            await sink.send(sample_delivery("job.failed"))


@pytest.mark.parametrize("path", ["", "/", "/api/v2/alerts", "/api/v2/alerts/"])
async def test_url_may_have_the_path_of_the_api(path: str):
    """The URL of an instance is enough; with the path of the API it means the same."""
    async with (
        peer(responds(200)) as instance,
        open_sink(KIND, url=f"{instance.base}/prefix{path}") as sink,
    ):
        await sink.send(sample_delivery("job.failed"))

    assert instance.lines == ["POST /prefix/api/v2/alerts HTTP/1.1"]


def test_alertmanager_gets_no_good_ends_by_default():
    """A good end is in no default: among others, each would be shown as a resolved alert."""
    log, alertmanager = load_with(POLLER_ALERTMANAGER_URL="https://a,https://b").sinks

    assert log.name == "log"
    assert alertmanager.route.types.isdisjoint({"job.succeeded", "job.cancelled", "job.started"})
    assert alertmanager.route.types >= {"job.failed", "job.found", "poller.auth_recovered"}


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("URL", "https://a,c4n4ry", "must be a URL such as https://host"),
        ("URL", "https://a/?c4n4ry", "must have no query or fragment"),
        ("URL", "https://a https://me:c4n4ry@b#x", "must have no query or fragment"),
        ("URL", "https://a,http://b/c4n4ry", "must be https, or set POLLER_ALLOW_HTTP=on"),
        ("SEVERITY", "very high", "must be 1 to 64 letters, digits, '_' or '-'"),
        ("RESOLVE_AFTER", "10s", "must be 1m or more"),
    ],
)
def test_bad_setting_is_one_line(name: str, text: str, rule: str):
    """A problem names the variable and the rule, and no part of a URL."""
    settings = {"POLLER_ALERTMANAGER_URL": "https://a", f"POLLER_ALERTMANAGER_{name}": text}
    (problem,) = load_errors(**settings)

    assert problem.startswith(f"POLLER_ALERTMANAGER_{name}: {rule}")
    assert "c4n4ry" not in problem


def test_urls_are_secrets():
    """Each URL is redacted, and no more than the host of the first is displayed."""
    urls = "https://me:c4n4ry@a/c4n4ry-path,https://you:c4n4ry@b/c4n4ry-too"
    config = load_with(POLLER_ALERTMANAGER_URL=urls)

    shown = mask(config.sourced["POLLER_ALERTMANAGER_URL"])
    settings = config.sinks[1].reloadable.value
    assert "c4n4ry" not in shown + repr(settings)
    assert set(urls.split(",")) <= set(texts_to_redact([settings], ()))
