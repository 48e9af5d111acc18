"""`health`, as a container engine runs it."""

import pytest

from tests.support.daemon_process import Place
from tests.support.ports import CLOSED_URL, reserved_port

pytestmark = pytest.mark.anyio

HEAVY = {"aiohttp", "anyio", "pydantic", "pydantic_settings", "structlog", "uvloop"}

IMPORTED = """\
import sys
from poller.cli import main
try:
    main(["health"])
finally:
    print(*sorted(sys.modules))
"""


async def test_health_imports_little(place: Place):
    """`health` imports no library of the daemon, since it runs every half a minute."""
    python = str(place.command.with_name("python"))
    environment = {"POLLER_LISTEN": CLOSED_URL.removeprefix("http://")}
    async with place.started([python, "-c", IMPORTED], environment) as process:
        code = await process.end()

    message, modules = process.out.splitlines()
    assert (code, message.startswith("cannot connect to ")) == (1, True)
    assert HEAVY.isdisjoint(modules.split())


@pytest.mark.parametrize("kind", ["port", "socket"])
async def test_health_is_ready_while_the_daemon_runs(place: Place, kind: str):
    """The daemon is healthy from ready to stopped, even if the API fails."""
    with reserved_port() as port:
        address = f"127.0.0.1:{port}" if kind == "port" else f"unix:{place.folder}/door"
        settings = {"POLLER_LISTEN": address, "SUTRO_API_URL": CLOSED_URL}
        async with place.running("run", POLLER_JOB_IDS="job-1", **settings) as daemon:
            await daemon.saying("poller.started")
            with_daemon = await until_ready(place, settings)
            await daemon.stop()
        code, without = await place.run("health", **settings)

    assert with_daemon == "ready\n"
    assert (code, without.out.startswith("cannot connect to ")) == (1, True)


async def until_ready(place: Place, settings: dict[str, str]) -> str:
    """Run `health` until the daemon is ready, and return its output."""
    for _ in range(50):
        code, ended = await place.run("health", **settings)
        if code == 0:
            return ended.out
    raise AssertionError(ended.out)
