"""`sutro-poller listen`: it receives, verifies and prints the events of the daemon."""

import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from poller.core.events import EventOrigin
from poller.sinks import samples
from poller.sinks.webhook import sign, signing_keys
from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Daemon, Place
from tests.support.secret_canaries import SECRET
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(
    place: Place, *options: str, **variables: str
) -> AsyncIterator[tuple[Daemon, dict[str, str]]]:
    """Run `listen`, and yield it with the settings that it prints."""
    command = [str(place.command), "listen", "--port", "0", *options]
    async with place.started(command, variables) as listener:
        has_secret = "--env-file" in options or bool(variables)
        await until(lambda: listener.err.count("\n") == (2 if has_secret else 3))
        lines = [line for line in listener.err.splitlines() if line.startswith("POLLER_")]
        yield listener, dict(line.split("=", 1) for line in lines)


async def test_listen_prints_the_events_of_a_daemon(place: Place):
    """With the settings that it prints, a daemon sends to it; each event is one line."""
    jobs = place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.1, name="Triage"))
    async with listening(place) as (listener, settings):
        async with place.running("run", POLLER_JOB_IDS=jobs, **settings) as daemon:
            await until(lambda: listener.out.endswith("\n"))
            await daemon.stop()
        code = await listener.stop()

    assert sorted(settings) == ["POLLER_WEBHOOK_SECRET", "POLLER_WEBHOOK_URL"]
    assert code == 0
    assert listener.out.startswith("job.succeeded       Triage (job-1)  ran ")
    assert listener.err.count("\n") == 3


async def test_listen_verifies_with_the_secret_of_the_daemon(place: Place):
    """A secret of the settings is used and not printed; JSON has the ID and the body."""
    variables = {"POLLER_WEBHOOK_SECRET": SECRET}
    async with listening(place, "-o", "json", **variables) as (listener, settings):
        code, _ = await place.run("sinks", "test", "webhook", **settings)
        await listener.stop()

    event = json.loads(listener.out)
    assert code == 0
    assert list(settings) == ["POLLER_WEBHOOK_URL"]
    assert event["id"].startswith("evt_")
    assert (event["type"], event["data"]["sink"]) == ("poller.test", "webhook")


async def test_listen_rejects_another_secret(place: Place):
    """A webhook that is signed with another secret is rejected with 401, and not printed."""
    async with listening(place) as (listener, settings):
        url = {"POLLER_WEBHOOK_URL": settings["POLLER_WEBHOOK_URL"]}
        code, tested = await place.run("sinks", "test", "webhook", **url)
        await listener.stop()

    assert code == 1
    assert "401" in tested.out
    assert listener.out == ""
    assert "rejected with 401: the signature is missing or wrong\n" in listener.err


async def test_listen_marks_tests_and_repetitions(place: Place):
    """A test event is marked, and so is an event that has come before."""
    event = samples.test_event(
        "poller.test",
        EventOrigin(deployment="api.sutro.sh"),
        datetime.now(UTC),
        sink="webhook",
        instance="1",
    )
    async with listening(place, POLLER_WEBHOOK_SECRET=SECRET) as (listener, settings):
        for _ in range(2):
            _post(settings["POLLER_WEBHOOK_URL"], event.body)
        await listener.stop()

    assert listener.out == (
        "poller.test         webhook  (test)\npoller.test         webhook  (test, repeated)\n"
    )


async def test_listen_rejects_a_body_that_is_no_event(place: Place):
    """A signed body in another format is rejected with 400."""
    async with listening(place, POLLER_WEBHOOK_SECRET=SECRET) as (listener, settings):
        with pytest.raises(HTTPError) as caught:
            _post(settings["POLLER_WEBHOOK_URL"], b'{"text": "for Slack"}')
        caught.value.close()
        await listener.stop()

    assert caught.value.code == 400
    assert listener.out == ""


async def test_listen_ends_with_its_reader(place: Place):
    """`listen | head -1` ends soon after the reader has gone, and that is no failure."""
    pipe = f"set -o pipefail; {place.command} listen --port 0 | head -1"
    variables = {"POLLER_WEBHOOK_SECRET": SECRET, "PATH": "/usr/bin:/bin"}
    async with place.started(["bash", "-c", pipe], variables) as listener:
        await until(lambda: "URL=" in listener.err and listener.err[-1] == "\n")
        url = listener.err.strip().rpartition("=")[2]
        while listener.process.returncode is None:  # it learns of the end when it writes
            await place.run("sinks", "test", "webhook", POLLER_WEBHOOK_URL=url)
        code = await listener.end()

    assert code == 0
    assert listener.out.count("\n") == 1


@pytest.mark.parametrize("secret", ["s3cr3t", "whsec_c2hvcnQ=", '"whsec_AAAA"'])
async def test_listen_rejects_an_invalid_secret(place: Place, secret: str):
    """A secret that the daemon would reject ends it with 78, and is not repeated."""
    command = [str(place.command), "listen"]
    async with place.started(command, {"POLLER_WEBHOOK_SECRET": secret}) as listener:
        code = await listener.end()

    assert code == 78
    assert listener.err.startswith("sutro-poller: POLLER_WEBHOOK_SECRET: ")
    assert secret not in listener.err


async def test_listen_reports_a_port_that_is_in_use(place: Place):
    """A port that is in use ends it with 78 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [str(place.command), "listen", "--port", port]
        async with place.started(command, {}) as listener:
            code = await listener.end()

    assert code == 78
    assert f"cannot listen on port {port}: Address already in use" in listener.err


async def test_listen_reads_the_secret_from_an_env_file(place: Place, tmp_path: Path):
    """The secret can come from the daemon's env file."""
    path = tmp_path / "poller.env"
    path.write_text(f"POLLER_WEBHOOK_SECRET={SECRET}\n", "utf-8")
    async with listening(place, "--env-file", str(path)) as (listener, settings):
        await listener.stop()

    assert list(settings) == ["POLLER_WEBHOOK_URL"]


def _post(url: str, body: bytes) -> None:
    """Send one signed webhook."""
    timestamp = int(time.time())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(signing_keys(SECRET), "evt_1", timestamp, body),
    }
    with urlopen(Request(url, body, headers), timeout=60.0) as response:
        assert response.status == 204
