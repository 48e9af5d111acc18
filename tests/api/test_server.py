"""The listener of the HTTP API: addresses, sockets and limits of connections."""

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

from poller.api import context, server
from poller.core.errors import AddressInUse, ConfigError, WrongEndpoint
from poller.runtime.address import ListenAddress
from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, live_daemon, unread_bytes
from tests.support.client_polls import client as sutro_client
from tests.support.waiting import until

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
        (":80", "http://[::]:80", False),
        ("*:80", "http://[::]:80", False),
        ("box.example:80", "http://box.example:80", False),
        ("unix:/run/x.sock", "unix:/run/x.sock", True),
        ("off", "off", False),
        ("OFF", "off", False),
    ],
)
def test_address_parsing(text: str, url: str, is_local: bool):
    """An address is a host and a port, a socket, or off; loopback and sockets are local."""
    address = ListenAddress.parse(text)

    assert (str(address), address.is_local) == (url, is_local)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "on",
            "8377",
            ":",
            "**:80",
            "host",
            "host:",
            "host:x",
            "host:65536",
            "host:-1",
            "a b:1",
        ),
        *("http://127.0.0.1:80", "unix:", "unix:x.sock", "unix:/" + "x" * 107, "h:٣"),
    ],
)
def test_address_parsing_rejects_other_text(text: str):
    """Any other text is rejected with the rule."""
    with pytest.raises(ValueError, match=r"off, unix:/path"):
        ListenAddress.parse(text)


@asynccontextmanager
async def socket_session(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session that connects to a unix socket."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        yield session


async def test_server_on_a_unix_socket(tmp_path: Path):
    """On a socket, which only its user and group can open, all is served for any host name."""
    path = tmp_path / "api.sock"
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN=f"unix:{path}"):
        mode = stat.S_IMODE(path.stat().st_mode)
        async with (
            socket_session(path) as session,
            session.get("http://any.name/v1/status") as response,
        ):
            status = response.status
    is_left = path.exists()

    assert (mode, status, is_left) == (0o660, 200, False)


async def test_server_replaces_a_stale_socket(tmp_path: Path):
    """The socket of a killed process is replaced; one that is in use is an error."""
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN=f"unix:{path}"):
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ExceptionGroup) as caught:
            async with live_daemon(other, RUNS, POLLER_LISTEN=f"unix:{path}"):
                pass
        is_there = path.is_socket()

    assert caught.group_contains(AddressInUse, match="the address is in use, perhaps", depth=None)
    assert is_there


async def test_server_keeps_a_file_at_the_path_of_the_socket(tmp_path: Path):
    """A file at the path of the socket is an error, and is kept."""
    path = tmp_path / "api.sock"
    path.write_text("precious")

    with pytest.raises(ExceptionGroup) as caught:
        async with live_daemon(tmp_path, RUNS, POLLER_LISTEN=f"unix:{path}"):
            pass

    assert caught.group_contains(ConfigError, match="POLLER_LISTEN: cannot listen", depth=None)
    assert path.read_text() == "precious"


async def test_server_rejects_an_address_of_another_machine(tmp_path: Path):
    """An address of another machine is an error with the message of the system and advice."""
    with pytest.raises(ExceptionGroup) as caught:
        async with live_daemon(tmp_path, RUNS, POLLER_LISTEN="192.0.2.1:80"):
            pass

    message = r"cannot listen on http://192\.0\.2\.1:80: Cannot assign requested address; use"
    assert caught.group_contains(ConfigError, match=message, depth=None)
    assert not caught.group_contains(AddressInUse, depth=None)


@pytest.mark.parametrize("has_ipv6", [True, False])
async def test_server_on_all_addresses_serves_both_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_ipv6: bool
):
    """A wildcard address serves IPv4 and IPv6, and IPv4 alone on a machine without IPv6."""
    if not has_ipv6:
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN="[::]:0") as daemon:
        port = int(daemon.url.rpartition(":")[2])
        statuses = [
            await status_of(f"http://{host}:{port}/livez")
            for host in ("127.0.0.1", "[::1]")[: 1 + has_ipv6]
        ]

    assert statuses == [200] * (1 + has_ipv6)


