"""What surrounds the commands of a page: a simulated API, a receiver, perhaps a daemon."""

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final
from urllib.request import urlopen

import anyio
from aiohttp import web
from standardwebhooks import Webhook

from poller.sutro.simulator.script import demo_jobs
from poller.sutro.simulator.server import Simulator, serve
from tests.support.ports import reserved_port
from tests.support.waiting import until

SECRET: Final = "whsec_dGhlIGRvY3MgdGVzdHMgb2Ygc3V0cm8tcG9sbGVy"
KEY: Final = "sk_docs_0123456789"
SPEED: Final = float(os.environ.get("DOCS_SPEED", "20"))
ENDLESS: Final = 1e9
API_AND_SINK: Final = (
    "SUTRO_API_URL",
    "SUTRO_API_KEY",
    "POLLER_WEBHOOK_URL",
    "POLLER_WEBHOOK_SECRET",
)
HOME: Final = "/home/ana"
"""How pages write the folder in which their commands run."""

PACE: Final = {
    "POLLER_MIN_INTERVAL": "0.05s",
    "POLLER_MAX_INTERVAL": "0.2s",
    "POLLER_REQUESTS_PER_MINUTE": "60000",
}


@dataclass(kw_only=True)
class World:
    """Where the commands of one page run.

    `shown` says what stands in the page for what is real here; the longest comes first.
    """

    folder: Path
    command: Path
    environment: dict[str, str]
    shown: dict[str, str]
    simulator_port: int
    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 204

    def real(self, text: str) -> str:
        """Return a text of the page with the ports, keys and addresses of this run."""
        return _replaced(text, self.shown)

    def as_shown(self, text: str) -> str:
        """Return an output with the ports, keys and addresses of the page."""
        return _replaced(text, {real: shown for shown, real in self.shown.items()})

    async def receive(self, request: web.Request) -> web.Response:
        """Verify one webhook, and respond with `status`."""
        body = await request.read()
        self.received.append(Webhook(SECRET).verify(body, dict(request.headers)))
        return web.Response(status=self.status)


