"""The apprise sink: the library, really sending to receivers on loopback."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from poller.core.errors import ConfigError, DeliveryError
from poller.core.events import EVENT_TYPES, EventOrigin
from poller.core.outbox import Delivery
from poller.delivery.attempt import attempt
from poller.runtime.clock import Clock
from poller.runtime.http_values import OutboundSettings
from poller.settings.base import Reloadable
from poller.settings.secrets import mask
from poller.settings.sources import SourcedValue
from poller.sinks import Sink, SinkContext, apprise
from poller.sinks.apprise import KIND, MAX_THREADS, URL_RULE, WORD_JOINER, AppriseSettings
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import sample_delivery
from tests.support.config_builders import load_errors
from tests.support.http_peers import Peer, peer, responds, sends
from tests.support.mail_server import mail_server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # of Apprise
]

JOB_URL = "https://app.example/jobs/{job_id}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Sink]:
    """Open a sink that sends to an Apprise URL."""
    context = SinkContext(OutboundSettings(url_name="POLLER_APPRISE_URL"), JOB_URL)
    async with KIND.open(Reloadable(AppriseSettings(url=url)), context) as sink:
        yield sink


def json_url(receiver: Peer, parameters: str = "") -> str:
    """Return the Apprise URL of a receiver of JSON."""
    return f"{receiver.base.replace('http', 'json')}/canary-path{parameters}"


async def failure(url: str) -> DeliveryError:
    """Send to a receiver that does not accept it; return the error as the daemon keeps it."""
    async with opened(url) as sink:
        error = await attempt(sink, sample_delivery("job.failed"), secrets=tuple)
    assert error
    return error


def sent(receiver: Peer) -> dict[str, Any]:
    """Return the content of the last request."""
    return json.loads(receiver.requests[-1].partition(b"\r\n\r\n")[2])


async def test_json_has_the_message():
    """A receiver of json:// gets the title, the details with the link, and the type."""
    async with peer(responds(200)) as receiver, opened(json_url(receiver)) as sink:
        await sink.send(sample_delivery("job.failed", name="Größe"))

    content = sent(receiver)
    assert receiver.lines == ["POST /canary-path HTTP/1.1"]
    assert content["title"] == "❌ Größe (job-12345) failed after 2m0s"
    assert content["message"] == (
        "Cost $0.0234; Tokens 15,420 in, 8,230 out; Rows 50; Model llama-3.3-70b\n"
        "The model returned no output for 3 rows.\n"
        "https://app.example/jobs/job-12345"
    )
    assert content["type"] == "failure"


async def test_mail_has_the_message():
    """mailto:// sends the message to a mail server."""
    async with mail_server() as server:
        url = f"mailto://127.0.0.1:{server.port}/?from=a@example.com&to=b@example.com&mode=insecure"
        async with opened(url) as sink:
            await sink.send(sample_delivery("job.failed", name="R&D"))

    mail = server.message()
    assert mail["Subject"] == "❌ R&D (job-12345) failed after 2m0s"
    assert "The model returned no output for 3 rows." in mail.get_body().get_content()
    assert server.mails[0].rcpt_tos == ["b@example.com"]


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
async def test_every_type_of_event_is_sent_once(event_type: str):
    """One event is one notification, also if its message is a title alone."""
    origin, now = EventOrigin(deployment="a"), Clock().now()
    event = a_test_event(event_type, origin, now, sink="apprise", instance="i")
    async with peer(responds(200)) as receiver, opened(json_url(receiver)) as sink:
        await sink.send(Delivery(id=1, sink="apprise", event=event, created_at=0.0))

    assert len(receiver.lines) == 1
    assert sent(receiver)["message"]


