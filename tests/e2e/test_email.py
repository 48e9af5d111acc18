"""A mail server as a receiver: what a killed daemon has sent comes again, and is recognized."""

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import NO_WEBHOOK, Place
from tests.support.mail_server import HANGS, mail_server
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENDED = JobScript(job_id="job-1", name="R&D", queue_seconds=0.0, run_seconds=0.0)


async def test_mail_after_a_kill_has_the_same_message_id(place: Place):
    """A daemon that is killed before the reply to a mail sends it again, with the same ID."""
    async with mail_server(DATA=HANGS) as server:
        settings = NO_WEBHOOK | {
            "POLLER_SINKS": "email",
            "POLLER_EMAIL_URL": f"smtp://127.0.0.1:{server.port}",
            "POLLER_EMAIL_FROM": "poller@example.com",
            "POLLER_EMAIL_TO": "ops@example.com",
            "POLLER_JOB_IDS": place.jobs(ENDED),
        }
        async with place.running("run", **settings) as daemon:
            await until(lambda: server.mails)
            daemon.process.kill()
            await daemon.end()
        server.replies = {}
        async with place.running("run", **settings) as daemon:
            await until(lambda: len(server.mails) > 1)
            code = await daemon.stop()

    assert code == 0
    first, again = server.messages
    assert first["Subject"] == again["Subject"] == "✅ R&D (job-1) succeeded after 0s"
    assert first["Message-ID"] == again["Message-ID"]
