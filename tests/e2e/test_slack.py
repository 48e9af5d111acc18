"""Slack as a receiver: it gets messages for people, and its URL is a secret."""

import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import NO_WEBHOOK, Place
from tests.support.secret_canaries import NEW_KEY, leaks
from tests.support.waiting import until
from tests.support.webhook_receiver import listening

pytestmark = pytest.mark.anyio

ENDED = JobScript(job_id="job-1", name="R&D", queue_seconds=0.0, run_seconds=0.0)


@dataclass
class Slack:
    """Responds as Slack's incoming webhooks do: `ok` to a JSON object with a text."""

    exists: bool = True
    texts: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Accept one message."""
        if not self.exists:
            return web.Response(status=404, text="no_service")
        assert request.content_type == "application/json"
        assert "webhook-signature" not in request.headers
        self.texts.append((await request.json())["text"])
        return web.Response(text="ok")


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    """Yield an incoming webhook of Slack."""
    async with listening(Slack()) as receiver:
        yield receiver


def settings(slack: Slack) -> dict[str, str | None]:
    """Return the settings that send events to Slack."""
    return NO_WEBHOOK | {"POLLER_SINKS": "slack", "POLLER_SLACK_URL": slack.url}


async def test_slack_message_of_an_ended_job(place: Place, slack: Slack):
    """The end of a job is a message with its name, its cost and its tokens."""
    jobs = place.jobs(ENDED)
    async with place.running("run", POLLER_JOB_IDS=jobs, **settings(slack)) as daemon:
        await until(lambda: slack.texts)
        await daemon.stop()

    (text,) = slack.texts
    assert text == "✅ R&amp;D (job-1) succeeded after 0s"


async def test_slack_message_of_a_rejected_key(place: Place, slack: Slack):
    """A rejected API key is reported by default: no job would be reported any more."""
    place.api.key = NEW_KEY
    async with place.running("run", POLLER_JOB_IDS="job-1", **settings(slack)) as daemon:
        await daemon.saying("poll.failed")
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: slack.texts)
        await daemon.stop()

    (text,) = slack.texts
    assert "rejects the API key: no job is being watched" in text


async def test_slack_url_is_never_logged(place: Place, slack: Slack):
    """A webhook that Slack has removed is logged without its path."""
    slack.exists = False
    jobs = place.jobs(ENDED)
    async with place.running("run", POLLER_JOB_IDS=jobs, **settings(slack)) as daemon:
        failed, *_ = await daemon.saying("delivery.failed")
        await daemon.stop()

    assert failed["error"] == "the receiver returned 404: no_service"
    assert not leaks(place.folder)
