"""A whole daemon in virtual time, between an API and a receiver on loopback."""

import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from aiohttp import web
from standardwebhooks import Webhook

from poller import config as configuration
from poller.app import App
from poller.config import Config
from poller.runtime.clock import Clock
from poller.store import Store
from poller.store.memory import MemoryStore
from tests.support.builders import check_event
from tests.support.fakes import half
from tests.support.virtual_time import virtual_clock

KEY: Final = "sk_test"
SECRET: Final = "whsec_" + base64.b64encode(bytes(range(32))).decode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """Serve one handler on loopback."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with served_app(app) as url:
        yield url


@asynccontextmanager
async def served_app(
    app: web.Application, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve an application on loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, keepalive_timeout=1e6)
    await runner.setup()
    try:
        listener = socket.create_server((host, port))
        await web.SockSite(runner, listener).start()
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


@dataclass
class Receiver:
    """A webhook endpoint that verifies every webhook; `status` is its response."""

    status: int = 200
    delay: float = 0.0
    reached: anyio.Event = field(default_factory=anyio.Event)
    tried: list[tuple[float, str]] = field(default_factory=list)
    got: list[tuple[float, str, bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Receive one event."""
        body, message_id = await request.read(), request.headers["webhook-id"]
        self.tried.append((anyio.current_time(), message_id))
        self.reached.set()
        await anyio.sleep(self.delay)
        if self.status < 300:
            Webhook(SECRET).verify(body, dict(request.headers))
            check_event(body)
            self.got.append((anyio.current_time(), message_id, body))
        return web.Response(status=self.status)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events in order of arrival."""
        return [check_event(body) for _, _, body in self.got]

    @property
    def types(self) -> list[str]:
        """The types of all events in order of arrival."""
        return [event["type"] for event in self.events]


def in_memory(config: Config, clock: Clock) -> Store:
    """Return a store in memory for a configuration."""
    return MemoryStore(routes=config.routes, deployment="test", now=clock.steady)


def an_app(api: str, hook: str, *, clock: Clock | None = None, **changes: Any) -> App:
    """Return a daemon with one webhook; changes in capitals are variables."""
    variables = {
        "SUTRO_API_KEY": KEY,
        "SUTRO_API_URL": api,
        "POLLER_JOB_IDS": "job-1",
        "POLLER_SINKS": "webhook",
        "POLLER_WEBHOOK_URL": hook,
        "POLLER_WEBHOOK_SECRET": SECRET,
        "POLLER_STORE": "memory:",
        "POLLER_LISTEN": "off",
    }
    variables |= {name: text for name, text in changes.items() if name.isupper()}
    options = {name: value for name, value in changes.items() if not name.isupper()}
    return App(
        configuration.load(variables),
        clock=clock or virtual_clock(),
        random=options.pop("random", half),
        **options,
    )


@asynccontextmanager
async def running_app(app: App) -> AsyncIterator[App]:
    """Run a daemon while the block runs, then stop it as SIGTERM does."""
    async with anyio.create_task_group() as group:
        group.start_soon(app.serve)
        yield app
        app.stop()
