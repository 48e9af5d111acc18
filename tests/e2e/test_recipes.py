"""The receivers that docs/webhooks.md shows receive the events of a real daemon."""

import os
import runpy
import shutil
import socket
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from poller.sinks.webhook import sign, signing_keys
from poller.sutro.simulator.script import JobScript
from tests.docs.markdown import blocks, read
from tests.support.builders import GOLDEN
from tests.support.daemon_process import Daemon, Place
from tests.support.node_packages import STANDARD_WEBHOOKS, install_node_packages
from tests.support.ports import reserved_port
from tests.support.secret_canaries import SECRET
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver, listening

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE: Final = "docs/webhooks.md"
PORT: Final = "9000"
OTHER: Final = "whsec_" + b64encode(b"o" * 32).decode()
BODY: Final = (GOLDEN / "job-12345.succeeded.json").read_bytes()

RECIPES: Final = {
    "receive_fastapi.py": "uvicorn receive_fastapi:app --port 9000",
    "receive_aiohttp.py": "python receive_aiohttp.py",
    "receive_flask.py": "flask --app receive_flask run --port 9000",
    "receive.js": "node receive.js",
    "receive.go": "go run receive.go",
}
"""The command of each program, as the page shows it."""


@dataclass(frozen=True)
class Recipe:
    """A running receiver, and the port where it listens."""

    process: Daemon
    port: int

    @property
    def url(self) -> str:
        """The URL for the daemon."""
        return f"http://127.0.0.1:{self.port}/hooks/sutro"

    def printed(self) -> list[str]:
        """Return the lines that it printed about events."""
        return sorted(line for line in self.process.out.splitlines() if line.startswith("job."))


def program(title: str) -> str:
    """Return the text of a program of the page."""
    (text,) = [block.text for block in blocks(PAGE) if block.title == title]
    return text


@asynccontextmanager
async def receiving(place: Place, title: str) -> AsyncIterator[Recipe]:
    """Run a program of the page as the page says, on another port."""
    command = RECIPES[title]
    assert f"\n$ {command}\n" in read(PAGE)
    if not shutil.which(command.split()[0], path=search_path()):
        pytest.skip(f"{command.split()[0]} is not installed")
    if title.endswith(".js"):
        install_node_packages(place.folder, STANDARD_WEBHOOKS)
    with reserved_port() as port:
        async with started(place, title, port) as recipe:
            yield recipe


@asynccontextmanager
async def started(place: Place, title: str, port: int) -> AsyncIterator[Recipe]:
    """Run a program of the page on a port."""
    (place.folder / title).write_text(program(title).replace(PORT, str(port)), "utf-8")
    environment = {
        "PATH": search_path(),
        "HOME": str(place.folder / "home"),
        "PYTHONUNBUFFERED": "1",
        "POLLER_WEBHOOK_SECRET": SECRET,
    }
    words = f"exec {RECIPES[title].replace(PORT, str(port))}"
    if title.endswith(".go"):  # `go run` does not pass a signal on to its program
        words = f"go build {title} && exec ./{Path(title).stem}"
    async with place.started(["bash", "-c", words], environment) as process:
        await until(lambda: is_open(port) or process.process.returncode is not None, within=900.0)
        assert process.process.returncode is None, process.err
        yield Recipe(process, port)


def search_path() -> str:
    """Return where the programs are that the tests install, and those of the system."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def is_open(port: int) -> bool:
    """Return whether a port of this machine is open."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(port: int, secret: str, *, event_id: str = "evt_1", age: int = 0) -> int:
    """Send one webhook that is so many seconds old, and return the status of the response."""
    timestamp = int(time.time()) - age
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(signing_keys(secret), event_id, timestamp, BODY),
    }
    with closing(HTTPConnection("127.0.0.1", port, timeout=120.0)) as connection:
        connection.request("POST", "/hooks/sutro", BODY, headers)
        return connection.getresponse().status


async def send_two_ends(place: Place, url: str) -> None:
    """Run a daemon until the ends of two jobs are delivered to a URL."""
    jobs = place.jobs(
        JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.1),
        JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.1, ends_as="failed"),
    )
    async with place.running(
        "run", POLLER_JOB_IDS=jobs, POLLER_WEBHOOK_URL=url, POLLER_EXIT_WHEN_DONE="on"
    ) as daemon:
        await daemon.end()


@pytest.mark.parametrize("title", RECIPES)
async def test_recipe_receives_the_events_of_a_daemon(place: Place, title: str):
    """Each program accepts both ends once, and rejects a wrong or old signature with 401."""
    async with receiving(place, title) as recipe:
        await send_two_ends(place, recipe.url)
        repeated = [post(recipe.port, SECRET) for _ in range(2)]
        rejected = [
            post(recipe.port, OTHER, event_id="evt_2"),
            post(recipe.port, SECRET, event_id="evt_3", age=600),
        ]
        await until(lambda: len(recipe.printed()) >= 3)
        printed = recipe.printed()

    assert printed == ["job.failed job-2", "job.succeeded job-1", "job.succeeded job-12345"]
    assert (repeated, rejected) == ([204, 204], [401, 401])


class Lambda(Receiver):
    """Pass requests to a handler as AWS does for a function URL (payload 2.0)."""

    def __init__(self, handler: Any, *, is_base64: bool) -> None:
        super().__init__()
        self.handler, self.is_base64 = handler, is_base64

    async def handle(self, request: web.Request) -> web.Response:
        """Return what the handler returns."""
        body = await request.read()
        event = {
            "version": "2.0",
            "headers": {name.lower(): text for name, text in request.headers.items()},
            "body": b64encode(body).decode() if self.is_base64 else body.decode(),
            "isBase64Encoded": self.is_base64,
        }
        response = self.handler(event, None)
        return web.Response(status=response["statusCode"], text=response.get("body"))


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the handler of the program for Lambda."""
    path = tmp_path / "receive_lambda.py"
    path.write_text(program(path.name), "utf-8")
    monkeypatch.setenv("POLLER_WEBHOOK_SECRET", SECRET)
    return runpy.run_path(str(path))["handler"]


@pytest.mark.parametrize("is_base64", [False, True], ids=["text", "base64"])
async def test_lambda_receives_the_events_of_a_daemon(
    place: Place, handler: Any, is_base64: bool, capsys: pytest.CaptureFixture[str]
):
    """The handler accepts both ends, with a body as text or in base64."""
    async with listening(Lambda(handler, is_base64=is_base64)) as receiver:
        await send_two_ends(place, receiver.url)

    assert sorted(capsys.readouterr().out.splitlines()) == [
        "job.failed job-2",
        "job.succeeded job-1",
    ]


def test_lambda_rejects_a_wrong_signature(handler: Any):
    """A request without a signature is rejected with 401."""
    response = handler({"headers": {}, "body": "{}", "isBase64Encoded": False}, None)

    assert response == {"statusCode": 401, "body": "the signature is missing or wrong"}
