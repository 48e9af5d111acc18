"""The formats of a webhook: their bytes, and that other software reads them."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from cloudevents.v1.http import from_http
from standardwebhooks import Webhook

from poller.core.events import EVENT_TYPES, DaemonEventType, Event, daemon_event
from poller.core.job_status import JobStatus
from poller.core.outbox import Delivery
from poller.sinks.formats import FORMATS, HUMAN_FORMATS, FormatName, slack
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


def job_message(kind: str = "job.succeeded", **fields: Any) -> list[str]:
    """Return the lines that Slack gets for the event of a job with some fields."""
    event = an_event(kind, job=a_job(**{"status": "SUCCEEDED"} | fields))
    return message(event)


def message(event: Event) -> list[str]:
    """Return the lines that Slack gets for an event."""
    body = json.loads(slack(event).body)
    assert body.keys() == {"text", "mrkdwn"}
    return body["text"].split("\n")


def a_daemon_event(kind: DaemonEventType, **detail: str) -> Event:
    """Return an event of the daemon."""
    return daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_message_exists_for_every_event_type(kind: str):
    """Every event type has a message for people."""
    detail = {"sink": "webhook", "reason": "the receiver returned 410"}
    is_of_job = kind.startswith("job.")
    event = an_event(kind) if is_of_job else a_daemon_event(DaemonEventType(kind), **detail)

    assert message(event)[0]


def test_formats_match_the_setting():
    """The values of POLLER_WEBHOOK_FORMAT are the formats that exist, with those for people."""
    assert set(FORMATS) == set(get_args(FormatName)) > HUMAN_FORMATS


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


# Messages for people.


def test_message_of_a_success():
    """A success has the job's name and id, how long it ran, its cost and its tokens."""
    assert message(END) == [
        "Product review sentiment (job-12345) succeeded after 2m0s",
        "Cost $0.0234; tokens 15,420 in, 8,230 out",
    ]


def test_message_of_a_failure():
    """A failure has its reason."""
    lines = job_message("job.failed", status="FAILED", failure_reason={"message": "out of quota"})

    assert lines == [
        "job-1 failed",
        "Cost unknown; tokens unknown in, unknown out",
        "out of quota",
    ]


def test_message_of_a_type_of_an_earlier_version():
    """A pending event whose type no longer exists is shown with its type."""
    assert message(replace(END, type="job.cost_settled"))[0].startswith("job.cost_settled: Product")


def test_message_of_a_failure_without_a_reason_text():
    """A reason without a message is shown whole."""
    assert job_message(failure_reason={"code": 7})[-1] == '{"code": 7}'


def test_message_of_a_cost_that_is_not_final():
    """A cost that is not final is marked."""
    assert job_message(job_cost=1234.5)[1].startswith("Cost $1,234.50 so far;")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4.84, "after 4.8s"),
        (60, "after 1m0s"),
        (3599.4, "after 59m59s"),
        (3599.6, "after 1h0m"),
        (100_000, "after 1d3h"),
    ],
)
def test_message_has_the_duration(seconds: float, words: str):
    """A duration has the units that suit its length."""
    body = END.body.replace(b'"run_seconds":120.0', f'"run_seconds":{seconds}'.encode())

    assert message(replace(END, body=body))[0].endswith(f"succeeded {words}")


def test_message_is_escaped_for_slack():
    """A name cannot be a mention, a link or a second line."""
    (line, *_) = job_message(name="<!channel> R&D\n<https://a.example|x>")

    assert line == ("&lt;!channel&gt; R&amp;D &lt;https://a.example|x&gt; (job-1) succeeded")


@pytest.mark.parametrize("kind", sorted(kind for kind in EVENT_TYPES if kind.startswith("job.")))
def test_message_of_every_job_event_names_the_job(kind: str):
    """Every message about a job has its id."""
    assert "job-1" in job_message(kind)[0]


def test_message_of_a_job_without_a_job_object():
    """A job of which only the id is known can be reported missing."""
    assert message(an_event("job.missing", job=None)) == [
        "job-1 is missing: the API no longer knows it"
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (DaemonEventType.AUTH_FAILED, "api.sutro.sh rejects the API key: no job is being watched"),
        (DaemonEventType.AUTH_RECOVERED, "api.sutro.sh accepts the API key again"),
        (
            DaemonEventType.SINK_DISABLED,
            "The sink hook is disabled and gets no more events: 410",
        ),
    ],
)
def test_message_of_a_daemon_event(kind: DaemonEventType, words: str):
    """An event of the daemon is one line."""
    assert message(a_daemon_event(kind, sink="hook", reason="410")) == [words]
