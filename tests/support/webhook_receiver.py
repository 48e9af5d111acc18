"""A receiver of webhooks that verifies and validates every request."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from aiohttp import web
from standardwebhooks import Webhook

from tests.support.builders import check_event
from tests.support.secret_canaries import HEADER, PATH, SECRET
from tests.support.waiting import now

END_TYPES = {"job.succeeded", "job.failed", "job.cancelled"}


@dataclass
class ReceivedWebhook:
    """One received webhook; `is_acknowledged` once the response was sent."""

    at: float
    id: str
    type: str
    subject: str
    body: bytes
    is_replay: bool = False
    is_acknowledged: bool = False


@dataclass
class Receiver:
    """Accepts webhooks, and responds with `status` after `delay` seconds, once `gate` is set."""

    status: int = 204
    delay: float = 0.0
    gate: anyio.Event | None = None
    received: list[ReceivedWebhook] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Respond to one webhook, and keep it if it is accepted."""
        arrived, body = now(), await request.read()
        if self.status != 204:
            return web.Response(status=self.status)
        try:
            webhook = _verified(request, body, arrived)
        except Exception as error:  # noqa: BLE001 - the test checks `errors`
            self.errors.append(error)
            return web.Response(status=400)
        self.received.append(webhook)
        await anyio.sleep(self.delay)
        if self.gate:
            await self.gate.wait()
        webhook.is_acknowledged = True
        return web.Response(status=204)

    @property
    def ends(self) -> list[str]:
        """The ids of the ended jobs, one for each webhook."""
        return [webhook.subject for webhook in self.received if webhook.type in END_TYPES]

    @property
    def acknowledged(self) -> set[str]:
        """The ids of the ended jobs whose webhook was acknowledged."""
        return {
            webhook.subject
            for webhook in self.received
            if webhook.type in END_TYPES and webhook.is_acknowledged
        }


def _verified(request: web.Request, body: bytes, arrived: float) -> ReceivedWebhook:
    Webhook(SECRET).verify(body, dict(request.headers))
    assert request.headers["X-Team"] == HEADER
    event = check_event(body)
    subject = event["data"].get("job", {}).get("job_id", "poller")
    is_replay = request.headers.get("webhook-replay") == "1"
    return ReceivedWebhook(
        arrived, request.headers["webhook-id"], event["type"], subject, body, is_replay
    )


@asynccontextmanager
async def listening(
    receiver: Receiver, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Serve a receiver on loopback while the block runs."""
    app = web.Application()
    app.router.add_post(PATH, receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        scheme = "https" if tls else "http"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        yield receiver
    finally:
        await runner.cleanup()