async def status_of(url: str) -> int:
    """Return the status of a GET request."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status


async def connect(daemon: LiveDaemon, text: bytes = b"") -> socket.socket:
    """Connect and send some bytes."""
    host, port = daemon.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.setblocking(False)
    client.send(text) if text else None
    await anyio.lowlevel.checkpoint()
    return client


async def is_closed(client: socket.socket, within: float = 30.0) -> bool:
    """Return whether the server closes a connection soon."""
    with anyio.move_on_after(within):
        while True:
            await anyio.wait_readable(client)
            try:
                if not client.recv(65_536):
                    return True
            except ConnectionResetError:
                return True
    return False


def open_connections(daemon: LiveDaemon) -> list[object]:
    """Return the connections of a server."""
    limiter: server.ConnectionLimiter = daemon.app._api.limit_unread.__self__
    return list(limiter._open_connections())


@pytest.mark.parametrize("text", [b"", b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: "], ids=str)
async def test_server_closes_connections_without_a_complete_header(
    tmp_path: Path, monkeypatch, text: bytes
):
    """A connection without a complete header is closed soon, also if bytes drip in."""
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 0.3)
    async with live_daemon(tmp_path, RUNS) as daemon:
        with await connect(daemon, text) as silent, await connect(daemon) as dripping:
            with anyio.move_on_after(0.25):
                for byte in b"GET /livez":
                    dripping.send(bytes([byte]))
                    await anyio.sleep(0.05)
            closed = await is_closed(silent), await is_closed(dripping)

    assert closed == (True, True)


async def test_server_rejects_a_body_that_does_not_arrive(daemon: LiveDaemon, monkeypatch):
    """A body that does not arrive in time is a problem."""
    monkeypatch.setattr("poller.api.endpoint.BODY_TIMEOUT", 0.2)

    async def drip() -> AsyncIterator[bytes]:
        yield b'{"job_ids": '
        await anyio.sleep(5.0)

    headers = {"Content-Type": "application/json"}
    response = await daemon.request("POST", "/v1/jobs", data=drip(), headers=headers)

    assert (response.status, response.problem) == (408, "request-timeout")


async def test_server_closes_the_longest_idle_connection(daemon: LiveDaemon, monkeypatch):
    """Above the limit, the connection that was idle longest is closed for a new one."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 10)
    silent = [await connect(daemon) for _ in range(9)]  # one is that of the test session
    await daemon.get("/livez")
    late = [await connect(daemon) for _ in range(4)]
    await anyio.sleep(0.1)
    responses = [(await daemon.get("/livez")).status for _ in range(3)]
    closed = [await is_closed(client, within=0.2) for client in (*silent, *late)]
    for client in (*silent, *late):
        client.close()

    assert responses == [200] * 3
    assert closed[:3] == [True] * 3
    assert not any(closed[5:])


