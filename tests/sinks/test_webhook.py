"""The webhook sink, with all kinds of receivers and with the official verifiers."""

import hashlib
import hmac
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import pytest
import standardwebhooks
import svix

from poller.core.errors import DeliveryError
from poller.settings.base import Reloadable
from poller.sinks import SinkContext
from poller.sinks.http_post import RESPONSE_BYTES_CAP
from poller.sinks.webhook import open_sink
from tests.support.http_peers import (
    BREAKING,
    OK,
    STALLING,
    Peer,
    floods,
    peer,
    responds,
    sends,
    stalls,
)
from tests.support.webhook_sinks import BODY, DELIVERY, NEW, OLD, received, settings, sink

UNACKNOWLEDGING = {
    "103 alone",
    "closed",
    "endless 1xx",
    "garbage",
    "odd header after a 500",
    "reset before the header",
    "silence",
    "status line of letters",
}
"""The hostile peers that send no 2xx status line."""
ACKNOWLEDGING = {*BREAKING, *STALLING} - UNACKNOWLEDGING - {"switching protocols"}


async def failure(receiver: Peer, path: str = "/hook") -> DeliveryError:
    """Send to a receiver that does not accept it, and return the error."""
    async with sink(receiver.base + path) as hook:
        with pytest.raises(DeliveryError) as caught:
            await hook.send(DELIVERY)
    return caught.value


# Requests.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_webhook_2xx_acknowledges(status: int):
    """Any 2xx response acknowledges the event."""
    async with peer(responds(status)) as receiver, sink(receiver.base + "/hook?x=1") as hook:
        await hook.send(DELIVERY)

    assert receiver.lines == ["POST /hook?x=1 HTTP/1.1"]


async def test_webhook_body_is_the_stored_one():
    """The bytes that are sent are exactly those that are stored."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(receiver)

    assert body == BODY
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(BODY))


async def test_webhook_signature_is_verified_by_standardwebhooks():
    """The official library verifies a request."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(receiver)

    assert standardwebhooks.Webhook(NEW).verify(body, headers) == json.loads(BODY)


async def test_webhook_signature_is_verified_by_svix():
    """A second verifier accepts a request under the right secret, and no other."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(receiver)

    svix.Webhook(NEW).verify(body, headers)
    with pytest.raises(svix.WebhookVerificationError):
        svix.Webhook(OLD).verify(body, headers)


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_webhook_signs_with_two_secrets_during_a_rotation(secret: str):
    """During a rotation, receivers that have either of the secrets can verify."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=f"{NEW} {OLD}") as hook:
        await hook.send(DELIVERY)
        headers, body = received(receiver)

    assert len(headers["webhook-signature"].split()) == 2
    assert standardwebhooks.Webhook(secret).verify(body, headers)


def body_signature(secret: str, body: bytes) -> str:
    """Return a signature as GitHub documents it: the key is the text of the secret."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("form", ["standard", "cloudevents", "cloudevents-binary"])
async def test_webhook_hub_signature(form: str):
    """If it is on, there is a signature of the body beside the other one."""
    event = replace(DELIVERY.event, body=b'{"timestamp":"2024","data":{"deployment":"a"}}')
    async with (
        peer(responds(200)) as receiver,
        sink(receiver.base, secret=NEW, hub_signature="on", format=form) as hook,
    ):
        await hook.send(replace(DELIVERY, event=event))
        headers, body = received(receiver)

    assert headers["x-hub-signature-256"] == body_signature(NEW, body)
    assert standardwebhooks.Webhook(NEW).verify(body, headers)


async def test_webhook_hub_signature_with_two_secrets():
    """During a rotation each secret signs: a comma and no space between the two."""
    async with (
        peer(responds(200)) as receiver,
        sink(receiver.base, secret=f" {NEW}\n{OLD}", hub_signature="on") as hook,
    ):
        await hook.send(DELIVERY)

    both = f"{body_signature(NEW, BODY)},{body_signature(OLD, BODY)}"
    assert receiver.header("X-Hub-Signature-256") == both


async def test_webhook_hub_signature_is_off_by_default():
    """By default there is no signature that a replay would pass."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=NEW) as hook:
        await hook.send(DELIVERY)

    assert receiver.header("X-Hub-Signature-256") is None


