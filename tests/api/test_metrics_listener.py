"""The listener that serves the metrics alone."""

import socket
import stat
from pathlib import Path

import aiohttp
import pytest

from poller.core.errors import AddressInUse
from poller.runtime.instance_key import CHALLENGE, PROOF
from tests.api.conftest import RUNS
from tests.support.api_server import LiveDaemon, live_daemon

ANY_PORT = "127.0.0.1:0"


def metrics_url(daemon: LiveDaemon) -> str:
    """Return the URL of the second listener."""
    (opened,) = (entry for entry in daemon.log if entry["event"] == "metrics.listening")
    return opened["address"]


async def test_metrics_listener_serves_metrics_alone(tmp_path: Path):
    """Metrics are served there as at the first listener, and nothing else is."""
    async with live_daemon(tmp_path, RUNS, POLLER_METRICS_LISTEN=ANY_PORT) as daemon:
        url, paths = (
            metrics_url(daemon),
            ("/metrics", "/", "/livez", "/v1/status", "/v1/jobs/job-1"),
        )
        responses = {}
        for path in paths:
            async with daemon.session.get(url + path) as response:
                responses[path] = (response.status, await response.text())

    statuses = [status for status, _ in responses.values()]
    assert statuses == [200, 404, 404, 404, 404]
    assert "sutro_poller_ready 1.0\n" in responses["/metrics"][1]
    assert "problem-not-found" in responses["/livez"][1]


async def test_metrics_listener_needs_no_token_and_proves_nothing(tmp_path: Path):
    """It serves any host name without a token, and no proof that another server could pass on."""
    token = {"POLLER_LISTEN_TOKEN": "a-token-of-16-characters"}
    headers = {CHALLENGE: "one", "Host": "any.name"}
    async with live_daemon(tmp_path, RUNS, POLLER_METRICS_LISTEN=ANY_PORT, **token) as daemon:
        at_the_api = await daemon.get("/metrics", headers=headers)
        async with daemon.session.get(
            metrics_url(daemon) + "/metrics", headers=headers
        ) as response:
            status, sent = response.status, response.headers

    assert PROOF in at_the_api.headers
    assert status == 200
    assert PROOF not in sent
    assert sent["Server"].startswith("sutro-poller/")


async def test_metrics_listener_on_a_socket(tmp_path: Path):
    """It may be a socket, which only the user and group can open; it is removed at the end."""
    path = tmp_path / "metrics.sock"
    async with live_daemon(tmp_path, RUNS, POLLER_METRICS_LISTEN=f"unix:{path}"):
        mode = stat.S_IMODE(path.stat().st_mode)
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://any.name/metrics") as response,
        ):
            status = response.status

    assert (mode, status, path.exists()) == (0o660, 200, False)


async def test_metrics_listener_rejects_an_address_in_use(tmp_path: Path):
    """An address in use is an error that names the variable."""
    with socket.create_server(("127.0.0.1", 0)) as blocker:
        address = f"127.0.0.1:{blocker.getsockname()[1]}"
        with pytest.raises(ExceptionGroup) as caught:
            async with live_daemon(tmp_path, RUNS, POLLER_METRICS_LISTEN=address):
                pass

    message = "POLLER_METRICS_LISTEN: cannot listen on .*: the address is in use"
    assert caught.group_contains(AddressInUse, match=message, depth=None)
