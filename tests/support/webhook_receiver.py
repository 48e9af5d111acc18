"""A receiver of webhooks that believes nothing: it verifies and validates all that it gets."""

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

ENDS = {"job.succeeded", "job.failed", "job.cancelled"}


@dataclass
class Receipt:
    """One webhook that came in; `is_answered` once the sender could know."""

    at: float
    id: str
    type: str
    subject: str
    body: bytes
    is_replay: bool = False
    is_answered: bool = False


@dataclass
class Receiver:
    """Takes webhooks. `status` is its answer, `delay` how long that takes."""

    status: int = 204
    delay: float = 0.0
    receipts: list[Receipt] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)
    url: str = ""

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one webhook, and note it when the answer is that it was taken."""
        arrived, body = now(), await request.read()
        if self.status != 204:
            return web.Response(status=self.status)
        try:
            receipt = _verified(request, body, arrived)
        except Exception as error:  # noqa: BLE001 - the test that owns this tells what it was
            self.troubles.append(error)
            return web.Response(status=400)
        self.receipts.append(receipt)
        await anyio.sleep(self.delay)
        receipt.is_answered = True
        return web.Response(status=204)

    @property
    def ends(self) -> list[str]:
        """The ids of the jobs whose ends came in, one for each time."""
        return [it.subject for it in self.receipts if it.type in ENDS]

    @property
    def answered(self) -> set[str]:
        """The ids of the jobs whose ends were acknowledged."""
        return {it.subject for it in self.receipts if it.type in ENDS and it.is_answered}


def _verified(request: web.Request, body: bytes, arrived: float) -> Receipt:
    Webhook(SECRET).verify(body, dict(request.headers))
    assert request.headers["X-Team"] == HEADER
    event = check_event(body)
    subject = event["data"].get("job", {}).get("job_id", "poller")
    is_replay = request.headers.get("webhook-replay") == "1"
    return Receipt(arrived, request.headers["webhook-id"], event["type"], subject, body, is_replay)


@asynccontextmanager
async def listening(
    receiver: Receiver, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Let a receiver listen on loopback; outside of this its connections are refused."""
    app = web.Application()
    app.router.add_post(PATH, receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        scheme = "https" if tls else "http"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        yield receiver
    finally:
        await runner.cleanup()
