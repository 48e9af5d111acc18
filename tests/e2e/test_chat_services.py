"""Chat services as receivers: one daemon sends an event to each of them in its own form."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from aiohttp import web

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Place
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until
from tests.support.webhook_receiver import listening

pytestmark = pytest.mark.anyio

PAUSE_SECONDS: Final = 1.0
ACCEPTED: Final = {"teams": 202, "discord": 204, "googlechat": 200}
FAILED: Final = JobScript(
    job_id="job-1", name="R&D", ends_as="failed", queue_seconds=0.0, run_seconds=0.0
)


@dataclass
class Service:
    """Accepts messages; the first `pauses` requests get a 429 with the pause in its body."""

    status: int
    pauses: int = 0
    attempts: list[float] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Accept one message."""
        assert request.content_type == "application/json"
        self.attempts.append(now())
        if len(self.attempts) <= self.pauses:
            body = {"message": "You are being rate limited.", "retry_after": PAUSE_SECONDS}
            return web.json_response(body, status=429)
        self.messages.append(await request.json())
        return web.Response(status=self.status)


@pytest.fixture
async def services() -> AsyncIterator[dict[str, Service]]:
    """Yield a receiver for each kind."""
    found = {kind: Service(status) for kind, status in ACCEPTED.items()}
    async with AsyncExitStack() as stack:
        for service in found.values():
            await stack.enter_async_context(listening(service))
        yield found


def settings(services: dict[str, Service]) -> dict[str, str | None]:
    """Return the settings that send events to every service."""
    urls = {f"POLLER_{kind.upper()}_URL": service.url for kind, service in services.items()}
    return urls | {
        "POLLER_SINKS": ",".join(services),
        "POLLER_RETRY_SCHEDULE": "100ms",
        "POLLER_JOB_URL": "https://app.example/jobs/{job_id}",
        "POLLER_WEBHOOK_URL": None,
        "POLLER_WEBHOOK_SECRET": None,
        "POLLER_WEBHOOK_HEADERS": None,
    }


async def test_failed_job_is_a_message_at_every_service(place: Place, services: dict[str, Service]):
    """The end of a job is one message at each service, with its name and why it failed.

    Discord is not sent the next request before its pause is over.
    """
    services["discord"].pauses = 1
    jobs = place.jobs(FAILED)
    async with place.running("run", POLLER_JOB_IDS=jobs, **settings(services)) as daemon:
        await until(lambda: all(service.messages for service in services.values()))
        await daemon.stop()

    teams, discord, googlechat = (service.messages for service in services.values())
    (card,) = (attachment["content"] for attachment in teams[0]["attachments"])
    assert card["body"][0]["items"][0]["inlines"][0]["text"].startswith("❌ R&D (job-1) failed")
    assert discord[0]["content"].startswith("❌ R&D (job-1) failed")
    assert "returned no output" in discord[0]["embeds"][0]["description"]
    assert googlechat[0]["fallbackText"].startswith("❌ R&D (job-1) failed")
    assert list(map(len, (teams, discord, googlechat))) == [1, 1, 1]
    first, second = services["discord"].attempts
    assert second - first >= PAUSE_SECONDS
    assert not leaks(place.folder)
