"""Access control of the HTTP API: host names, origins, tokens; and problem documents."""

from itertools import product
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreUnavailable
from poller.store.admin import StoreAdmin
from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.secret_canaries import TOKEN
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OPEN = ("/livez", "/readyz", "/healthz", "/metrics", "/version")
CLOSED = ("/v1/status", "/v1/jobs", "/v1/nothing", "/nothing", "/openapi.json")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RUNS = JobScript(job_id="job-1", run_seconds=1e5)


ANY_HEADERS = (
    {},
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Authorization": "Bearer wrong"},
)


async def test_auth_serves_public_paths_to_everyone(daemon: LiveDaemon):
    """Probes, metrics and the version are served to everyone, for any host name."""
    for headers, path in product(ANY_HEADERS, OPEN):
        response = await daemon.get(path, headers=headers)

        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Server"].startswith("sutro-poller/")


FOREIGN = (
    ({"Host": "evil.example"}, "unknown-host"),
    ({"Host": "localhost.evil.example:80"}, "unknown-host"),
    ({"Host": ""}, "unknown-host"),
    ({"Host": "localhost@evil.example"}, "unknown-host"),
    ({"Host": "["}, "unknown-host"),
    ({"Host": "127.0.0.1#@evil.example"}, "unknown-host"),
    ({"Host": "evil.example\\@127.0.0.1"}, "unknown-host"),
    ({"Origin": "http://evil.example"}, "cross-origin"),
    ({"Origin": "http://["}, "cross-origin"),
    ({"Origin": "null"}, "cross-origin"),
    ({"Origin": "http://127.0.0.1:1"}, "cross-origin"),
    ({"Sec-Fetch-Site": "cross-site"}, "cross-origin"),
    ({"Sec-Fetch-Site": "same-site"}, "cross-origin"),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, "unknown-host"),
)


async def test_auth_rejects_foreign_hosts_and_origins(daemon: LiveDaemon):
    """Pages of other sites, and names that others have made resolve here, are rejected."""
    for (headers, problem), path in product(FOREIGN, CLOSED):
        response = await daemon.get(path, headers=headers)

        assert response.problem == problem


OWN_HOSTS = ("localhost", "LOCALHOST:8377", "127.0.0.1", "10.1.2.3:80", "[::1]:8377", "Box.local")


async def test_auth_accepts_own_hosts(tmp_path: Path):
    """IP addresses, localhost and POLLER_ALLOWED_HOSTS are accepted, as origins too.

    A proxy in front may speak TLS.
    """
    async with live_daemon(tmp_path, RUNS, POLLER_ALLOWED_HOSTS="box.local,other") as daemon:
        for host, scheme in product(OWN_HOSTS, ("http", "https")):
            headers = {"Host": host, "Origin": f"{scheme}://{host}"}
            response = await daemon.get("/v1/status", headers=headers)

            assert response.status == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", ""])
async def test_auth_rejects_bodies_that_are_not_json(daemon: LiveDaemon, kind: str):
    """A body of another content type is rejected: a form of another site could send it."""
    response = await daemon.request(
        "POST", "/v1/jobs", data=b'{"job_ids": ["job-9"]}', headers={"Content-Type": kind}
    )

    assert response.problem == "unsupported-media-type"


async def test_auth_requires_the_token_on_loopback_too(tmp_path: Path):
    """With a token, everything but public paths requires it, on loopback too."""
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN_TOKEN=TOKEN) as daemon:
        wrong = [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer ü"},
        ]
        rejected = [await daemon.get("/v1/status", headers=headers) for headers in wrong]
        accepted = await daemon.get("/v1/status", headers=BEARER)
        public = [(await daemon.get(path)).status for path in OPEN]

    assert {response.problem for response in rejected} == {"unauthorized"}
    assert {response.headers["WWW-Authenticate"] for response in rejected} == {
        'Bearer realm="sutro-poller"'
    }
    assert accepted.status == 200
    assert public == [200] * len(OPEN)


async def test_auth_serves_only_public_paths_on_other_addresses(tmp_path: Path):
    """On an address that others can reach, a daemon without a token serves only public paths."""
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN="0.0.0.0:0") as daemon:
        closed = [(await daemon.get(path)).problem for path in CLOSED]
        public = [(await daemon.get(path)).status for path in OPEN]
        advice = [
            entry["advice"] for entry in daemon.log if entry["event"] == "api.unauthenticated"
        ]

    assert closed == ["forbidden"] * len(CLOSED)
    assert public == [200] * len(OPEN)
    assert advice == ["set POLLER_LISTEN_TOKEN to serve more than probes, metrics and the version"]


async def test_auth_serves_everything_on_other_addresses_with_a_token(tmp_path: Path):
    """With a token, everything is served on any address."""
    changes = {"POLLER_LISTEN": "0.0.0.0:0", "POLLER_LISTEN_TOKEN": TOKEN}
    async with live_daemon(tmp_path, RUNS, **changes) as daemon:
        response = await daemon.get("/v1/status", headers=BEARER)

    assert response.status == 200


async def test_auth_uses_a_new_token_after_a_reload(tmp_path: Path):
    """The token is read from its file again, like every other secret."""
    file = tmp_path / "token"
    file.write_text("an-older-token-than-that")
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN_TOKEN_FILE=str(file)) as daemon:
        before = await daemon.get("/v1/status", headers=BEARER)
        file.write_text(TOKEN)
        with capture_logs() as lines:
            daemon.app.reload()
            await until(lambda: any(line["event"] == "poller.reloaded" for line in lines))
        after = await daemon.get("/v1/status", headers=BEARER)

    assert (before.problem, after.status) == ("unauthorized", 200)


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1", 404, "not-found"),
        ("POST", "/livez", 405, "method-not-allowed"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("OPTIONS", "/v1/jobs", 405, "method-not-allowed"),
    ],
)
async def test_problems_of_unknown_paths_and_methods(
    daemon: LiveDaemon, method, path, status, problem
):
    """Unknown paths and methods are problems; a 405 has the allowed methods."""
    response = await daemon.request(method, path)

    assert (response.status, response.problem) == (status, problem)
    assert ("Allow" in response.headers) == (status == 405)


async def test_problems_of_a_failing_store(daemon: LiveDaemon, monkeypatch: pytest.MonkeyPatch):
    """A database that is busy or fails is a problem with a Retry-After."""

    def busy(_admin: StoreAdmin) -> None:
        raise StoreUnavailable("another process writes to it; try again")

    monkeypatch.setattr(StoreAdmin, "sinks", busy)
    response = await daemon.get("/v1/sinks")

    assert (response.status, response.problem) == (503, "store-unavailable")
    assert response.headers["Retry-After"] == "5"


async def test_problems_of_a_bug(daemon: LiveDaemon, monkeypatch: pytest.MonkeyPatch):
    """A bug in a request logs a traceback, and its id is in the problem; the daemon runs on."""
    monkeypatch.setattr(StoreAdmin, "sinks", None)
    response = await daemon.get("/v1/sinks")
    probe = await daemon.get("/readyz")

    assert (response.status, response.problem, probe.status) == (500, "internal-error", 200)
    (logged,) = [entry for entry in daemon.log if entry["event"] == "api.request_failed"]
    assert (logged["route"], logged["exc_info"]) == ("/v1/sinks", True)
    assert response.body["detail"].endswith(f"request_id {logged['request_id']}")