async def test_a_name_mentions_nobody():
    """Each service has mentions and links of its own; a name is none of them."""
    name = "@here <!channel> <@U1> <https://a.example|x>"
    async with peer(responds(200)) as receiver, opened(json_url(receiver)) as sink:
        await sink.send(sample_delivery("job.failed", name=name))

    title = sent(receiver)["title"]
    assert not any(mark in title for mark in ("@here", "<!", "<@", "<h"))
    assert name in title.replace(WORD_JOINER, "")


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
async def test_a_rejection_is_retried_and_has_the_status(caplog, status: int):
    """Apprise says only that it failed; the status is kept, and no log has the URL."""
    caplog.set_level(logging.DEBUG)
    async with peer(responds(status, b"no_service at /canary-path")) as receiver:
        error = await failure(json_url(receiver))

    assert error.reason == f"Apprise could not send the notification (status {status})"
    assert error.is_sink_fault
    assert not any((error.is_permanent, error.is_gone, error.is_suspect, error.is_rejected))
    assert "canary" not in caplog.text


async def test_a_broken_connection_has_no_status(caplog):
    """A receiver that closes does not have the event; the status of an earlier one is forgotten."""
    caplog.set_level(logging.DEBUG)
    async with peer(responds(500), sends()) as receiver, opened(json_url(receiver)) as sink:
        errors = [await attempt(sink, sample_delivery(), secrets=tuple) for _ in range(2)]

    reasons = [error.reason for error in errors]
    assert reasons[0].endswith("(status 500)")
    assert reasons[1] == "Apprise could not send the notification"
    assert "canary" not in caplog.text


async def test_a_redirect_is_not_followed():
    """A redirect is a failure: what is sent would travel to anybody."""
    async with peer(responds(200)) as other:
        location = f"{other.base}/elsewhere"
        async with peer(responds(307, location=location)) as receiver:
            error = await failure(json_url(receiver))

    assert error.reason.endswith("(status 307)")
    assert not other.requests


async def test_a_library_that_raises_is_a_failure(monkeypatch):
    """What a service raises is named by its type alone: its text may have the URL."""

    def notify(**_message: str) -> bool:
        raise ValueError("json://canary")

    monkeypatch.setattr(apprise, "_load", lambda _url: SimpleNamespace(notify=notify))
    error = await failure("json://127.0.0.1")

    assert error.reason == "Apprise raised ValueError"


async def test_notifications_wait_in_threads_of_their_own(monkeypatch):
    """Four calls run at the same time, however many threads others use."""
    together = Barrier(MAX_THREADS, timeout=120)

    def notify(**_message: str) -> bool:
        return together.wait() >= 0

    monkeypatch.setattr(apprise, "_load", lambda _url: SimpleNamespace(notify=notify))
    others = anyio.to_thread.current_default_thread_limiter()
    async with opened("json://127.0.0.1") as sink, anyio.create_task_group() as group:
        for number in range(int(others.total_tokens)):
            await others.acquire_on_behalf_of(number)
        for _ in range(2 * MAX_THREADS):
            group.start_soon(partial(sink.send, sample_delivery()))
    for number in range(int(others.total_tokens)):
        others.release_on_behalf_of(number)

    assert not together.broken


async def test_a_url_that_apprise_does_not_know_is_one_line():
    """A URL of no service stops the start, and is not repeated."""
    with pytest.raises(ConfigError) as caught:
        await failure("canary://canary/canary")

    assert caught.value.problems == (f"POLLER_APPRISE_URL: {URL_RULE}",)


@pytest.mark.parametrize("url", ["c4n4ry", "json://a,json://c4n4ry", "json://a json://c4n4ry"])
def test_a_wrong_url_is_one_line(url: str):
    """A text that is not one URL is a problem of the settings, and is not repeated."""
    (line,) = load_errors(POLLER_APPRISE_URL=url)

    assert line == f"POLLER_APPRISE_URL: {URL_RULE}"


def test_a_url_is_shown_without_its_host():
    """Many services have a token in the place of the host, so that only the scheme is shown."""
    value = SourcedValue(text="tgram://123456789:c4n4ry/chat", is_secret=True)

    assert mask(value) == "tgram://..."
