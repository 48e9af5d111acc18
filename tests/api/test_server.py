"""The address: which there are, who may have it, and how many may come without a word."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from poller.api import server as serving
from poller.core.errors import AddressInUse, ConfigError
from poller.runtime.address import ListenAddress
from poller.sutro.simulator.script import JobScript
from tests.support.api_server import House, a_house

pytestmark = pytest.mark.anyio

RUNS = JobScript(job_id="job-1", run_seconds=1e5)


@pytest.mark.parametrize(
    ("text", "url", "is_local"),
    [
        ("127.0.0.1:8377", "http://127.0.0.1:8377", True),
        ("127.8.8.8:1", "http://127.8.8.8:1", True),
        ("LocalHost:0", "http://localhost:0", True),
        ("[::1]:80", "http://[::1]:80", True),
        ("0.0.0.0:80", "http://0.0.0.0:80", False),
        ("[::]:80", "http://[::]:80", False),
        ("box.example:80", "http://box.example:80", False),
        ("unix:/run/x.sock", "unix:/run/x.sock", True),
        ("off", "off", False),
        ("OFF", "off", False),
    ],
)
def test_addresses(text: str, url: str, is_local: bool):
    """An address is a host with a port, a socket, or none; loopback and sockets are local."""
    address = ListenAddress.parse(text)

    assert (str(address), address.is_local) == (url, is_local)


@pytest.mark.parametrize(
    "text",
    [
        *("", "on", "8377", ":8377", "host", "host:", "host:x", "host:65536", "host:-1", "a b:1"),
        *("http://127.0.0.1:80", "unix:", "unix:x.sock", "unix:/" + "x" * 107, "h:٣"),
    ],
)
def test_what_is_no_address(text: str):
    """Anything else is refused with the rule."""
    with pytest.raises(ValueError, match=r"off, unix:/path"):
        ListenAddress.parse(text)


@asynccontextmanager
async def through(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Talk through a socket."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        yield session


async def test_a_unix_socket(tmp_path: Path):
    """Through a socket, which only its user and group may use, all is served by any name."""
    path = tmp_path / "api.sock"
    async with a_house(tmp_path, RUNS, POLLER_LISTEN=f"unix:{path}"):
        mode = stat.S_IMODE(path.stat().st_mode)
        async with through(path) as session, session.get("http://any.name/v1/status") as answer:
            status = answer.status
    is_left = path.exists()

    assert (mode, status, is_left) == (0o660, 200, False)


async def test_a_socket_that_was_left_behind(tmp_path: Path):
    """The socket of a process that was killed is no obstacle; one that is in use is."""
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with a_house(tmp_path, RUNS, POLLER_LISTEN=f"unix:{path}"):
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ExceptionGroup) as caught:
            async with a_house(other, RUNS, POLLER_LISTEN=f"unix:{path}"):
                pass
        is_there = path.is_socket()

    assert caught.group_contains(AddressInUse, match="the address is already in use", depth=None)
    assert is_there


async def test_a_path_that_is_no_socket(tmp_path: Path):
    """A file in the place of the socket is refused, and left as it is."""
    path = tmp_path / "api.sock"
    path.write_text("precious")

    with pytest.raises(ExceptionGroup) as caught:
        async with a_house(tmp_path, RUNS, POLLER_LISTEN=f"unix:{path}"):
            pass

    assert caught.group_contains(ConfigError, match="POLLER_LISTEN: cannot listen", depth=None)
    assert path.read_text() == "precious"


async def test_an_address_that_nobody_has(tmp_path: Path):
    """An address of another machine is refused with the system's words."""
    with pytest.raises(ExceptionGroup) as caught:
        async with a_house(tmp_path, RUNS, POLLER_LISTEN="192.0.2.1:80"):
            pass

    told = r"cannot listen on http://192\.0\.2\.1:80: Cannot assign requested address$"
    assert caught.group_contains(ConfigError, match=told, depth=None)
    assert not caught.group_contains(AddressInUse, depth=None)


