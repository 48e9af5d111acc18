"""`poller.receive.verify`, compared with the official library and with the JSON Schema."""

import base64
import hmac
import json
import sys
from datetime import UTC, datetime, timedelta
from subprocess import run
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from poller import receive
from poller.core.events import RECORDED_TYPES, EventOrigin
from poller.core.state import JobEventType
from poller.receive import Event, InvalidWebhook, JobFailed, JobMissing, JobStarted, verify
from poller.receive.events import ITEM_TYPES
from poller.sinks import samples
from poller.sinks.webhook import sign, signing_keys
from tests.support.builders import GOLDEN, check_event

SECRET: Final = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER: Final = "whsec_" + base64.b64encode(b"o" * 32).decode()
NOW: Final = 1_705_312_800
TOLERANCE: Final = 300
MOMENT: Final = datetime(2026, 11, 28, 12, 58, 8, 556_000, UTC)
ORIGIN: Final = EventOrigin(deployment="api.sutro.sh")
BODY: Final = (GOLDEN / "job-12345.succeeded.json").read_bytes()


def headers(body: bytes = BODY, *, secret: str = SECRET, at: int = NOW) -> dict[str, str]:
    """Return the headers of a webhook that the official library signs."""
    signature = Webhook(secret).sign("evt_1", datetime.fromtimestamp(at, UTC), body.decode())
    return {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": signature,
    }


def verified(body: bytes, **more: str) -> Event:
    """Return the event of a body, signed with the right secret."""
    return verify(headers(body) | more, body, SECRET, now=NOW)


def status(given_headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> int:
    """Return the status of the error of a webhook that is not valid."""
    with pytest.raises(InvalidWebhook) as caught:
        verify(given_headers, body, SECRET, now=now)
    return caught.value.status


@pytest.mark.parametrize("drift", [-TOLERANCE, 0.0, TOLERANCE])
def test_accepts_a_webhook_signed_by_the_official_library(drift: float):
    """A right signature with a timestamp of at most five minutes off is accepted."""
    assert verify(headers(), BODY, SECRET, now=NOW + drift).id == "evt_1"


@pytest.mark.parametrize("drift", [-TOLERANCE - 1, TOLERANCE + 1])
def test_rejects_an_old_or_early_webhook(drift: float):
    """A timestamp of more than five minutes off may be a replay: 401."""
    assert status(headers(), now=NOW + drift) == 401


def test_reads_the_clock_itself():
    """Without a time the system's clock decides, so a webhook of 2024 is too old."""
    with pytest.raises(InvalidWebhook, match="five minutes"):
        verify(headers(), BODY, SECRET)


def test_accepts_one_right_signature_of_several():
    """While the sender rotates its secret, the signature by either secret is accepted."""
    both = headers(secret=OTHER)["Webhook-Signature"] + " " + headers()["Webhook-Signature"]

    assert verified(BODY, **{"Webhook-Signature": both})


@pytest.mark.parametrize("signed_with", [SECRET, OTHER])
def test_accepts_either_of_two_secrets(signed_with: str):
    """While the receiver has both secrets, each of them is accepted."""
    assert verify(headers(secret=signed_with), BODY, f"{SECRET} {OTHER}", now=NOW)


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_rejects_a_webhook_without_a_header(name: str):
    """Each of the three headers is required."""
    received = headers()
    del received[name]

    assert status(received) == 401


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Webhook-Id", "evt_2"),
        ("Webhook-Id", "evt_\udcff"),
        ("Webhook-Timestamp", str(NOW + 1)),
        ("Webhook-Signature", headers(secret=OTHER)["Webhook-Signature"]),
        ("Webhook-Signature", headers()["Webhook-Signature"].replace("v1,", "v2,")),
        ("Webhook-Signature", "v1,ü"),
        ("Webhook-Signature", "v1,\udcff"),
    ],
)
def test_rejects_a_webhook_with_a_changed_header(name: str, text: str):
    """ID, timestamp and signature belong together; odd bytes in a header are no error of ours."""
    assert status(headers() | {name: text}) == 401


def test_rejects_a_webhook_with_a_changed_body():
    """The signature covers every byte of the body."""
    assert status(headers(), BODY + b" ") == 401


@pytest.mark.parametrize("timestamp", ["yesterday", "", "-1", "9" * 5_000, "٣"])
def test_rejects_a_signed_timestamp_that_is_no_time(timestamp: str):
    """A sender that signs nonsense as the time is rejected, not an error of the receiver."""
    signed = f"evt_1.{timestamp}.".encode() + BODY
    digest = hmac.digest(b"k" * 32, signed, "sha256")
    signature = "v1," + base64.b64encode(digest).decode()

    assert (
        status(headers() | {"Webhook-Timestamp": timestamp, "Webhook-Signature": signature}) == 401
    )


@pytest.mark.parametrize("secret", ["", " ", "whsec_", "whsec_%", "whsec_aGk", "not base64!"])
def test_a_secret_that_is_none_is_an_error_of_the_receiver(secret: str):
    """An empty or damaged secret raises ValueError: nobody's signature can be verified with it."""
    with pytest.raises(ValueError, match="secret"):
        verify(headers(), BODY, secret)


@given(body=st.text(), secret=st.sampled_from([SECRET, OTHER]), drift=st.integers(-400, 400))
def test_agrees_with_the_official_library(body: str, secret: str, drift: int):
    """A webhook is rejected with 401 exactly if the official library rejects it."""
    at = int(datetime.now(UTC).timestamp())
    keys = signing_keys(secret)
    given_headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at + drift),
        "webhook-signature": sign(keys, "evt_1", at + drift, body.encode()),
    }
    if 295 < abs(drift) < 305:  # the second may pass in between
        return

    assert _is_signed_by_library(body, given_headers) == _is_signed(body, given_headers)


