"""What every sink that sends by HTTP does, whatever it sends to."""

import ssl
from typing import Final

import anyio
import pytest
import trustme

from poller.core.errors import DeliveryError
from poller.core.events import RECORDED_TYPES, EventOrigin
from poller.core.outbox import Delivery
from poller.core.retry import RETRY_AFTER_CAP
from poller.delivery.attempt import attempt
from poller.runtime.clock import Clock
from poller.runtime.redaction import MASK
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import sample_delivery
from tests.sinks.http_kinds import HTTP_KINDS, opened
from tests.support.http_peers import (
    BREAKING,
    ConnectionHandler,
    Peer,
    peer,
    responds,
    sends,
    stalls,
)

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", sorted(HTTP_KINDS))]

NOW: Final = Clock().now()
DATE: Final = "Sun, 06 Nov 1994 08:49:37 GMT"
HOSTILE: Final = (
    "x" * 10_000,
    "<script>alert(1)</script> &amp; <!channel> @everyone",
    "\u202etxt.exe \u05e9\u05dc\u05d5\u05dd \N{FAMILY}",
    'quote " back\\slash `code` *bold* _it_ ~no~ [a](http://b) {"json": 1}',
    "line\r\nBcc: x@y\r\n\r\nbody",
)


def good(kind: str) -> ConnectionHandler:
    """Return the service's response to what it takes."""
    status, body = HTTP_KINDS[kind].accepted
    return responds(status, body)


async def failure(kind: str, *handlers: ConnectionHandler) -> DeliveryError:
    """Send to a receiver that does not take the event, and return the error."""
    async with peer(*handlers) as receiver:
        return await failure_at(kind, receiver)


async def failure_at(kind: str, receiver: Peer | str) -> DeliveryError:
    """Send to this receiver, and return the error as the daemon keeps it."""
    async with opened(kind, receiver) as sink:
        error = await attempt(sink, sample_delivery("job.failed"), secrets=lambda: ["canary"])
    assert error
    assert "canary" not in repr(error) + str(error)
    return error


def sent_bytes(receiver: Peer) -> bytes:
    """Return the body of the last request."""
    return receiver.requests[-1].partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("event_type", sorted(RECORDED_TYPES))
async def test_every_type_of_event_is_sent_once(kind: str, event_type: str):
    """One event is one request, unless the service has no use for it: it is acknowledged too."""
    event = a_test_event(event_type, EventOrigin(deployment="a"), NOW, sink=kind, instance="i")
    delivery = Delivery(id=1, sink=kind, event=event, created_at=0.0)
    async with peer(good(kind)) as receiver, opened(kind, receiver) as sink:
        await sink.send(delivery)

    is_ignored = event_type in HTTP_KINDS[kind].ignored
    assert len(receiver.lines) == (0 if is_ignored else 1)
    assert all(line.startswith("POST ") for line in receiver.lines)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_is_text_and_nothing_else(kind: str, name: str):
    """A name of any characters and length is sent in a body that the service takes."""
    delivery = sample_delivery("job.failed", name=name, failure_reason={"message": name})
    async with peer(good(kind)) as receiver, opened(kind, receiver) as sink:
        await sink.send(delivery)

    body = sent_bytes(receiver)
    assert len(body) <= HTTP_KINDS[kind].max_body
    assert "\u202e" not in body.decode()
    assert b"\r\n" not in body


async def test_a_retry_has_the_same_body(kind: str):
    """An event is the same each time, so that the receiver may know it again."""
    async with peer(good(kind)) as receiver, opened(kind, receiver) as sink:
        for _ in range(2):
            await sink.send(sample_delivery("job.failed"))
            first = receiver.requests[0].partition(b"\r\n\r\n")[2]

    known_by = HTTP_KINDS[kind].known_by
    assert known_by(sent_bytes(receiver)) == known_by(first)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "Sun, 06 Nov 1994 08:49:47 GMT", "date": DATE}, 10.0),
        ({"retry_after": DATE}, None),
        ({"retry_after": "99999999"}, RETRY_AFTER_CAP),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
async def test_a_429_waits_as_long_as_the_receiver_says(
    kind: str, headers: dict[str, str], seconds: float | None
):
    """Retry-After is honored in seconds and as a date, within bounds; nonsense is not."""
    error = await failure(kind, responds(429, b"", **headers))

    assert (error.is_sink_fault, error.is_permanent, error.is_gone) == (True, False, False)
    assert error.retry_after == seconds


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_a_failing_receiver_is_tried_again(kind: str, status: int):
    """A failure of the receiver is retried, and counts against the sink."""
    error = await failure(kind, responds(status, b"<html>Bad gateway</html>"))

    assert str(error) == f"the receiver returned {status}"
    assert (error.is_sink_fault, error.is_permanent, error.is_gone) == (True, False, False)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(kind: str, status: int):
    """A redirect is an error that says what to do: the target may be anybody."""
    async with peer(responds(status, location="http://127.0.0.1:1/canary")) as receiver:
        error = await failure_at(kind, receiver)

    assert len(receiver.lines) == 1
    assert "redirects are not followed" in error.reason


async def test_a_rejected_event_does_not_fault_the_sink(kind: str):
    """A 400 is about this event."""
    error = await failure(kind, responds(400, b"invalid_payload"))

    assert (error.is_sink_fault, error.is_rejected) == (False, True)


@pytest.mark.virtual(limit=100.0)
@pytest.mark.parametrize("name", ["reset before the header", "closed", "garbage"])
async def test_a_broken_response_is_no_receipt(kind: str, name: str):
    """A receiver that breaks off does not have the event."""
    error = await failure(kind, BREAKING[name])

    assert (error.is_sink_fault, error.is_permanent) == (True, False)


@pytest.mark.virtual(limit=100.0)
async def test_a_receiver_that_hangs_is_left(kind: str):
    """A receiver that never responds is left after the timeout."""
    error = await failure(kind, stalls())

    assert "no complete response within" in error.reason
    assert anyio.current_time() <= 61.0


@pytest.mark.virtual(limit=100.0)
async def test_a_2xx_status_line_is_a_receipt(kind: str):
    """What follows a good status line does not matter."""
    status, _ = HTTP_KINDS[kind].accepted
    head = f"HTTP/1.1 {status} Fine\r\nContent-Length: 100\r\n\r\n".encode()
    async with peer(sends(head + b"half")) as receiver, opened(kind, receiver) as sink:
        await sink.send(sample_delivery())

    assert len(receiver.lines) == 1


async def test_an_unknown_certificate_is_rejected(kind: str):
    """A receiver whose certificate is signed by nobody known gets nothing."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with peer(good(kind), tls=tls) as receiver:
        error = await failure_at(kind, receiver)

    assert "certificate" in error.reason.lower()
    assert not receiver.requests


async def test_a_secret_in_a_response_is_masked(kind: str):
    """A receiver that sends the URL back does not bring it into a reason."""
    error = await failure(kind, responds(403, b"no_service at /services/canary-path"))

    assert "canary" not in error.reason
    assert MASK in error.reason or error.reason == "the receiver returned 403"


@pytest.mark.parametrize("body", [b"\xff\x00" * 2_048, b"{" * 4_096, b"x" * 100_000, b"[1]"])
async def test_junk_in_a_response_is_short_in_the_reason(kind: str, body: bytes):
    """A response of any bytes makes one short line of text."""
    error = await failure(kind, responds(500, body))

    assert len(error.reason) <= 1_000
    assert error.reason.isprintable()
