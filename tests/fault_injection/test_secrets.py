"""No secret is in any output or file; these tests provoke what would show one."""

import json
import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from poller import config as configuration
from poller.app import App
from poller.sutro.simulator.script import JobScript
from poller.wiring import build_client, build_http
from tests.fault_injection.harness import process_forker, tally
from tests.support.daemon_process import Daemon, Place
from tests.support.plugin_packages import a_plugin
from tests.support.ports import CLOSED_URL
from tests.support.secret_canaries import (
    CANARIES,
    HEADER,
    KEY,
    NEW_KEY,
    PASSWORD,
    PATH,
    SECRET,
    found_in,
    leaks,
)
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver, listening

pytestmark = pytest.mark.anyio

PROMISE = "no key, secret, URL or password is in any output or file, raw, base64 or URL-encoded"
ENDED_JOB = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)

LEAKING_SINK = """
import base64
import os
from contextlib import asynccontextmanager

from poller.polling.watcher import Watcher
from poller.sinks import SinkKind
from poller.sinks.webhook import WebhookSettings


class Leaky:
    def __init__(self, secrets):
        self.secrets = secrets

    async def send(self, delivery):
        blurt(self.secrets)


def blurt(secrets):
    key, url, secret = secrets
    based = [base64.b64encode(text.encode()).decode() for text in secrets]
    raise RuntimeError(f"{key} {url} {secret} {based}")


@asynccontextmanager
async def connect(settings, egress):
    url = settings.value.url.get_secret_value()
    secrets = os.environ["SUTRO_API_KEY"], url, settings.value.secret.get_secret_value()
    if settings.value.timeout == 1:
        blurt(secrets)
    if settings.value.timeout == 2:
        Watcher.run = lambda _: blurt(secrets)
    yield Leaky(secrets)


KIND = SinkKind(WebhookSettings, connect)
"""
"""A plug-in that raises with its secrets in `send`.

With a timeout of 1 s it does that in `connect`, and with 2 s in the daemon.
"""