def _is_signed(body: str, given_headers: dict[str, str]) -> bool:
    try:
        verify(given_headers, body.encode(), SECRET)
    except InvalidWebhook as error:
        return error.status == 400
    return True


def _is_signed_by_library(body: str, given_headers: dict[str, str]) -> bool:
    try:
        Webhook(SECRET).verify(body, given_headers)
    except WebhookVerificationError:
        return False
    except ValueError:  # it is signed, but no JSON
        return True
    return True


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"text": "a message for Slack"}',
        b'{"type": "job.failed", "timestamp": "2026-11-28T12:58:08Z", "data": {}}',
        b'{"type": "job.failed", "timestamp": "yesterday", "data": {"observed_at": "now"}}',
        b'{"type": [], "timestamp": "2026-11-28T12:58:08Z", "data": {}}',
        b'{"type": "job.failed", "data": 5}',
        b"[" * 19_000,
        (GOLDEN / "job-12345.cloudevents.json").read_bytes(),
    ],
)
def test_rejects_a_body_that_is_no_event(body: bytes):
    """A signed body in another format, or damaged, is rejected with 400."""
    assert status(headers(body), body) == 400


@pytest.mark.parametrize("event_type", sorted(RECORDED_TYPES))
def test_every_event_type_has_its_class(event_type: str):
    """A sample of each type becomes its class, with every field of the body."""
    sample = samples.test_event(event_type, ORIGIN, MOMENT, sink="webhook", instance="1")
    data = check_event(sample.body)["data"]

    event = verified(sample.body)

    assert type(event).__name__ == "".join(
        word.capitalize() for word in event_type.replace(".", "_").split("_")
    )
    assert type(event).__name__ in receive.__all__
    assert (event.id, event.type, event.data) == ("evt_1", event_type, data)
    assert event.is_test
    assert _as_sent(event, data) == {key: data[key] for key in data if key != "test"}


def _as_sent(value: Any, sent: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that were sent, as they were sent."""
    plain = {name: getattr(value, name) for name in sent if name != "test"}
    for name, each in plain.items():
        if isinstance(each, datetime):
            assert each.utcoffset() == timedelta(0)
            assert each == datetime.fromisoformat(sent[name])
            plain[name] = sent[name]
        elif name in {"job", "detection", "overdue"} and each is not None:
            plain[name] = _as_sent(each, sent[name])
        elif name in ITEM_TYPES:
            plain[name] = [_as_sent(*pair) for pair in zip(each, sent[name], strict=True)]
    return plain


def test_types_can_be_matched():
    """A `match` statement tells the types apart, and reads their fields."""
    sample = samples.sample_event(JobEventType.FAILED, ORIGIN, MOMENT)

    match verified(sample.body):
        case JobStarted():
            reason = None
        case JobFailed(job=job):
            reason = job.failure_reason

    assert reason == {"message": "The model returned no output for 3 rows."}


def test_a_job_that_was_never_observed_has_its_id_alone():
    """`job.missing` of an unknown job has a job of another class, without the other fields."""
    body = json.loads(samples.sample_event(JobEventType.MISSING, ORIGIN, MOMENT).body)
    body["data"]["job"] = {"job_id": "job-1"}

    event = verified(json.dumps(body).encode())

    assert isinstance(event, JobMissing)
    assert event.job == receive.UnobservedJob(job_id="job-1")


def test_a_type_of_a_later_version_is_a_plain_event():
    """A type that this version does not know is accepted, with its data."""
    body = json.loads(BODY)
    body["type"] = "job.paused"

    event = verified(json.dumps(body).encode())

    assert type(event) is Event
    assert (event.type, event.data) == ("job.paused", body["data"])


def test_fields_of_a_later_version_are_in_data():
    """A field that this version does not know changes nothing; `data` has it."""
    body = json.loads(BODY)
    body["data"]["eta_seconds"] = body["data"]["job"]["eta_seconds"] = 5

    event = verified(json.dumps(body).encode())

    assert event.data["eta_seconds"] == 5
    assert not event.is_test


@pytest.mark.parametrize(("sent", "is_replay"), [({}, False), ({"webhook-replay": "1"}, True)])
def test_a_replay_is_marked(sent: dict[str, str], is_replay: bool):
    """An event that an operator has sent again says so."""
    assert verified(BODY, **sent).is_replay is is_replay


def test_errors_show_neither_secret_nor_signature():
    """No message repeats the secret or what was received."""
    with pytest.raises(InvalidWebhook) as caught:
        verify(headers(secret=OTHER), BODY, SECRET, now=NOW)

    assert str(caught.value) == "the signature is missing or wrong"


def test_events_show_no_data_in_their_repr():
    """The repr of an event has its fields once, without the copy in `data`."""
    assert "data=" not in repr(verified(BODY))


def test_import_needs_no_other_package():
    """Without any installed package the import works, and loads nothing else of sutro-poller."""
    code = (
        "import sys, poller.receive\n"
        "print(*sorted(name for name in sys.modules if name.startswith('poller')))"
    )
    imported = run([sys.executable, "-S", "-c", code], capture_output=True, check=True, text=True)

    assert imported.stdout.split() == [
        "poller",
        "poller.receive",
        "poller.receive.events",
        "poller.receive.seen",
        "poller.receive.signature",
    ]