Setting = Callable[[World, Simulator], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def alone(world: World, _api: Simulator) -> AsyncIterator[None]:
    """Start nothing and set nothing: the page does what it needs."""
    for name in API_AND_SINK:
        world.environment.pop(name, None)
    world.shown["127.0.0.1:8378"] = f"127.0.0.1:{world.simulator_port}"
    world.environment["POLLER_LOG_FORMAT"] = "console"  # as on a reader's terminal
    yield


@asynccontextmanager
async def at_a_customer(world: World, api: Simulator) -> AsyncIterator[None]:
    """Simulate the deployment https://YOUR-HOST, with a job that fails and one that succeeds.

    Each ends a while after a command has shown that it runs, and not before.
    """
    world.shown["https://YOUR-HOST"] = world.environment["SUTRO_API_URL"]
    fails, succeeds = demo_jobs(6)[1], demo_jobs(6)[5]
    for script in (fails, succeeds):
        api.add(replace(script, queue_seconds=0.0, run_seconds=ENDLESS))
    async with alone(world, api), anyio.create_task_group() as ends:
        ends.start_soon(_end_once_shown, world, api, fails.job_id, f"job_id={fails.job_id} ")
        ends.start_soon(_end_once_shown, world, api, succeeds.job_id, "job-6 .* RUNNING\n")
        yield
        ends.cancel_scope.cancel()


async def _end_once_shown(world: World, api: Simulator, job_id: str, shown: str) -> None:
    """End a job one second after a command has printed a text."""
    outputs = world.folder.parent / "outputs"

    def is_shown() -> bool:
        texts = (path.read_text("utf-8") for path in outputs.glob("*") if path.name.isdigit())
        return any(re.search(shown, text) for text in texts)

    await until(is_shown, within=ENDLESS)
    job = api.find(job_id)
    assert job
    seconds = (api.now() + 1.0 - job.created) * SPEED
    api._jobs[job_id] = replace(job, script=replace(job.script, run_seconds=seconds))


@asynccontextmanager
async def simulated(world: World, api: Simulator) -> AsyncIterator[None]:
    """Simulate six jobs."""
    jobs = demo_jobs(6)
    for script in jobs:
        api.add(script)
    world.environment["POLLER_JOB_IDS"] = ",".join(script.job_id for script in jobs)
    yield


@asynccontextmanager
async def after_a_410(world: World, api: Simulator) -> AsyncIterator[None]:
    """Run a daemon that six jobs have passed through, while its receiver answered 410.

    The receiver works again; the daemon goes on.
    """
    world.status = 410
    async with simulated(world, api), running(world):
        await until(lambda: _dead_letters(world.environment["POLLER_LISTEN"]) == 6)
        world.status = 204
        yield


@asynccontextmanager
async def at_work(world: World, api: Simulator) -> AsyncIterator[None]:
    """Run a daemon that watches job-1 of two jobs that run for an hour."""
    for script in demo_jobs(2):
        api.add(replace(script, queue_seconds=0.0, run_seconds=3_600.0 * SPEED))
    world.environment["POLLER_JOB_IDS"] = "job-1"
    async with running(world):
        yield


WORLDS: Final[dict[str, Setting]] = {
    "README.md": at_a_customer,
    "docs/cli.md": after_a_410,
    "docs/http-api.md": at_work,
    "docs/operations.md": after_a_410,
    "docs/python-api.md": simulated,
    "docs/watching-jobs.md": at_work,
}
"""The surroundings of the pages that do not start everything themselves."""


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    """Run the daemon, ready, until the block ends."""
    log, address = world.folder.parent / "daemon.log", world.environment["POLLER_LISTEN"]
    with log.open("wb") as out:
        process = await anyio.open_process(
            [str(world.command), "run"],
            env=world.environment,
            cwd=world.folder,
            stdin=DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        await until(lambda: process.returncode is not None or _is_ready(address))
        assert process.returncode is None, log.read_text()
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        with anyio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def a_world(command: Path, folder: Path, setting: Setting) -> AsyncIterator[World]:
    """Open a world; what runs in it does not outlive this block."""
    folder.mkdir()  # noqa: ASYNC240 - at once
    api = Simulator(key=KEY, speed=SPEED)
    async with AsyncExitStack() as stack:
        port, other, third = (stack.enter_context(reserved_port()) for _ in range(3))
        api_url = await stack.enter_async_context(serve(api))
        world = World(
            folder=folder,
            command=command,
            environment=PACE
            | {
                "PATH": f"{command.parent}:{os.environ['PATH']}",
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "SUTRO_API_URL": api_url,
                "SUTRO_API_KEY": KEY,
                "POLLER_WEBHOOK_SECRET": SECRET,
                "POLLER_LISTEN": f"127.0.0.1:{port}",
            },
            simulator_port=other,
            shown={
                "sutro-poller simulate": f"sutro-poller simulate --port {other} --speed {SPEED}",
                "sutro-poller listen": f"sutro-poller listen --port {third}",
                "127.0.0.1:8378": api_url.removeprefix("http://"),
                ":8377": f":{port}",
                ":9000": f":{third}",
                '", 9000)': f'", {third})',
                "whsec_...": SECRET,
                "sk_...": KEY,
                HOME: str(folder),
            },
        )
        async with _listening(world) as hook_url:
            world.environment["POLLER_WEBHOOK_URL"] = hook_url
            world.shown["https://example.com/hooks/sutro"] = hook_url
            async with setting(world, api):
                yield world


@asynccontextmanager
async def _listening(world: World) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/events", world.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        await runner.cleanup()


def _dead_letters(address: str) -> int:
    with urlopen(f"http://{address}/v1/sinks", timeout=60.0) as response:
        return sum(sink["dead"] for sink in json.load(response)["sinks"])


def _is_ready(address: str) -> bool:
    with suppress(OSError), urlopen(f"http://{address}/readyz", timeout=60.0) as response:
        return response.status == HTTPStatus.OK
    return False


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for word, other in sorted(words.items(), key=lambda item: -len(item[0])):
        text = text.replace(word, other)
    return text
