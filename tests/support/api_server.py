"""A daemon with the HTTP API in this process, with a simulated Sutro API and a receiver."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import anyio
from structlog.testing import capture_logs
from yarl import URL

from poller import config as configuration
from poller.api.server import ConnectionLimiter
from poller.app import App
from poller.config import Config
from poller.runtime.clock import Clock
from poller.store import Store
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from poller.wiring import build_store
from tests.support.daemon_process import PACE
from tests.support.secret_canaries import HEADER, KEY, SECRET, found_in
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver, listening

PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Response:
    """A response of the HTTP API."""

    status: int
    headers: Any
    text: str

    @property
    def body(self) -> Any:
        """The JSON body."""
        return json.loads(self.text)

    @property
    def problem(self) -> str:
        """The type of the problem document."""
        assert self.headers["Content-Type"].startswith(PROBLEM)
        assert self.body["status"] == self.status
        return self.body["type"].rpartition("#problem-")[2]


@dataclass(frozen=True)
class LiveDaemon:
    """A daemon with the HTTP API, and its surroundings."""

    app: App
    api: Simulator
    receiver: Receiver
    session: aiohttp.ClientSession
    url: str
    api_port: int
    log: list[dict[str, Any]]

    async def request(self, method: str, path: str, **options: Any) -> Response:
        """Send one request. No response may contain a secret."""
        async with self.session.request(method, self.url + path, **options) as response:
            body = await response.read()
            assert not found_in(body + repr(response.headers).encode())
            return Response(response.status, response.headers, body.decode())

    async def get(self, path: str, **options: Any) -> Response:
        """Send a GET request."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, body: object = None, **options: Any) -> Response:
        """Send a POST request with JSON, or without a body."""
        return await self.request("POST", path, **({"json": body} if body else {}), **options)

    async def wait_for_job(self, job_id: str, state: str) -> dict[str, Any]:
        """Wait until a job is in a state."""
        while True:
            found = await self.get(f"/v1/jobs/{job_id}")
            if found.status == 200 and found.body["state"] == state:
                return found.body
            await anyio.sleep(0.02)

    async def wait_for_deliveries(self) -> None:
        """Wait until no event is pending at any sink."""
        await until(lambda: not any(row["pending"] for row in self.app._store.admin().sinks()))


def settings(folder: Path, api_url: str, hook: str, **changes: str) -> dict[str, str]:
    """Return the variables of a daemon with the HTTP API at any free port."""
    defaults = PACE | {
        "SUTRO_API_KEY": KEY,
        "SUTRO_API_URL": api_url,
        "POLLER_JOB_IDS": "job-1",
        "POLLER_WEBHOOK_URL": hook,
        "POLLER_WEBHOOK_SECRET": SECRET,
        "POLLER_WEBHOOK_HEADERS": json.dumps({"X-Team": HEADER}),
        "POLLER_STORE": str(folder / "state.db"),
        "POLLER_LISTEN": "127.0.0.1:0",
    }
    return defaults | changes


@asynccontextmanager
async def live_daemon(
    folder: Path,
    *scripts: JobScript,
    status: int = 204,
    api_port: int = 0,
    is_ready: bool = True,
    new_store: Callable[[Config, Clock], Store] = build_store,
    **changes: str,
) -> AsyncIterator[LiveDaemon]:
    """Run a daemon with the HTTP API while the block runs; first wait until it is ready, or not."""
    api, receiver = Simulator(key=KEY), Receiver()
    receiver.status = status
    for script in scripts:
        api.add(script)
    async with (
        serve(api, port=api_port) as api_url,
        listening(receiver) as hook,
        aiohttp.ClientSession() as session,
    ):
        if changes.get("SUTRO_API_URL") == "HOOK":
            changes["SUTRO_API_URL"] = str(
                URL(hook.url).with_path("/")
            )  # a server that is not the API
        config = configuration.load(settings(folder, api_url, hook.url, **changes))
        app = App(config, new_store=new_store)
        with capture_logs() as log:
            async with anyio.create_task_group() as group:
                group.start_soon(app.serve)
                (opened,) = await until(
                    lambda: [entry for entry in log if entry["event"] == "api.listening"]
                )
                await until(lambda: app.status.health.is_ready == is_ready)
                yield LiveDaemon(
                    app, api, receiver, session, opened["address"], URL(api_url).port, log
                )
                app.stop()


def unread_bytes(daemon: LiveDaemon) -> int:
    """Return how many bytes of responses clients have not read yet."""
    limiter: ConnectionLimiter = daemon.app._api.limit_unread.__self__
    return sum(limiter.unread_bytes().values())
