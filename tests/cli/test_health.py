"""The `health` command, with and without a daemon."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from threading import Thread

import pytest

from poller.runtime.address import ADDRESS_RULE
from poller.runtime.instance_key import ensure_key
from tests.cli.conftest import RunCli
from tests.support.ports import CLOSED_URL

READY = json.dumps({"reasons": []})
WHY = ["the store is not open yet", "the loop 'watcher' has stalled"]
NOT_READY = json.dumps({"reasons": WHY})


class UnixHTTPServer(UnixStreamServer):
    """HTTP on a Unix socket."""

    def get_request(self):
        """Return a connection whose peer has a name, as the HTTP handler requires."""
        return self.socket.accept()[0], ("peer", 0)


@contextmanager
def http_server(status: int, body: str, at: object = ("127.0.0.1", 0)) -> Iterator[str]:
    """Answer one request, and return the address."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with (UnixHTTPServer if isinstance(at, str) else HTTPServer)(at, Door) as server:
        server.timeout = 120.0
        answering = Thread(target=server.handle_request)
        answering.start()
        yield f"unix:{at}" if isinstance(at, str) else f"127.0.0.1:{server.server_address[1]}"
        answering.join()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, READY, (0, "ready\n")),
        (503, NOT_READY, (1, f"not ready: {'; '.join(WHY)}\n")),
        (503, READY, (1, "not ready: no reason given\n")),
        (503, json.dumps({"reasons": ["\x1b[2Jit\n stops"]}), (1, "not ready: [2Jit stops\n")),
    ],
)
def test_health_prints_the_status_of_the_daemon(
    run_cli: RunCli, status: int, body: str, expected: tuple[int, str]
):
    """`health` prints one line; the HTTP status makes the exit code."""
    with http_server(status, body) as address:
        result = run_cli("health", POLLER_LISTEN=address)

    assert (result.code, result.out, result.err) == (*expected, "")


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"reasons": "none"}', "[" * 60_000])
def test_health_rejects_non_poller_response(run_cli: RunCli, body: str):
    """Another server at that port is not healthy."""
    with http_server(200, body) as address:
        result = run_cli("health", POLLER_LISTEN=address)

    assert (result.code, result.out) == (1, f"the server at http://{address} is not sutro-poller\n")


def test_health_rejects_the_daemon_of_another_database(run_cli: RunCli, path: Path):
    """A daemon that is ready but does not prove the key of the database is another one."""
    ensure_key(path)
    with http_server(200, READY) as address:
        result = run_cli("health", POLLER_LISTEN=address)

    message = f"not ready: the daemon at http://{address} has another database than {path}\n"
    assert (result.code, result.out) == (1, message)


def test_health_does_not_connect_to_the_default_address_without_a_key(run_cli: RunCli, path: Path):
    """Before a daemon has started with the database, whoever has the default port is not it."""
    result = run_cli("health")

    assert result.code == 1
    assert result.out.startswith(f"not ready: {path}.key cannot be read")


def test_health_of_a_store_in_memory_needs_no_key(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch):
    """A store in memory has no key: the daemon at the default address is enough."""
    with http_server(200, READY) as address:
        monkeypatch.setattr("poller.cli.health.DEFAULT_ADDRESS", address)
        result = run_cli("health", POLLER_STORE="memory:")

    assert (result.code, result.out) == (0, "ready\n")


def test_health_uses_the_unix_socket(run_cli: RunCli, tmp_path: Path):
    """`health` uses the Unix socket on which the daemon listens."""
    with http_server(200, READY, str(tmp_path / "door")) as address:
        result = run_cli("health", POLLER_LISTEN=address)

    assert (result.code, result.out) == (0, "ready\n")


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "[::]"])
def test_health_requests_a_wildcard_address_on_loopback(
    run_cli: RunCli, everywhere: str, monkeypatch: pytest.MonkeyPatch
):
    """A wildcard address is requested on loopback."""
    addresses: list[tuple[str, int]] = []

    def create_connection(address: tuple[str, int], *_: object, **__: object) -> None:
        addresses.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    result = run_cli("health", POLLER_LISTEN=f"{everywhere}:8377")

    assert addresses == [("127.0.0.1", 8377)]
    assert (result.code, result.out) == (
        1,
        f"cannot connect to http://{everywhere}:8377: Connection refused\n",
    )


def test_health_reports_a_closed_port_or_socket(run_cli: RunCli, tmp_path: Path):
    """A closed port and a missing socket are not healthy."""
    at_port = run_cli("health", POLLER_LISTEN=CLOSED_URL.removeprefix("http://"))
    at_path = run_cli("health", POLLER_LISTEN=f"unix:{tmp_path}/door")

    assert (at_port.code, at_path.code) == (1, 1)
    assert at_port.out == f"cannot connect to {CLOSED_URL}: Connection refused\n"
    assert at_path.out == f"cannot connect to unix:{tmp_path}/door: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("off", "is off, but a health check needs the HTTP API"), ("8377", ADDRESS_RULE)],
)
def test_health_without_http_api_is_a_configuration_error(run_cli: RunCli, text: str, problem: str):
    """Without an HTTP API `health` is a configuration error."""
    result = run_cli("health", POLLER_LISTEN=text)

    assert (result.code, result.out) == (78, "")
    assert result.err == f"sutro-poller: POLLER_LISTEN: {problem}\n"


def test_health_reads_the_env_file(run_cli: RunCli, tmp_path: Path):
    """`health` reads the address from the env file."""
    path = tmp_path / "poller.env"
    with http_server(200, READY) as address:
        path.write_text(f"POLLER_LISTEN={address}\n", "utf-8")
        result = run_cli("health", "--env-file", str(path))

    assert result.code == 0
