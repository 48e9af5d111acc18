"""What `health` makes of the answers of a door, and of none."""

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
from tests.cli.conftest import Ask

READY = json.dumps({"reasons": []})
WHY = ["the store is not open yet", "the loop 'watcher' has stalled"]
NOT_READY = json.dumps({"reasons": WHY})


class UnixHTTPServer(UnixStreamServer):
    """HTTP on a Unix socket."""

    def get_request(self):
        """Give a connection whose peer has a name, as the handler of HTTP wants it."""
        return self.socket.accept()[0], ("peer", 0)


@contextmanager
def a_door(status: int, body: str, at: object = ("127.0.0.1", 0)) -> Iterator[str]:
    """Answer one request, and give the address to ask at."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with (UnixHTTPServer if isinstance(at, str) else HTTPServer)(at, Door) as server:
        server.timeout = 5.0
        answering = Thread(target=server.handle_request)
        answering.start()
        yield f"unix:{at}" if isinstance(at, str) else f"127.0.0.1:{server.server_address[1]}"
        answering.join()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, READY, (0, "ready\n")),
        (503, NOT_READY, (1, f"not ready: {'; '.join(WHY)}\n")),
        (503, READY, (1, "not ready: no reason given\n")),
    ],
)
def test_it_says_what_the_daemon_says(ask: Ask, status: int, body: str, told: tuple[int, str]):
    """One line and an exit code; what counts is the status."""
    with a_door(status, body) as address:
        found = ask("health", POLLER_LISTEN=address)

    assert (found.code, found.out, found.err) == (*told, "")


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"reasons": "none"}', "[" * 60_000])
def test_a_stranger_is_not_the_daemon(ask: Ask, body: str):
    """Whatever else answers at that port makes nobody healthy."""
    with a_door(200, body) as address:
        found = ask("health", POLLER_LISTEN=address)

    assert (found.code, found.out) == (1, f"the server at http://{address} is not sutro-poller\n")


def test_it_asks_over_a_unix_socket(ask: Ask, tmp_path: Path):
    """Where the door is a Unix socket, it is asked there."""
    with a_door(200, READY, str(tmp_path / "door")) as address:
        found = ask("health", POLLER_LISTEN=address)

    assert (found.code, found.out) == (0, "ready\n")


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "[::]"])
def test_what_listens_everywhere_is_asked_here(
    ask: Ask, everywhere: str, monkeypatch: pytest.MonkeyPatch
):
    """An address that stands for all of them is asked on loopback."""
    asked: list[tuple[str, int]] = []

    def create_connection(address: tuple[str, int], *_: object, **__: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    found = ask("health", POLLER_LISTEN=f"{everywhere}:8377")

    assert asked == [("127.0.0.1" if everywhere == "0.0.0.0" else "::1", 8377)]
    assert (found.code, found.out) == (
        1,
        f"cannot connect to http://{everywhere}:8377: Connection refused\n",
    )


def test_nobody_is_there(ask: Ask, tmp_path: Path):
    """A closed port and a socket that is not there are not healthy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    at_port = ask("health", POLLER_LISTEN=f"127.0.0.1:{port}")
    at_path = ask("health", POLLER_LISTEN=f"unix:{tmp_path}/door")

    assert (at_port.code, at_path.code) == (1, 1)
    assert at_port.out == f"cannot connect to http://127.0.0.1:{port}: Connection refused\n"
    assert at_path.out == f"cannot connect to unix:{tmp_path}/door: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("off", "is off: a health check needs the HTTP API"), ("8377", ADDRESS_RULE)],
)
def test_there_is_nowhere_to_ask(ask: Ask, text: str, problem: str):
    """Without a door nobody can be asked; that is a matter of the configuration."""
    found = ask("health", POLLER_LISTEN=text)

    assert (found.code, found.out) == (78, "")
    assert found.err == f"sutro-poller: POLLER_LISTEN: {problem}\n"


def test_the_env_file_counts(ask: Ask, tmp_path: Path):
    """The address may stand where the daemon has it from."""
    path = tmp_path / "poller.env"
    with a_door(200, READY) as address:
        path.write_text(f"POLLER_LISTEN={address}\n", "utf-8")
        found = ask("health", "--env-file", str(path))

    assert found.code == 0
