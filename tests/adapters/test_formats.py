"""The formats of a webhook: the bytes of each, and that others read them as they are meant."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from cloudevents.v1.http import from_http
from standardwebhooks import Webhook

from poller.core.events import EVENT_TYPES, DaemonEventType, Event, daemon_event
from poller.core.jobs import JobStatus
from poller.core.outbox import Delivery
from poller.sinks.formats import FORMATS, HUMAN_FORMATS, FormatName, slack
from tests.support.builders import GOLDEN, a_job, a_job_object, check_event
from tests.support.event_builders import OBSERVED, ORIGIN, an_event
from tests.support.http_peers import answers, peer
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
    """Give a delivery of an event to a webhook."""
    return replace(DELIVERY, event=event)


async def sent(event: Event = END, **variables: str) -> tuple[dict[str, str], bytes]:
    """Send an event, and give headers and body as they arrive."""
    async with peer(answers(200)) as it, sink(it.base, **variables) as hook:
        await hook.send(delivery(event))
        return received(it)


def told(kind: str = "job.succeeded", **fields: Any) -> list[str]:
    """Give the lines that Slack gets of the end of a job with some fields."""
    event = an_event(kind, job=a_job(**{"status": "SUCCEEDED"} | fields))
    return said(event)


def said(event: Event) -> list[str]:
    """Give the lines that Slack gets of an event."""
    body = json.loads(slack(event).body)
    assert body.keys() == {"text", "mrkdwn"}
    return body["text"].split("\n")


def a_poller_event(kind: DaemonEventType, **detail: str) -> Event:
    """Give an event that is about the daemon."""
    return daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_every_event_has_words(kind: str):
    """Whatever is announced can be told to people."""
    detail = {"sink": "webhook", "reason": "the receiver returned 410"}
    is_of_job = kind.startswith("job.")
    event = an_event(kind) if is_of_job else a_poller_event(DaemonEventType(kind), **detail)

    assert said(event)[0]


def test_every_name_has_a_format():
    """What POLLER_WEBHOOK_FORMAT takes is what there is, those for people included."""
    assert set(FORMATS) == set(get_args(FormatName)) > HUMAN_FORMATS


def test_standard_is_the_stored_body():
    """Unless it is told otherwise a webhook sends the stored bytes."""
    assert FORMATS["standard"](END).body is END.body


@pytest.mark.parametrize("name", [it for it in FORMATS if it != "standard"])
def test_bytes_of_a_format(name: FormatName):
    """The bytes of a format are written down: a retry of today is one of tomorrow's version."""
    message = FORMATS[name](END)

    assert message.body == (GOLDEN / f"job-12345.{name}.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", FORMATS)
async def test_retry_sends_the_same_again(name: str):
    """A retry differs in the timestamp and the signature alone."""
    fresh = {"webhook-timestamp", "webhook-signature", "host"}
    (first, body), (again, body_again) = [await sent(format=name, secret=NEW) for _ in range(2)]

    assert body == body_again
    assert {k: v for k, v in first.items() if k not in fresh} == {
        k: v for k, v in again.items() if k not in fresh
    }


@pytest.mark.parametrize("name", FORMATS)
async def test_signature_is_that_of_the_bytes_sent(name: str):
    """With a secret every format is signed, over its own bytes and under the event's id."""
    headers, body = await sent(format=name, secret=NEW)

    assert headers["webhook-id"] == END.id
    assert Webhook(NEW).verify(body, headers) == json.loads(body)


@pytest.mark.parametrize("name", FORMATS)
async def test_no_signature_without_a_secret(name: str):
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
async def test_cloudevents_are_read_by_the_official_sdk(name: str, content_type: str):
    """In both modes the official SDK finds the attributes and the data."""
    headers, body = await sent(format=name)
    event = from_http(headers, body)

    assert headers["content-type"] == content_type
    assert event.get_attributes().items() >= ATTRIBUTES.items()
    assert event.get_data() == DATA


async def test_cloudevent_of_the_poller():
    """What the daemon tells of itself has the same source and the subject `poller`."""
    event = a_poller_event(DaemonEventType.AUTH_FAILED, reason="the API refuses the key")
    found = from_http(*await sent(event, format="cloudevents"))

    assert found["type"] == "sh.sutro.poller.poller.auth_failed"
    assert (found["source"], found["subject"]) == ("//api.sutro.sh", "poller")


# What people read.


def test_success_in_words():
    """A success tells the job's name and id, how long it ran, its cost and its tokens."""
    assert said(END) == [
        "Product review sentiment (job-12345) succeeded after 2m0s",
        "Cost $0.0234; tokens 15,420 in, 8,230 out",
    ]


def test_failure_in_words():
    """A failure tells why."""
    lines = told("job.failed", status="FAILED", failure_reason={"message": "out of quota"})

    assert lines == [
        "job-1 failed",
        "Cost unknown; tokens unknown in, unknown out",
        "out of quota",
    ]


def test_failure_without_a_message_in_words():
    """A reason that has no message is told as it is."""
    assert told(failure_reason={"code": 7})[-1] == '{"code": 7}'


def test_cost_that_may_still_change_in_words():
    """A cost that is not final is told as that."""
    assert told(job_cost=1234.5)[1].startswith("Cost $1,234.50 so far;")


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
def test_duration_in_words(seconds: float, words: str):
    """A duration is told in the units that its length asks for."""
    body = END.body.replace(b'"run_seconds":120.0', f'"run_seconds":{seconds}'.encode())

    assert said(replace(END, body=body))[0].endswith(f"succeeded {words}")


def test_text_is_escaped_for_slack():
    """A name can be neither a mention, nor a link, nor a second line."""
    (line, *_) = told(name="<!channel> R&D\n<https://a.example|x>")

    assert line == ("&lt;!channel&gt; R&amp;D &lt;https://a.example|x&gt; (job-1) succeeded")


@pytest.mark.parametrize("kind", sorted(it for it in EVENT_TYPES if it.startswith("job.")))
def test_every_event_of_a_job_in_words(kind: str):
    """Whatever happens to a job can be told, and names it."""
    assert "job-1" in told(kind)[0]


def test_job_that_was_never_seen_in_words():
    """A job of which nothing but the id is known can be told to be missing."""
    assert said(an_event("job.missing", job=None)) == [
        "job-1 is missing: the API does not find it any more"
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
def test_event_of_the_poller_in_words(kind: DaemonEventType, words: str):
    """What the daemon tells of itself is one line."""
    assert said(a_poller_event(kind, sink="hook", reason="410")) == [words]