async def talk(house: House, text: bytes = b"") -> socket.socket:
    """Connect, and say something."""
    host, port = house.url.removeprefix("http://").split(":")
    talker = socket.create_connection((host, int(port)))
    talker.setblocking(False)
    talker.send(text) if text else None
    await anyio.lowlevel.checkpoint()
    return talker


async def is_closed(talker: socket.socket, within: float = 30.0) -> bool:
    """Tell whether a connection is closed soon."""
    with anyio.move_on_after(within):
        while True:
            await anyio.wait_readable(talker)
            try:
                if not talker.recv(65_536):
                    return True
            except ConnectionResetError:
                return True
    return False


@pytest.mark.parametrize("text", [b"", b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: "], ids=str)
async def test_server_closes_connections_without_a_complete_header(
    tmp_path: Path, monkeypatch, text: bytes
):
    """Whoever does not say in time what he wants is let go of, drips and keep-alives too."""
    monkeypatch.setattr(serving, "IDLE_TIMEOUT", 0.3)
    async with a_house(tmp_path, RUNS) as house:
        with await talk(house, text) as silent, await talk(house) as dripping:
            with anyio.move_on_after(0.25):
                for byte in b"GET /livez":
                    dripping.send(bytes([byte]))
                    await anyio.sleep(0.05)
            closed = await is_closed(silent), await is_closed(dripping)

    assert closed == (True, True)


async def test_a_body_that_does_not_come(house: House, monkeypatch):
    """A body that is announced and does not come is a problem soon."""
    monkeypatch.setattr("poller.api.parameters.BODY_TIMEOUT", 0.2)

    async def drip() -> AsyncIterator[bytes]:
        yield b'{"job_ids": '
        await anyio.sleep(5.0)

    headers = {"Content-Type": "application/json"}
    answer = await house.ask("POST", "/v1/jobs", data=drip(), headers=headers)

    assert (answer.status, answer.problem) == (408, "request-timeout")


async def test_many_who_say_nothing(house: House, monkeypatch):
    """Of too many connections the one that has been silent longest makes room."""
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 10)
    silent = [await talk(house) for _ in range(9)]  # one is the house's own
    await house.get("/livez")
    late = [await talk(house) for _ in range(4)]
    await anyio.sleep(0.1)
    answers = [(await house.get("/livez")).status for _ in range(3)]
    closed = [await is_closed(it, within=0.2) for it in (*silent, *late)]
    for it in (*silent, *late):
        it.close()

    assert answers == [200] * 3
    assert closed[:3] == [True] * 3
    assert not any(closed[5:])


def test_without_a_door_nothing_of_it_is_imported(tmp_path: Path):
    """A daemon without a door has neither server nor metrics in its memory."""
    code = """
import sys, anyio, os, signal
from poller import config
from poller.app import App
async def main():
    app = App(config.load(dict(os.environ)))
    async with anyio.create_task_group() as group:
        group.start_soon(app.serve)
        while not app.status.health.is_ready:
            await anyio.sleep(0.01)
        app.stop()
anyio.run(main)
served = {"aiohttp.web", "prometheus_client", "poller.api.server"}
print(sorted(name for name in sys.modules if name in served))
"""
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SUTRO_API_KEY": "sk_x",
        "SUTRO_API_URL": "http://127.0.0.1:9",
        "POLLER_JOB_IDS": "job-1",
        "POLLER_STORE": str(tmp_path / "state.db"),
    }
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=given | {"POLLER_LISTEN": listen},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.splitlines()[-1]
        for listen in ("off", "127.0.0.1:0")
    ]

    assert told == ["[]", "['aiohttp.web', 'poller.api.server']"]


async def test_no_room_at_all(house: House, monkeypatch):
    """While all connections are in use a further one is closed, and those go on."""
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    url = f"{house.url}/v1/events/stream"
    async with house.session.get(url) as one, house.session.get(url) as other:
        with await talk(house, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as late:
            assert await is_closed(late)
        open_still = not one.content.at_eof() and not other.content.at_eof()

    assert open_still
