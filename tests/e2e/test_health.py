"""`health`, as a container engine runs it."""

import socket

import pytest

from tests.support.daemon_process import Place

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


def a_port() -> int:
    """Give a port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


async def test_it_imports_little(place: Place):
    """What is run every half a minute must not cost what the daemon costs."""
    python = str(place.command.with_name("python"))
    environment = {"POLLER_LISTEN": f"127.0.0.1:{a_port()}"}
    async with place.started([python, "-c", IMPORTED], environment) as asked:
        code = await asked.end()

    told, modules = asked.out.splitlines()
    assert (code, told.startswith("cannot connect to ")) == (1, True)
    assert HEAVY.isdisjoint(modules.split())


@pytest.mark.parametrize("kind", ["port", "socket"])
async def test_it_is_well_while_the_daemon_runs(place: Place, kind: str):
    """Healthy from when the daemon is ready until it has stopped, whatever the API says."""
    address = f"127.0.0.1:{a_port()}" if kind == "port" else f"unix:{place.folder}/door"
    door = {"POLLER_LISTEN": address, "SUTRO_API_URL": "http://127.0.0.1:9"}
    async with place.running("run", POLLER_JOB_IDS="job-1", **door) as daemon:
        await daemon.saying("poller.started")
        with_daemon = await until_ready(place, door)
        await daemon.stop()
    code, without = await place.run("health", **door)

    assert with_daemon == "ready\n"
    assert (code, without.out.startswith("cannot connect to ")) == (1, True)


async def until_ready(place: Place, door: dict[str, str]) -> str:
    """Ask until the daemon is well, and give what was said of it."""
    for _ in range(50):
        code, ended = await place.run("health", **door)
        if code == 0:
            return ended.out
    raise AssertionError(ended.out)
