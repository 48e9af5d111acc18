"""The commands that use the HTTP API of a running daemon."""

import json
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import anyio
import pytest

from poller.cli import client
from poller.cli.connection import Readiness
from poller.core.issues import REMEDIES, Issue
from poller.runtime.address import ListenAddress
from poller.runtime.instance_key import CHALLENGE, PROOF, ensure_key
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import LiveDaemon, live_daemon, settings
from tests.support.secret_canaries import TOKEN, found_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Ended:
    """The output and the exit code of a command."""

    code: int
    out: str
    err: str


async def run_cli(listen: str, *argv: str, **changes: str) -> Ended:
    """Run `sutro-poller` with the settings of a daemon at an address."""
    defaults = settings(Path("/nowhere"), "http://127.0.0.1:9", "http://127.0.0.1:9")
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = await anyio.run_process(
        [sys.executable, "-m", "poller", *argv],
        env=known | defaults | {"POLLER_LISTEN": listen} | changes,
        check=False,
    )
    assert not found_in(done.stdout + done.stderr)
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def address_of(daemon: LiveDaemon) -> str:
    """Return the value of POLLER_LISTEN for a daemon."""
    return daemon.url.removeprefix("http://")


async def test_cli_adds_lists_and_removes_jobs(daemon: LiveDaemon):
    """An added job is watched, a removed one is not; the list has the sources."""
    at = address_of(daemon)
    added = await run_cli(at, "jobs", "add", "job-1", "job-3")
    listed = await run_cli(at, "jobs", "ls", "--watched")
    removed = await run_cli(at, "jobs", "rm", "job-3")
    as_json = await run_cli(at, "jobs", "ls", "--watched", "-o", "json")

    assert (added.code, removed.code) == (0, 0)
    assert added.out.splitlines()[1:] == [
        "job-1   already watched (now persistent)",
        "job-3   now watched; not found yet (404): check the ID",
    ]
    assert [line.split()[0] for line in listed.out.splitlines()[1:]][2:] == ["job-3"]
    assert listed.out.splitlines()[3].split()[1:] == ["not", "found", "yet", "-", "api"]
    assert {job["job_id"] for job in json.loads(as_json.out)} == {"job-1", "job-2"}


async def test_cli_lists_named_jobs_that_are_not_found(daemon: LiveDaemon, tmp_path: Path):
    """`jobs ls` says of an added job that the API does not know it; `status` needs action."""
    at, store = address_of(daemon), {"POLLER_STORE": str(tmp_path / "state.db")}
    healthy = await run_cli(at, "status", **store)
    await run_cli(at, "jobs", "add", "job-3")
    listed = await run_cli(at, "jobs", "ls", **store)
    elsewhere = await run_cli("127.0.0.1:9", "jobs", "ls", **store)
    status = await run_cli(at, "status", **store)

    assert (healthy.code, status.code) == (0, 1)
    assert "No action needed." in healthy.out
    assert "last response" in healthy.out
    assert listed.out.splitlines()[-1].split()[:4] == ["job-3", "not", "found", "yet"]
    assert elsewhere.out.splitlines()[-1].split()[:2] == ["job-3", "UNKNOWN"]
    assert REMEDIES[Issue.JOB_NOT_FOUND] in status.out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"SUTRO_API_URL": "http://127.0.0.1:9"}, "The API has never responded (127.0.0.1"),
        ({"SUTRO_API_URL": "HOOK"}, REMEDIES[Issue.WRONG_ENDPOINT]),
    ],
    ids=["nothing listens", "another server"],
)
async def test_status_reports_what_the_daemon_knows(tmp_path: Path, changes, expected: str):
    """A URL at which nothing or another server listens needs action: the daemon knows it."""
    async with live_daemon(tmp_path, RUNS, **changes) as daemon:
        await until(lambda: daemon.app.status.rate_limiter.reachability.last_error)
        store = {"POLLER_STORE": str(tmp_path / "state.db")}
        ended = await run_cli(address_of(daemon), "status", **store)

    assert ended.code == 1
    assert expected in ended.out
    assert "no response yet" in ended.out


