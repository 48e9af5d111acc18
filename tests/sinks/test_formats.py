"""The formats of a webhook: their bytes, and that other software reads them."""

import json
from dataclasses import replace
from typing import get_args

import pytest
from cloudevents.v1.http import from_http
from standardwebhooks import Webhook

from poller.core.events import DaemonEventType, Event, daemon_event
from poller.core.job_status import JobStatus
from poller.core.outbox import Delivery
from poller.sinks.formats import FORMATS, FormatName
from tests.support.builders import GOLDEN, a_job, a_job_object, check_event
from tests.support.event_builders import OBSERVED, ORIGIN, an_event
from tests.support.http_peers import peer, responds
from tests.support.webhook_sinks import DELIVERY, NEW, received, sink

END = an_event(
    "job.succeeded",
    job_id="job-12345",
    job=a_job(**a_job_object()),
    previous_status=JobStatus.RUNNING,
    sequence=2,
)
DATA = check_event(END.body)["data"]
ATTRIBUTES = {
    "specversion": "1.0",
    "id": END.id,
    "source": "//api.sutro.sh",
    "type": "sh.sutro.poller.job.succeeded",
    "subject": "job-12345",
    "time": "2024-01-15T10:32:15Z",
}


def delivery(event: Event = END) -> Delivery:
    """Return a delivery of an event to a webhook."""
    return replace(DELIVERY, event=event)


async def sent(event: Event = END, **variables: str) -> tuple[dict[str, str], bytes]:
    """Send an event, and return headers and body as they arrive."""
    async with peer(responds(200)) as receiver, sink(receiver.base, **variables) as hook:
        await hook.send(delivery(event))
        return received(receiver)


def a_daemon_event(kind: DaemonEventType, **detail: str) -> Event:
    """Return an event of the daemon."""
    return daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)


def test_formats_match_the_setting():
    """The values of POLLER_WEBHOOK_FORMAT are the formats that exist."""
    assert set(FORMATS) == set(get_args(FormatName))


def test_standard_format_is_the_stored_body():
    """The default format sends the stored bytes."""
    assert FORMATS["standard"](END).body is END.body


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "standard"])
def test_format_has_fixed_bytes(name: FormatName):
    """The bytes of a format are written down: a retry may be sent by a later version."""
    content = FORMATS[name](END)

    assert content.body == (GOLDEN / f"job-12345.{name}.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", FORMATS)
async def test_format_of_a_retry_is_the_same(name: str):
    """A retry differs in the timestamp and the signature only."""
    fresh = {"webhook-timestamp", "webhook-signature", "host"}
    (first, body), (again, body_again) = [await sent(format=name, secret=NEW) for _ in range(2)]

    assert body == body_again
    assert {k: v for k, v in first.items() if k not in fresh} == {
        k: v for k, v in again.items() if k not in fresh
    }


@pytest.mark.parametrize("name", FORMATS)
async def test_format_is_signed_over_the_bytes_sent(name: str):
    """With a secret every format is signed, over its own bytes and with the id of the event."""
    headers, body = await sent(format=name, secret=NEW)

    assert headers["webhook-id"] == END.id
    assert Webhook(NEW).verify(body, headers) == json.loads(body)


@pytest.mark.parametrize("name", FORMATS)
async def test_format_is_not_signed_without_a_secret(name: str):
    """Without a secret nothing is signed."""
    headers, _ = await sent(format=name)

    assert "webhook-signature" not in headers


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("cloudevents", "application/cloudevents+json"),
        ("cloudevents-binary", "application/json"),
    ],
)
async def test_cloudevents_format_is_read_by_the_official_sdk(name: str, content_type: str):
    """In both modes the official SDK finds the attributes and the data."""
    headers, body = await sent(format=name)
    event = from_http(headers, body)

    assert headers["content-type"] == content_type
    assert event.get_attributes().items() >= ATTRIBUTES.items()
    assert event.get_data() == DATA


async def test_cloudevents_format_of_a_daemon_event():
    """An event of the daemon has the same source and the subject `poller`."""
    event = a_daemon_event(DaemonEventType.AUTH_FAILED, reason="the API rejects the key")
    found = from_http(*await sent(event, format="cloudevents"))

    assert found["type"] == "sh.sutro.poller.poller.auth_failed"
    assert (found["source"], found["subject"]) == ("//api.sutro.sh", "poller")
