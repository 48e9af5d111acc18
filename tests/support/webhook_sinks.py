"""Webhook sinks for tests: settings, secrets, a delivery, and the requests that arrive."""

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from poller.core.events import Event
from poller.core.outbox import Delivery
from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import OutboundSettings
from poller.settings.base import RawSettings, Reloadable
from poller.settings.sources import EnvSources
from poller.sinks.webhook import WebhookSettings, WebhookSink
from tests.support.http_peers import Peer

OLD: Final = "whsec_" + base64.b64encode(b"old secret, twenty-four+").decode()
NEW: Final = "whsec_" + base64.b64encode(b"the new secret, thirty-two bytes").decode()

BODY: Final = '{"type":"job.succeeded", "data":{"é\\u2028": "\N{GRINNING FACE}"}}'.encode()

DELIVERY: Final = Delivery(
    id=1,
    sink="webhook",
    event=Event(
        id="evt_1",
        type="job.succeeded",
        subject="job-1",
        occurred_at=datetime(2024, 1, 15, 10, 32, 15, tzinfo=UTC),
        body=BODY,
    ),
    created_at=0.0,
)


def settings(**variables: str) -> WebhookSettings:
    """Return the settings of a webhook sink by its variables."""
    environ = {f"POLLER_WEBHOOK_{name.upper()}": text for name, text in variables.items()}
    return RawSettings.of(WebhookSettings, "POLLER_WEBHOOK_", EnvSources(environ=environ)).build()


@asynccontextmanager
async def sink(
    url: str, *, now: Callable[[], float] = time.time, **variables: str
) -> AsyncIterator[WebhookSink]:
    """Open a webhook sink for a URL."""
    live = Reloadable(settings(url=url, **variables))
    async with HttpClient(OutboundSettings(), timeout=15.0, limit=4) as http:
        yield WebhookSink(live, http, now)


def received(receiver: Peer) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the last request."""
    head, _, body = receiver.requests[-1].partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    return {name.lower(): text for name, _, text in lines}, body