@pytest.mark.parametrize("is_off", [False, True])
async def test_status_reports_a_sink_with_an_old_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_off: bool
):
    """A delivery that waits for over an hour needs action: in CLI, API and metrics, with why."""
    monkeypatch.setattr("poller.status.BACKLOG_MAX_AGE", 0.0)
    path = tmp_path / "state.db"
    async with live_daemon(tmp_path, RUNS, ENDS, status=503, POLLER_JOB_IDS="job-2") as daemon:
        await until(lambda: [line for line in daemon.log if line["event"] == "delivery.failed"])
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE deliveries SET created_at = created_at - 3600")
        at = "off" if is_off else address_of(daemon)
        ended = await run_cli(at, "status", POLLER_STORE=str(path))
        status = (await daemon.get("/v1/status")).body
        sinks = (await daemon.get("/v1/sinks")).body["sinks"]
        scraped = (await daemon.get("/metrics")).text

    (issue,) = status["issues"]
    assert issue["name"] == "delivery_delayed"
    assert "webhook has 1 undelivered event since " in issue["remedy"]
    assert "(the receiver returned 503): fix its receiver" in issue["remedy"]
    assert (ended.code, ended.out.count(issue["remedy"])) == (1, 1)
    assert 'sutro_poller_issue{issue="delivery_delayed"} 1.0' in scraped
    failing = {sink["failing_since"] for sink in (*status["sinks"], *sinks)}
    assert len(failing - {None}) == 1


async def test_status_says_when_the_daemon_cannot_be_read(daemon: LiveDaemon, tmp_path: Path):
    """Without the daemon's own report the database is shown, with the reason.

    Action is needed unless the HTTP API is off by choice.
    """
    store = {"POLLER_STORE": str(tmp_path / "state.db")}
    unreachable = await run_cli("127.0.0.1:9", "status", **store)
    off = await run_cli("off", "status", **store)
    (tmp_path / "other").mkdir()
    async with live_daemon(tmp_path / "other", RUNS) as other:
        another = await run_cli(address_of(other), "status", **store)

    assert (unreachable.code, off.code, another.code) == (1, 0, 1)
    assert "its HTTP API cannot be read: cannot connect to the daemon" in unreachable.out
    assert "API       not known: POLLER_LISTEN is off" in off.out
    assert "has another database: check POLLER_LISTEN" in another.out


async def test_cli_adds_and_lists_many_jobs(daemon: LiveDaemon):
    """More jobs than fit in one request or page are all added and listed."""
    ids = [f"new-{n}" for n in range(1_050)]
    added = await run_cli(address_of(daemon), "jobs", "add", *ids, "-o", "json")
    listed = await run_cli(address_of(daemon), "jobs", "ls", "--watched", "-o", "json")

    assert len(json.loads(added.out)) == 1_050
    assert {job["job_id"] for job in json.loads(listed.out)} == {"job-1", "job-2", *ids}


async def test_cli_reports_jobs_that_cannot_be_removed(daemon: LiveDaemon):
    """Each job that cannot be removed is reported in a line, with exit code 1."""
    ended = await run_cli(address_of(daemon), "jobs", "rm", "job-1", "job-9")

    assert ended.code == 1
    assert ended.out.splitlines()[1:] == [
        "job-1   watched because of POLLER_JOB_IDS",
        "job-9   no job with this ID is watched",
    ]


async def test_cli_uses_the_socket_and_the_token(tmp_path: Path):
    """The commands find the socket and the token in the settings."""
    at = f"unix:{tmp_path}/api.sock"
    async with live_daemon(
        tmp_path, RUNS, ENDS, POLLER_LISTEN=at, POLLER_LISTEN_TOKEN=TOKEN
    ) as daemon:
        rejected = await run_cli(at, "jobs", "add", "job-2")
        added = await run_cli(at, "jobs", "add", "job-2", POLLER_LISTEN_TOKEN=TOKEN)
        await until(lambda: daemon.receiver.ends)

    assert (rejected.code, added.code) == (77, 0)
    assert "set POLLER_LISTEN_TOKEN to the daemon's token" in rejected.err


async def test_cli_uses_the_daemon_of_its_database(daemon: LiveDaemon, tmp_path: Path):
    """A command adds a job to the daemon that has proved its key, and to no other daemon."""
    store = {"POLLER_STORE": str(tmp_path / "state.db")}
    own = await run_cli(address_of(daemon), "jobs", "add", "job-2", **store)
    (tmp_path / "other").mkdir()
    async with live_daemon(tmp_path / "other", RUNS) as other:
        another = await run_cli(address_of(other), "jobs", "add", "job-3", **store)
        watched = (await other.get("/v1/jobs?watched=true")).body["jobs"]

    assert (own.code, another.code) == (0, 69)
    assert "has another database: check POLLER_LISTEN and POLLER_STORE" in another.err
    assert [job["job_id"] for job in watched] == ["job-1"]