@pytest.mark.parametrize("change", ["secret", "body", "webhook-id", "webhook-timestamp"])
async def test_webhook_signature_detects_forgery(change: str):
    """The signature covers the secret, the body, the id and the timestamp."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(receiver)
    if change in headers:
        headers[change] = headers[change][:-1] + ("1" if headers[change][-1] != "1" else "2")
    verifier = standardwebhooks.Webhook(OLD if change == "secret" else NEW)

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verifier.verify(body.replace(b"job", b"jab") if change == "body" else body, headers)


async def test_webhook_without_a_secret_is_unsigned():
    """Without a secret there is an id and a timestamp, and no signature."""
    async with peer(responds(200)) as receiver, sink(receiver.base) as hook:
        before = int(time.time())
        await hook.send(DELIVERY)
        headers, _ = received(receiver)

    assert headers["webhook-id"] == "evt_1"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    assert "webhook-signature" not in headers


@pytest.mark.parametrize(("is_replay", "mark"), [(False, None), (True, "1")])
async def test_webhook_marks_replays(is_replay: bool, mark: str | None):
    """A replay is marked as one, and nothing else is."""
    async with peer(responds(200)) as receiver, sink(receiver.base) as hook:
        await hook.send(replace(DELIVERY, is_replay=is_replay))

    assert receiver.header("webhook-replay") == mark


async def test_webhook_sends_additional_headers():
    """The user's own headers are sent too."""
    own = '{"Authorization": "Bearer canary", "User-Agent": "mine"}'
    async with peer(responds(200)) as receiver, sink(receiver.base, headers=own) as hook:
        await hook.send(DELIVERY)
        headers, _ = received(receiver)

    assert (headers["authorization"], headers["user-agent"]) == ("Bearer canary", "mine")


async def test_webhook_uses_reloaded_settings():
    """A reloaded URL and secret apply from the next delivery on."""
    async with (
        peer(responds(200)) as receiver,
        open_sink(
            reloadable := Reloadable(settings(url=receiver.base + "/old", secret=OLD)),
            SinkContext(),
        ) as hook,
    ):
        await hook.send(DELIVERY)
        reloadable.value = settings(url=receiver.base + "/new", secret=NEW)
        await hook.send(DELIVERY)
        headers, body = received(receiver)

    assert receiver.lines == ["POST /old HTTP/1.1", "POST /new HTTP/1.1"]
    assert standardwebhooks.Webhook(NEW).verify(body, headers)


# Responses.

REJECTED: Final = (400, 413, 415, 422)
SUSPECT: Final = (401, 403, 404, 405, 407)


@pytest.mark.parametrize(
    ("status", "is_sink_fault"),
    [
        *((status, True) for status in (300, 301, 302, 304, 307, 308)),
        *((status, False) for status in (402, 406, 409, 410, 451)),
        *((status, False) for status in (*REJECTED, *SUSPECT)),
        *((status, True) for status in (408, 425, 429)),
        *((status, True) for status in (500, 501, 502, 503, 504, 520, 524, 599)),
    ],
)
async def test_webhook_error_by_status(status: int, is_sink_fault: bool):
    """Most 4xx are the event's own fault; any other status is a problem of the receiver."""
    async with peer(responds(status)) as receiver:
        error = await failure(receiver)

    assert str(error).startswith(f"the receiver returned {status}")
    assert ("redirects are not followed: set the URL" in str(error)) == (status < 400)
    assert (error.is_sink_fault, error.retry_after) == (is_sink_fault, None)
    assert (error.is_permanent, error.is_gone) == (False, status == 410)
    assert (error.is_suspect, error.is_rejected) == (status in SUSPECT, status in REJECTED)


@pytest.mark.parametrize("status", [302, 409, 410, 200])
async def test_webhook_receipts_acknowledge(status: int):
    """A configured status acknowledges the event, and a 2xx still does."""
    async with (
        peer(responds(status, location="http://127.0.0.1:1/")) as receiver,
        sink(receiver.base, receipts="302, 409-410") as hook,
    ):
        await hook.send(DELIVERY)

    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 303, 408, 411, 500])
async def test_webhook_receipts_leave_other_statuses(status: int):
    """Beside configured statuses, all others mean what they mean without them."""
    async with (
        peer(responds(status)) as receiver,
        sink(receiver.base, receipts="302, 409-410") as hook,
    ):
        with pytest.raises(DeliveryError, match=f"the receiver returned {status}"):
            await hook.send(DELIVERY)


