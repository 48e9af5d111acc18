"""The webhook sink, against receivers of every temper and the official verifiers."""

import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import Any

import anyio
import pytest
import standardwebhooks
import svix

from poller.core.errors import DeliveryError
from poller.runtime.http import OutboundSettings
from poller.settings.base import Reloadable
from poller.sinks.webhook import RESPONSE_BYTES_CAP, open_sink
from tests.support.http_peers import BREAKING, OK, STALLING, Peer, answers, floods, peer, stalls
from tests.support.webhook_sinks import BODY, DELIVERY, NEW, OLD, received, settings, sink

RECEIPTS = {
    "dripped body",
    "dripped body without a length",
    "dripped chunks",
    "long Content-Length",
    "reset in the body",
    "short body",
    "short chunks",
    "silence after the header",
}
"""The peers whose 2xx comes before they break off or stall."""


async def refusal(it: Peer, path: str = "/hook") -> DeliveryError:
    """Send to a receiver that does not take it, and give what is said of that."""
    async with sink(it.base + path) as hook:
        with pytest.raises(DeliveryError) as caught:
            await hook.send(DELIVERY)
    return caught.value


# What is sent.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_receipt(status: int):
    """Any 2xx is a receipt."""
    async with peer(answers(status)) as it, sink(it.base + "/hook?x=1") as hook:
        await hook.send(DELIVERY)

    assert it.lines == ["POST /hook?x=1 HTTP/1.1"]


async def test_body_is_the_stored_one():
    """The bytes that are sent are those that are stored, to the last."""
    async with peer(answers(200)) as it, sink(it.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(it)

    assert body == BODY
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(BODY))