def test_server_is_not_imported_when_the_api_is_off(tmp_path: Path):
    """A daemon without the API has no server in memory; with it, nothing that renders pages."""
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
served = {"aiohttp.web", "prometheus_client", "poller.api.server", "poller.api.page.views"}
print(sorted(name for name in sys.modules if name in served))
"""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SUTRO_API_KEY": "sk_x",
        "SUTRO_API_URL": "http://127.0.0.1:9",
        "POLLER_JOB_IDS": "job-1",
        "POLLER_STORE": str(tmp_path / "state.db"),
    }
    imported = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"POLLER_LISTEN": listen},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout.splitlines()[-1]
        for listen in ("off", "127.0.0.1:0")
    ]

    assert imported == ["[]", "['aiohttp.web', 'poller.api.server']"]


PROBES = ("/livez", "/readyz", "/metrics")


async def test_server_keeps_places_for_probes(daemon: LiveDaemon, monkeypatch):
    """While as many requests as allowed are handled, others are rejected, but no probe is."""
    monkeypatch.setattr(context, "MAX_BUSY_REQUESTS", 2)
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    url = f"{daemon.url}/v1/events/stream"
    async with daemon.session.get(url) as one, daemon.session.get(url) as other:
        rejected = await daemon.get("/v1/status")
        probes = [(await daemon.get(path)).status for path in PROBES]
        open_still = not one.content.at_eof() and not other.content.at_eof()

    assert (rejected.status, rejected.problem) == (503, "overloaded")
    assert probes == [200] * 3
    assert open_still


async def test_server_serves_others_beside_bodies_that_do_not_arrive(
    daemon: LiveDaemon, monkeypatch
):
    """Clients that send the head of a request and no body keep no other out."""
    monkeypatch.setattr(context, "MAX_BUSY_REQUESTS", 5)
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 10)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    clients = []
    for count in range(1, 15):
        clients.append(await connect(daemon, head + b"Content-Length: 100\r\n\r\n{"))
        await until(lambda count=count: len(open_connections(daemon)) == min(count + 1, 10))
    statuses = [(await daemon.get(path)).status for path in (*PROBES, "/v1/jobs")]
    for client in clients:
        client.close()

    assert statuses == [200] * 4


async def test_server_closes_connections_that_leave_many_bytes_unread(
    daemon: LiveDaemon, monkeypatch
):
    """Where clients leave too many bytes unread, the one that leaves the most is disconnected."""
    monkeypatch.setattr(server, "MAX_UNREAD_BYTES", 100_000)
    url = f"{daemon.url}/v1/events/stream"
    async with daemon.session.get(url) as reading:
        monkeypatch.setattr("poller.api.stream.RECONNECT_DELAY", b":" + b"x" * 20_000_000)
        async with daemon.session.get(url) as response:
            await until(lambda: unread_bytes(daemon) > 100_000)
            listed = await daemon.get("/v1/events")
            left = unread_bytes(daemon)
            with pytest.raises(aiohttp.ClientError):
                await response.read()
            is_open = not reading.content.at_eof()

    assert (listed.status, left, is_open) == (200, 0, True)


async def test_server_runs_without_the_timeout_of_linux(tmp_path: Path, monkeypatch):
    """A system without TCP_USER_TIMEOUT serves the API too."""
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    async with live_daemon(tmp_path, RUNS) as daemon:
        response = await daemon.get("/livez")

    assert response.status == 200


@pytest.mark.parametrize(
    "rest",
    [
        b'Content-Length: 500\r\n\r\n{"job_ids":',
        b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"job\r\n',
    ],
    ids=["length", "chunked"],
)
async def test_server_does_not_blame_itself_for_a_client_that_leaves(tmp_path: Path, rest: bytes):
    """A client that goes away while it sends is no error of ours."""
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    async with live_daemon(tmp_path, RUNS) as daemon:
        with await connect(daemon, head + rest):
            await until(lambda: open_connections(daemon))
        await until(lambda: not open_connections(daemon))
        failed = [line for line in daemon.log if line["event"] == "api.request_failed"]

    assert failed == []


async def test_server_rejects_a_body_that_is_not_encoded_as_declared(tmp_path: Path):
    """A body that cannot be decoded is the client's error."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with live_daemon(tmp_path, RUNS) as daemon:
        # The session would compress it.
        response = await daemon.post("/v1/jobs", data=aiter_of(b"abcde"), headers=headers)

    assert (response.status, response.problem) == (400, "invalid")


async def aiter_of(chunk: bytes) -> AsyncIterator[bytes]:
    """Yield one chunk."""
    yield chunk


async def test_server_is_not_taken_for_the_sutro_api(daemon: LiveDaemon):
    """A daemon whose URL is that of a daemon says so, though this one shows the same job."""
    await daemon.wait_for_job("job-1", "RUNNING")

    async with sutro_client(daemon.url) as api:
        with pytest.raises(WrongEndpoint, match="the HTTP API of sutro-poller"):
            await api.get_job("job-1")
