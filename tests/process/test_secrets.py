"""No secret is in anything that a process writes. Every test here looks; these provoke."""

import ssl
from pathlib import Path

import pytest
import trustme

from poller.sutro.script import Script
from tests.process.canaries import CANARIES, NEW_KEY, PATH, SECRET, leaks
from tests.process.daemon import Place
from tests.process.plugins import a_plugin
from tests.process.receiver import Receiver, listening

pytestmark = pytest.mark.anyio

ENDED = Script(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)

LEAKY = """
import base64
import os
from contextlib import asynccontextmanager

from poller.sinks import SinkKind
from poller.sinks.webhook import WebhookSettings


class Leaky:
    def __init__(self, secrets):
        self.secrets = secrets

    async def send(self, delivery):
        blurt(self.secrets)


def blurt(secrets):
    key, url, secret = secrets
    based = [base64.b64encode(it.encode()).decode() for it in secrets]
    raise RuntimeError(f"{key} {url} {secret} {based}")


@asynccontextmanager
async def connect(settings, egress):
    url = settings.value.url.get_secret_value()
    secrets = os.environ["SUTRO_API_KEY"], url, settings.value.secret.get_secret_value()
    if settings.value.timeout == 1:
        blurt(secrets)
    yield Leaky(secrets)


KIND = SinkKind(WebhookSettings, connect)
"""
"""A sink of others that tells all it knows: in `connect` with a timeout of 1 s, else in `send`."""


@pytest.fixture
def leaky(place: Place, tmp_path: Path) -> dict[str, str]:
    """Install the leaky sink, and give the settings that choose it."""
    folder = tmp_path / "packages"
    a_plugin(folder, "leaky", LEAKY)
    return {
        "PYTHONPATH": str(folder),
        "POLLER_SINKS": "leaky",
        "POLLER_LEAKY_URL": place.receiver.url,
        "POLLER_LEAKY_SECRET": SECRET,
        "POLLER_WEBHOOK_URL": None,
        "POLLER_WEBHOOK_SECRET": None,
        "POLLER_WEBHOOK_HEADERS": None,
    }


@pytest.fixture
def stranger() -> ssl.SSLContext:
    """Give the TLS identity of a host that nobody vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("canary", CANARIES)
def test_the_search_finds_a_planted_secret(tmp_path: Path, canary: str):
    """A secret in the middle of a file is found, so that finding none means something."""
    (tmp_path / "log").write_text(f"x{canary}y", "utf-8")

    assert leaks(tmp_path)


async def test_a_crash_tells_no_secret(place: Place, leaky: dict[str, str]):
    """An exception with secrets in its text and its frames is logged whole but for them."""
    code, ended = await place.run("run", POLLER_JOB_IDS="job-1", POLLER_LEAKY_TIMEOUT="1s", **leaky)

    (crash,) = ended.said("poller.crashed")
    assert (code, ended.err) == (1, "")
    assert "RuntimeError: **** " in crash["exception"]
    assert not leaks(place.folder)


async def test_a_failing_sink_tells_no_secret(place: Place, leaky: dict[str, str]):
    """A plugin that raises with secrets in its text is logged without them, and it runs on."""
    jobs = place.jobs(ENDED)
    async with place.running("run", POLLER_JOB_IDS=jobs, **leaky) as daemon:
        (raised, *_) = await daemon.saying("sink.raised")
        code = await daemon.stop()

    assert code == 0
    assert "RuntimeError: **** " in raised["exception"]
    assert not leaks(place.folder)


async def test_a_refusal_tells_no_secret(place: Place):
    """Neither a 401 of the API nor a refusing receiver brings a secret into the log."""
    place.receiver.status = 500
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED)) as daemon:
        await daemon.saying("delivery.failed")
        await daemon.stop()
    place.api.key = NEW_KEY
    jobs = place.jobs(Script(job_id="job-2"))
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        (failed,) = await daemon.saying("poll.failed")
        await daemon.stop()

    assert "401" in failed["error"]
    assert not leaks(place.folder)


async def test_a_tls_failure_tells_no_secret(place: Place, stranger: ssl.SSLContext):
    """A certificate that nobody vouches for is told with the host alone, and gets no request."""
    async with listening(Receiver(), tls=stranger) as receiver:
        api = receiver.url.removesuffix(PATH)
        settings = {"POLLER_JOB_IDS": place.jobs(ENDED), "POLLER_WEBHOOK_URL": receiver.url}
        async with place.running("run", **settings) as daemon:
            (unsent, *_) = await daemon.saying("delivery.failed")
            await daemon.stop()
        settings = {"POLLER_JOB_IDS": place.jobs(Script(job_id="job-2")), "SUTRO_API_URL": api}
        async with place.running("run", **settings) as daemon:
            (unseen, *_) = await daemon.saying("poll.failed")
            await daemon.stop()

    assert unsent["error"] == unseen["error"]
    assert unsent["error"].startswith("127.0.0.1: its TLS certificate is not trusted")
    assert not receiver.receipts
    assert not leaks(place.folder)