async def test_webhook_receipt_is_the_status_line():
    """A configured status acknowledges the event even if the response breaks off after it."""
    async with (
        peer(sends(b"HTTP/1.1 302 Found\r\nContent-Length: 100\r\n\r\nhalf")) as receiver,
        sink(receiver.base, receipts="302") as hook,
    ):
        await hook.send(DELIVERY)

    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("120", 120.0),
        ("Mon, 15 Jan 2024 10:31:00 GMT", 60.0),
        ("999999", 86_400.0),
        ("-5", None),
        ("soon", None),
        ("Mon Jan 15 10:31:00 2024", 60.0),
    ],
)
async def test_webhook_honors_retry_after(status: int, text: str, pause: float | None):
    """Retry-After is honored in both forms, up to a day; an invalid one is ignored."""
    date = "Mon, 15 Jan 2024 10:30:00 GMT"
    async with peer(responds(status, retry_after=text, date=date)) as receiver:
        error = await failure(receiver)

    assert error.retry_after == pause


async def test_webhook_measures_retry_after_by_its_own_clock():
    """In a response without a Date, the date of Retry-After is relative to our own clock."""
    async with (
        peer(responds(503, retry_after="Mon, 15 Jan 2024 10:31:00 GMT")) as receiver,
        sink(
            receiver.base, now=lambda: datetime(2024, 1, 15, 10, 30, 30, tzinfo=UTC).timestamp()
        ) as hook,
    ):
        with pytest.raises(DeliveryError) as caught:
            await hook.send(DELIVERY)

    assert caught.value.retry_after == 30.0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_webhook_does_not_follow_redirects(status: int):
    """A redirect is a failure: nothing is sent to its target."""
    async with (
        peer(responds(200)) as other,
        peer(responds(status, location=other.base)) as receiver,
    ):
        error = await failure(receiver)

    assert error.is_sink_fault
    assert other.requests == []


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(ACKNOWLEDGING))
async def test_webhook_2xx_acknowledges_whatever_follows(name: str):
    """A receiver whose 2xx status line has arrived has the event, whatever comes after it."""
    async with peer((BREAKING | STALLING)[name]) as receiver, sink(receiver.base) as hook:
        await hook.send(DELIVERY)

    assert len(receiver.requests) == 1
    assert anyio.current_time() <= 16.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(UNACKNOWLEDGING))
async def test_webhook_with_a_hostile_receiver(name: str):
    """A receiver that breaks off or stalls does not have the event, and gets one request."""
    async with peer((BREAKING | STALLING)[name]) as receiver:
        error = await failure(receiver, "/canary?canary")

    assert (error.is_sink_fault, error.is_permanent, error.is_gone) == (True, False, False)
    assert len(receiver.requests) == 1
    assert "canary" not in repr(error) + str(error)
    assert anyio.current_time() <= 16.0


@pytest.mark.virtual(limit=60.0)
async def test_webhook_has_the_configured_timeout():
    """A receiver has the configured time, and no more."""
    async with (
        peer(stalls()) as receiver,
        open_sink(Reloadable(settings(url=receiver.base, timeout="3s")), SinkContext()) as hook,
    ):
        with pytest.raises(DeliveryError, match="no complete response within 3 s"):
            await hook.send(DELIVERY)

    assert 3.0 <= anyio.current_time() <= 4.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("size", [100_000, 50_000_000])
async def test_webhook_does_not_read_long_responses(size: int):
    """Only 4 KiB of a response are read: the rest does not matter."""
    head = OK + f"Content-Length: {size}\r\n\r\n".encode()
    async with (
        peer(floods(head + b"x" * (RESPONSE_BYTES_CAP + 1), b"x")) as receiver,
        sink(receiver.base) as hook,
    ):
        await hook.send(DELIVERY)

    assert anyio.current_time() == 0.0


@pytest.mark.parametrize("handler", [responds(500, b"canary"), responds(302, location="/canary")])
async def test_webhook_errors_contain_no_secret(handler: Any):
    """An error contains neither the path of the URL nor the response."""
    async with peer(handler) as receiver:
        error = await failure(receiver, "/canary")

    assert "canary" not in repr(error) + str(error) + error.reason