async def test_cli_sends_no_token_to_a_stranger(daemon: LiveDaemon, tmp_path: Path):
    """A program at the daemon's address gets no token, though it repeats what the daemon sent."""
    headers = {CHALLENGE: "of the stranger"}
    seen = (await daemon.get("/readyz", headers=headers)).headers[PROOF]
    received: list[bytes] = []
    with stranger(seen, received) as at:
        ended = await run_cli(
            at,
            *("jobs", "add", "job-3"),
            POLLER_STORE=str(tmp_path / "state.db"),
            POLLER_LISTEN_TOKEN=TOKEN,
        )

    assert (ended.code, len(received)) == (69, 1)
    assert received[0].startswith(b"GET /readyz ")
    assert TOKEN.encode() not in received[0]


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (503, b'{"ready": false, "reasons": ["it is stopping"]}', 75, "it is stopping"),
        (200, b"<html>", 69, "is not sutro-poller"),
    ],
    ids=["not ready", "other server"],
)
async def test_cli_reports_a_server_without_a_proof(
    tmp_path: Path, status: int, body: bytes, code: int, message: str
):
    """A daemon that starts or stops proves nothing yet: it is shown why, and gets no request."""
    ensure_key(tmp_path / "state.db")
    received: list[bytes] = []
    with stranger("", received, status, body) as at:
        ended = await run_cli(at, "jobs", "rm", "job-1", POLLER_STORE=str(tmp_path / "state.db"))

    assert (ended.code, message in ended.err, len(received)) == (code, True, 1)


async def test_cli_reports_a_daemon_that_closes_the_connection(monkeypatch: pytest.MonkeyPatch):
    """A daemon that has proved its key, and stops then, does not seem to have another database."""
    monkeypatch.setattr(client, "probe", lambda *_: Readiness(True, [], True))
    http = HTTPConnection("127.0.0.1", 9)
    daemon = client.DaemonClient(address=ListenAddress(host="127.0.0.1", port=9), key=b"key")

    with pytest.raises(client.DaemonError, match="closed the connection: try again"):
        daemon._check_daemon(http)


@contextmanager
def stranger(
    seen: str,
    received: list[bytes],
    status: int = 200,
    body: bytes = b'{"ready": true, "reasons": []}',
) -> Iterator[str]:
    """Serve one connection: record what comes, and respond, by default as a ready daemon."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{PROOF}: {seen}\r\n\r\n"

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            while text := client.recv(65_536):
                received.append(text)
                client.sendall(head.encode() + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


async def test_cli_does_not_connect_to_the_default_address_without_a_key(tmp_path: Path):
    """While no daemon has started with the database, the default port may be anybody's."""
    store = tmp_path / "state.db"
    ended = await run_cli("", "jobs", "add", "job-1", POLLER_STORE=str(store))

    assert ended.code == 69
    assert ended.err.startswith(f"sutro-poller: {store}.key cannot be read, so any daemon may be")


@pytest.mark.parametrize(
    ("at", "code", "message"),
    [
        ("off", 78, "POLLER_LISTEN: is off"),
        (
            "127.0.0.1:9",
            69,
            "cannot connect to the daemon at http://127.0.0.1:9 (Connection refused)",
        ),
        (
            "unix:/nowhere.sock",
            69,
            "cannot connect to the daemon at unix:/nowhere.sock (No such file",
        ),
    ],
)
async def test_cli_reports_that_no_daemon_runs(at: str, code: int, message: str):
    """If no daemon responds, the address and the reason are reported."""
    for argv in (("add", "job-1"), ("rm", "job-1"), ("ls", "--watched")):
        ended = await run_cli(at, "jobs", *argv)

        assert ended.code == code
        assert ended.err.startswith(f"sutro-poller: {message}")


async def test_cli_reports_another_server(daemon: LiveDaemon):
    """A server that is not the daemon is reported."""
    ended = await run_cli(f"127.0.0.1:{daemon.api_port}", "jobs", "ls", "--watched")

    assert (ended.code, "404" in ended.err or "not sutro-poller" in ended.err) == (1, True)


@pytest.mark.parametrize(
    "argv", [("add",), ("add", "a,b"), ("rm", ".."), ("ls", "--watched", "--job", "x")]
)
async def test_cli_rejects_invalid_arguments(argv: tuple[str, ...]):
    """Invalid arguments are rejected before any request."""
    ended = await run_cli("127.0.0.1:9", "jobs", *argv)

    assert ended.code == 2