@pytest.fixture
def leaking_sink(place: Place, tmp_path: Path) -> dict[str, str]:
    """Install the leaking sink, and return the settings that select it."""
    folder = tmp_path / "packages"
    a_plugin(folder, "leaky", LEAKING_SINK)
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
def untrusted() -> ssl.SSLContext:
    """Return the TLS identity of a host whose certificate no CA has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("canary", CANARIES)
def test_secret_search_finds_a_planted_secret(tmp_path: Path, canary: str):
    """A secret in the middle of a file is found."""
    (tmp_path / "log").write_text(f"x{canary}y", "utf-8")

    assert leaks(tmp_path)


async def test_sink_that_cannot_be_opened_logs_no_secret(
    place: Place, leaking_sink: dict[str, str]
):
    """The error of a sink that cannot be opened is reported with secrets redacted."""
    code, ended = await place.run(
        "run", POLLER_JOB_IDS="job-1", POLLER_LEAKY_TIMEOUT="1s", **leaking_sink
    )

    assert (code, "**** **** ****" in ended.err) == (78, True)
    tally(PROMISE, cases=1, violations=leaks(place.folder))


async def test_crash_logs_no_secret(place: Place, leaking_sink: dict[str, str]):
    """A crash with secrets in its text and frames is logged with them redacted."""
    code, ended = await place.run(
        "run", POLLER_JOB_IDS="job-1", POLLER_LEAKY_TIMEOUT="2s", **leaking_sink
    )

    (crash,) = ended.said("poller.crashed")
    assert (code, ended.err) == (70, "")
    assert "RuntimeError: **** " in crash["exception"]
    tally(PROMISE, cases=1, violations=leaks(place.folder))


async def test_failing_sink_logs_no_secret(place: Place, leaking_sink: dict[str, str]):
    """A plug-in that raises with secrets in its text is logged without them; the daemon runs on."""
    jobs = place.jobs(ENDED_JOB)
    async with place.running("run", POLLER_JOB_IDS=jobs, **leaking_sink) as daemon:
        (raised, *_) = await daemon.saying("sink.crashed")
        code = await daemon.stop()

    assert code == 0
    assert "RuntimeError: **** " in raised["exception"]
    tally(PROMISE, cases=1, violations=leaks(place.folder))


async def test_http_errors_log_no_secret(place: Place):
    """Neither a 401 of the API nor a failing receiver puts a secret into the log."""
    place.receiver.status = 500
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED_JOB)) as daemon:
        await daemon.saying("delivery.failed")
        await daemon.stop()
    place.api.key = NEW_KEY
    jobs = place.jobs(JobScript(job_id="job-2"))
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        (failed,) = await daemon.saying("poll.failed")
        await daemon.stop()

    assert "401" in failed["error"]
    tally(PROMISE, cases=1, violations=leaks(place.folder))


async def test_tls_failure_logs_no_secret(place: Place, untrusted: ssl.SSLContext):
    """A certificate that is not trusted is logged with the host alone, and gets no request."""
    async with listening(Receiver(), tls=untrusted) as receiver:
        api = receiver.url.removesuffix(PATH)
        settings = {"POLLER_JOB_IDS": place.jobs(ENDED_JOB), "POLLER_WEBHOOK_URL": receiver.url}
        async with place.running("run", **settings) as daemon:
            (delivery_failed, *_) = await daemon.saying("delivery.failed")
            await daemon.stop()
        settings = {"POLLER_JOB_IDS": place.jobs(JobScript(job_id="job-2")), "SUTRO_API_URL": api}
        async with place.running("run", **settings) as daemon:
            (poll_failed, *_) = await daemon.saying("poll.failed")
            await daemon.stop()

    error = f"{api.removeprefix('https://')}: its TLS certificate is not trusted"
    for failed, variable in (delivery_failed, "POLLER_WEBHOOK_URL"), (poll_failed, "SUTRO_API_URL"):
        assert failed["error"].startswith(error)
        assert failed["error"].endswith(f"; check {variable} and POLLER_CA_FILE")
    assert not receiver.received
    tally(PROMISE, cases=1, violations=leaks(place.folder))


VERBS = (
    "check",
    "check -o json",
    "check --api",
    "status",
    "status -o json",
    "jobs ls",
    "events ls",
    "dead ls",
    "sinks ls",
    "sinks test webhook",
    "wait job-1",
    "wait job-1 -o json",
)


@pytest.mark.parametrize("kind", ["well", "broken", "behind a dead proxy"])
async def test_commands_print_no_secret(place: Place, kind: str):
    """Commands mask secrets, also those in invalid settings."""
    settings = {"POLLER_JOB_IDS": place.jobs(ENDED_JOB)}
    environment, output = place.environment(settings | CHANGES[kind]), place.folder / "verbs"
    async with process_forker(place.command) as forker:
        daemon = await forker.start(place.environment(settings), place.folder / "log")
        await until(lambda: place.receiver.received)
        await daemon.stop()
        for verb in VERBS:
            child = await forker.start(
                environment, output, *verb.split(), *(EXTRA_ARGUMENTS.get(verb[:4], ()))
            )
            await child.end()

    assert output.stat().st_size > 1_000
    tally(PROMISE, cases=len(VERBS), violations=leaks(place.folder))


BEHIND_PROXY = {
    "POLLER_PROXY": f"http://me:{quote(PASSWORD, safe='')}@{CLOSED_URL.removeprefix('http://')}",
    "SUTRO_API_URL": "https://sutro.invalid",
    "POLLER_WEBHOOK_URL": f"https://hooks.invalid{PATH}",
}
"""Hosts that are reached through the proxy, which does not run: loopback never uses a proxy."""

CHANGES: dict[str, dict[str, str | None]] = {
    "well": {},
    "broken": {
        "SUTRO_API_KEY": f"{KEY}\n{NEW_KEY}",
        "POLLER_WEBHOOK_URL": f"ftp://example.com{PATH}",
        "POLLER_WEBHOOK_SECRET": SECRET.removeprefix("whsec_"),
        "POLLER_WEBHOOK_HEADERS": json.dumps({HEADER: HEADER}),
        "POLLER_PROXY": f"socks5://me:{PASSWORD}@proxy",
    },
    "behind a dead proxy": BEHIND_PROXY,
}
EXTRA_ARGUMENTS = {"wait": ("--timeout", "2s")}


def secrets_on_command_line(daemon: Daemon) -> list[str]:
    """Return the secrets on the command line of a process, which every user can read."""
    line = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
    return [f"command line: {form.decode()}" for form in found_in(line)]


async def test_running_daemon_exposes_no_secret(place: Place):
    """Neither its command line nor the write-ahead log of a daemon behind a proxy has a secret."""
    jobs = place.jobs(ENDED_JOB, JobScript(job_id="job-2"))
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        await until(lambda: place.receiver.received)
        found = secrets_on_command_line(daemon) + leaks(place.folder)
        is_logged = (place.folder / "state" / "state.db-wal").exists()
        await daemon.stop()
    async with place.running("run", POLLER_JOB_IDS=jobs, **BEHIND_PROXY) as daemon:
        (failed, *_) = await daemon.saying("poll.failed")
        await daemon.stop()

    assert is_logged
    assert "proxy" in failed["error"]
    tally(PROMISE, cases=2, violations=found + leaks(place.folder))


async def test_repr_has_no_secret(place: Place):
    """The repr of the daemon's parts, as a debugger shows them, has no secret."""
    config = configuration.load(place.environment({"POLLER_JOB_IDS": "job-1", **BEHIND_PROXY}))
    app = App(config)
    async with build_http(config) as http:
        client = build_client(config, http, app.clock)
        parts = [app, config, config.settings, config.outbound, http, client, *config.sinks]
        parts += [config.sourced, config.secrets, [sink.reloadable.value for sink in config.sinks]]
        shown = [f"{part!r} {part!s}" for part in parts]

    found = [form.decode() for text in shown for form in found_in(text.encode())]
    tally(PROMISE, cases=len(parts), violations=found)