async def test_signature_is_verified():
    """The official library verifies what is sent."""
    async with peer(answers(200)) as it, sink(it.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(it)

    assert standardwebhooks.Webhook(NEW).verify(body, headers) == json.loads(BODY)


async def test_signature_is_verified_by_others():
    """A verifier by other people takes what is sent under the right secret, and no other."""
    async with peer(answers(200)) as it, sink(it.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(it)

    svix.Webhook(NEW).verify(body, headers)
    with pytest.raises(svix.WebhookVerificationError):
        svix.Webhook(OLD).verify(body, headers)


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_two_secrets_during_rotation(secret: str):
    """While a secret is rotated, receivers that know either of the two can verify."""
    async with peer(answers(200)) as it, sink(it.base, secret=f"{NEW} {OLD}") as hook:
        await hook.send(DELIVERY)
        headers, body = received(it)

    assert len(headers["webhook-signature"].split()) == 2
    assert standardwebhooks.Webhook(secret).verify(body, headers)


def body_signature(secret: str, body: bytes) -> str:
    """Sign a body as GitHub's documentation says: the key is the secret's text."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("form", ["standard", "cloudevents", "cloudevents-binary"])
async def test_body_alone_is_signed(form: str):
    """When it is asked for, there is a signature of the bytes sent, beside the other one."""
    event = replace(DELIVERY.event, body=b'{"timestamp":"2024","data":{"deployment":"a"}}')
    async with (
        peer(answers(200)) as it,
        sink(it.base, secret=NEW, hub_signature="on", format=form) as hook,
    ):
        await hook.send(replace(DELIVERY, event=event))
        headers, body = received(it)

    assert headers["x-hub-signature-256"] == body_signature(NEW, body)
    assert standardwebhooks.Webhook(NEW).verify(body, headers)


async def test_body_alone_is_signed_with_both_secrets():
    """While a secret is rotated, each secret signs: a comma and no space between the two."""
    async with (
        peer(answers(200)) as it,
        sink(it.base, secret=f" {NEW}\n{OLD}", hub_signature="on") as hook,
    ):
        await hook.send(DELIVERY)

    both = f"{body_signature(NEW, BODY)},{body_signature(OLD, BODY)}"
    assert it.header("X-Hub-Signature-256") == both


async def test_body_alone_is_not_signed_unasked():
    """Without being asked for, there is no signature that a replay would pass."""
    async with peer(answers(200)) as it, sink(it.base, secret=NEW) as hook:
        await hook.send(DELIVERY)

    assert it.header("X-Hub-Signature-256") is None


@pytest.mark.parametrize("change", ["secret", "body", "webhook-id", "webhook-timestamp"])
async def test_forgery_is_noticed(change: str):
    """The signature covers the secret, the body, the id and the timestamp."""
    async with peer(answers(200)) as it, sink(it.base, secret=NEW) as hook:
        await hook.send(DELIVERY)
        headers, body = received(it)
    if change in headers:
        headers[change] = headers[change][:-1] + ("1" if headers[change][-1] != "1" else "2")
    verifier = standardwebhooks.Webhook(OLD if change == "secret" else NEW)

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verifier.verify(body.replace(b"job", b"jab") if change == "body" else body, headers)


async def test_without_a_secret():
    """Without a secret there is an id and a timestamp, and no signature."""
    async with peer(answers(200)) as it, sink(it.base) as hook:
        before = int(time.time())
        await hook.send(DELIVERY)
        headers, _ = received(it)

    assert headers["webhook-id"] == "evt_1"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    assert "webhook-signature" not in headers


@pytest.mark.parametrize(("is_replay", "mark"), [(False, None), (True, "1")])
async def test_replay_is_marked(is_replay: bool, mark: str | None):
    """A replay is marked as one, and nothing else is."""
    async with peer(answers(200)) as it, sink(it.base) as hook:
        await hook.send(replace(DELIVERY, is_replay=is_replay))

    assert it.header("webhook-replay") == mark


async def test_further_headers():
    """Headers of the user's own are sent along."""
    own = '{"Authorization": "Bearer canary", "User-Agent": "mine"}'
    async with peer(answers(200)) as it, sink(it.base, headers=own) as hook:
        await hook.send(DELIVERY)
        headers, _ = received(it)

    assert (headers["authorization"], headers["user-agent"]) == ("Bearer canary", "mine")


async def test_settings_that_are_exchanged():
    """A URL and a secret that are exchanged count from the next delivery on."""
    async with (
        peer(answers(200)) as it,
        open_sink(
            Reloadable(settings(url=it.base + "/old", secret=OLD)), OutboundSettings()
        ) as hook,
    ):
        await hook.send(DELIVERY)
        hook._settings.value = settings(url=it.base + "/new", secret=NEW)
        await hook.send(DELIVERY)
        headers, body = received(it)

    assert it.lines == ["POST /old HTTP/1.1", "POST /new HTTP/1.1"]
    assert standardwebhooks.Webhook(NEW).verify(body, headers)


# What is answered.


@pytest.mark.parametrize(
    ("status", "is_sink_fault"),
    [
        *((status, True) for status in (300, 301, 302, 304, 307, 308)),
        *((status, False) for status in (400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451)),
        *((status, True) for status in (408, 425, 429)),
        *((status, True) for status in (500, 501, 502, 503, 504, 520, 524, 599)),
    ],
)
async def test_refusal(status: int, is_sink_fault: bool):
    """A 4xx is the event's own fault, but for three; anything else is the receiver's trouble."""
    async with peer(answers(status)) as it:
        error = await refusal(it)

    assert str(error).startswith(f"the receiver returned {status}")
    assert ("redirects are not followed: set the URL" in str(error)) == (status < 400)
    assert (error.is_sink_fault, error.retry_after) == (is_sink_fault, None)
    assert (error.is_permanent, error.is_gone) == (False, status == 410)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("120", 120.0),
        ("Mon, 15 Jan 2024 10:31:00 GMT", 60.0),
        ("999999", 86_400.0),
        ("-5", None),
        ("soon", None),
    ],
)
async def test_pause_that_a_receiver_asks_for(status: int, text: str, pause: float | None):
    """Retry-After is honoured in both forms, up to a day; junk is nothing."""
    date = "Mon, 15 Jan 2024 10:30:00 GMT"
    async with peer(answers(status, retry_after=text, date=date)) as it:
        error = await refusal(it)

    assert error.retry_after == pause


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status: int):
    """A redirect is a failure: nothing is sent to where it points."""
    async with (
        peer(answers(200)) as other,
        peer(answers(status, location=other.base)) as it,
    ):
        error = await refusal(it)

    assert error.is_sink_fault
    assert other.requests == []


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(RECEIPTS))
async def test_receipt_without_its_body(name: str):
    """A receiver whose 2xx has come has the event, whatever becomes of the rest."""
    async with peer((BREAKING | STALLING)[name]) as it, sink(it.base) as hook:
        await hook.send(DELIVERY)

    assert len(it.requests) == 1
    assert anyio.current_time() <= 16.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize(
    "name", sorted(set(BREAKING | STALLING) - {"switching protocols"} - RECEIPTS)
)
async def test_hostile_receiver(name: str):
    """A receiver that breaks off or stalls has not taken the event, and is asked once."""
    async with peer((BREAKING | STALLING)[name]) as it:
        error = await refusal(it, "/canary?canary")

    assert (error.is_sink_fault, error.is_permanent, error.is_gone) == (True, False, False)
    assert len(it.requests) == 1
    assert "canary" not in repr(error) + str(error)
    assert anyio.current_time() <= 16.0


@pytest.mark.virtual(limit=60.0)
async def test_timeout_is_the_configured_one():
    """A receiver has the configured time, and no more."""
    async with (
        peer(stalls()) as it,
        open_sink(Reloadable(settings(url=it.base, timeout="3s")), OutboundSettings()) as hook,
    ):
        with pytest.raises(DeliveryError, match="no complete response within 3 s"):
            await hook.send(DELIVERY)

    assert 3.0 <= anyio.current_time() <= 4.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("size", [100_000, 50_000_000])
async def test_long_answer_is_not_read(size: int):
    """Of a receiver's answer 4 KiB are read: the rest of a receipt does not matter."""
    head = OK + f"Content-Length: {size}\r\n\r\n".encode()
    async with (
        peer(floods(head + b"x" * (RESPONSE_BYTES_CAP + 1), b"x")) as it,
        sink(it.base) as hook,
    ):
        await hook.send(DELIVERY)

    assert anyio.current_time() == 0.0


@pytest.mark.parametrize("talk", [answers(500, b"canary"), answers(302, location="/canary")])
async def test_error_tells_no_secret(talk: Any):
    """What is said of a failure has neither the URL's path nor the answer in it."""
    async with peer(talk) as it:
        error = await refusal(it, "/canary")

    assert "canary" not in repr(error) + str(error) + error.reason
