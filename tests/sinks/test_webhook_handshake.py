"""The handshake of webhooks, with receivers as section 4 of CloudEvents' HTTP webhook has them."""

from dataclasses import dataclass, field
from typing import Final

import pytest
from anyio.abc import ByteStream

from poller.core.errors import DeliveryError
from poller.settings.base import Reloadable
from poller.sinks import SinkContext
from poller.sinks.testing import sample_delivery
from poller.sinks.webhook import open_sink
from tests.support.http_peers import Peer, peer, reply, responds, sends
from tests.support.webhook_sinks import received, settings, sink

ORIGIN: Final = "poller.example.com"
OPTIONS: Final = "OPTIONS /hook HTTP/1.1"
POST: Final = "POST /hook HTTP/1.1"
DELIVERY: Final = sample_delivery()
FORMATS: Final = ("standard", "cloudevents", "cloudevents-binary")


@dataclass
class DemandingReceiver:
    """A receiver that accepts events only from origins that it has allowed."""

    allowed_origin: str = ORIGIN
    granted: set[str | None] = field(default_factory=set)
    peer: Peer | None = None

    async def __call__(self, stream: ByteStream) -> None:
        """Respond to one request."""
        assert self.peer
        origin = self.peer.header("WebHook-Request-Origin")
        if self.peer.lines[-1].startswith("OPTIONS"):
            self.granted.add(origin)
            allowed = {"webhook_allowed_origin": self.allowed_origin, "webhook_allowed_rate": "*"}
            await stream.send(reply(200, allow="POST", **allowed))
        else:
            await stream.send(reply(204 if origin in self.granted else 403))


async def lines_sent(receiver: DemandingReceiver, *, count: int = 1, **variables: str) -> list[str]:
    """Send some events, each of which must be accepted, and return the first lines of requests."""
    async with peer(receiver) as receiver.peer:
        async with sink(f"{receiver.peer.base}/hook", **variables) as hook:
            for _ in range(count):
                await hook.send(DELIVERY)
        return receiver.peer.lines


async def test_webhook_has_no_handshake_by_default():
    """Without an origin a receiver gets no OPTIONS request, and no header of a handshake."""
    async with peer(responds(200)) as receiver, sink(f"{receiver.base}/hook") as hook:
        await hook.send(DELIVERY)

    assert receiver.lines == [POST]
    assert receiver.header("WebHook-Request-Origin") is None


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("allowed", [ORIGIN, "Poller.Example.COM", "*"])
async def test_webhook_handshake_is_done_once(form: str, allowed: str):
    """The permission is requested before the first event, which then has the origin too."""
    lines = await lines_sent(
        DemandingReceiver(allowed), count=3, origin="Poller.example.com", format=form
    )

    assert lines == [OPTIONS, POST, POST, POST]


async def test_webhook_handshake_has_the_additional_headers():
    """A receiver behind an access control gets the user's own headers in the handshake, too."""
    own = '{"Authorization": "Bearer canary"}'
    async with (
        peer(responds(200, webhook_allowed_origin="*"), responds(200)) as receiver,
        sink(f"{receiver.base}/hook?x=1", headers=own, origin=ORIGIN) as hook,
    ):
        await hook.send(DELIVERY)
        posted, _ = received(receiver)
        del receiver.requests[-1]
        asked, body = received(receiver)

    assert receiver.lines == ["OPTIONS /hook?x=1 HTTP/1.1"]
    assert posted["authorization"] == asked["authorization"] == "Bearer canary"
    assert posted["webhook-request-origin"] == asked["webhook-request-origin"] == ORIGIN
    assert "webhook-signature" not in asked
    assert not body


@pytest.mark.parametrize("status", [200, 204, 403, 404, 405, 410, 500])
@pytest.mark.parametrize("headers", [{}, {"webhook_allowed_origin": "other.example.com"}])
async def test_webhook_without_permission_sends_no_event(status: int, headers: dict[str, str]):
    """Without a permission for this origin, whatever the status is, the receiver gets no event."""
    async with (
        peer(responds(status, **headers)) as receiver,
        sink(f"{receiver.base}/hook", origin=ORIGIN) as hook,
    ):
        with pytest.raises(DeliveryError) as caught:
            await hook.send(DELIVERY)

    error = caught.value
    assert receiver.lines == [OPTIONS]
    assert str(error) == (
        f"the receiver did not allow events from {ORIGIN}: its response to OPTIONS ({status})"
        " has no WebHook-Allowed-Origin with this name or *"
    )
    assert (error.is_sink_fault, error.is_rejected, error.is_gone) == (True, False, False)


async def test_webhook_handshake_honors_retry_after():
    """A receiver that is busy at the handshake is asked again when it says so."""
    async with (
        peer(responds(429, retry_after="7")) as receiver,
        sink(receiver.base, origin=ORIGIN) as hook,
    ):
        with pytest.raises(DeliveryError) as caught:
            await hook.send(DELIVERY)

    assert caught.value.retry_after == 7.0


async def test_webhook_handshake_without_a_response():
    """A receiver that breaks off at the handshake gets no event, and the reason says where."""
    async with (
        peer(sends()) as receiver,
        sink(f"{receiver.base}/canary", origin=ORIGIN) as hook,
    ):
        with pytest.raises(DeliveryError, match="OPTIONS: ") as caught:
            await hook.send(DELIVERY)

    assert len(receiver.requests) == 1
    assert "canary" not in str(caught.value)


async def test_webhook_requests_a_lost_permission_again():
    """A receiver that has forgotten its permission is asked again with the next event."""
    receiver = DemandingReceiver()
    async with (
        peer(receiver) as receiver.peer,
        sink(f"{receiver.peer.base}/hook", origin=ORIGIN) as hook,
    ):
        await hook.send(DELIVERY)
        receiver.granted.clear()
        with pytest.raises(DeliveryError, match="the receiver returned 403"):
            await hook.send(DELIVERY)
        await hook.send(DELIVERY)

    assert receiver.peer.lines == [OPTIONS, POST, POST, OPTIONS, POST]


async def test_webhook_keeps_its_permission_after_other_failures():
    """A failure that says nothing about the permission does not lead to another handshake."""
    async with (
        peer(
            responds(200, webhook_allowed_origin="*"), responds(500), responds(400), responds(200)
        ) as receiver,
        sink(f"{receiver.base}/hook", origin=ORIGIN) as hook,
    ):
        for status in (500, 400):
            with pytest.raises(DeliveryError, match=str(status)):
                await hook.send(DELIVERY)
        await hook.send(DELIVERY)

    assert receiver.lines == [OPTIONS, POST, POST, POST]


async def test_webhook_requests_a_permission_for_each_url():
    """A reloaded URL needs a permission of its own."""
    receiver = DemandingReceiver()
    async with peer(receiver) as receiver.peer:
        base = receiver.peer.base
        reloadable = Reloadable(settings(url=f"{base}/old", origin=ORIGIN))
        async with open_sink(reloadable, SinkContext()) as hook:
            await hook.send(DELIVERY)
            reloadable.value = settings(url=f"{base}/new", origin=ORIGIN)
            await hook.send(DELIVERY)

    methods = [line.removesuffix(" HTTP/1.1") for line in receiver.peer.lines]
    assert methods == ["OPTIONS /old", "POST /old", "OPTIONS /new", "POST /new"]
