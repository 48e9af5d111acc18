"""Heartbeats to a monitoring service: when they are sent, when they report a failure, or stop."""

import ssl
from dataclasses import dataclass, field

import anyio
import pytest
import trustme
from aiohttp import web
from structlog.testing import capture_logs

from poller.core.errors import StoreUnavailable
from poller.runtime.heartbeat import failure_url
from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.fakes import FailingStore
from tests.support.http_peers import peer, proxy, resets, responds, sends, stalls
from tests.support.running_app import KEY, Receiver, an_app, in_memory, running_app, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)

NOWHERE = "http://127.0.0.1:9"
"""A URL at which nothing listens."""
UUID = "/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
PUSH = "/api/push/7AYUQNs1Cc?status=up&msg=OK&ping="
KEPT_OPEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


@dataclass
class Monitor:
    """A monitoring service; it responds with `status` and `body`, and keeps what arrives."""

    status: int = 200
    body: str = "OK"
    got: list[tuple[float, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Receive one heartbeat."""
        assert request.method == "GET"
        assert KEY not in str(request.headers)
        self.got.append((anyio.current_time(), request.raw_path))
        return web.Response(status=self.status, text=self.body, headers={"Location": "/elsewhere"})

    @property
    def paths(self) -> list[str]:
        """The paths with their queries in order of arrival."""
        return [path for _, path in self.got]

    @property
    def minutes(self) -> list[int]:
        """The times of arrival in whole minutes."""
        return [round(at / 60.0) for at, _ in self.got]


class OpenedStore(FailingStore):
    """A store for a daemon, with verbs that may fail or hang."""

    async def __aenter__(self):
        """Open nothing."""
        return self

    async def __aexit__(self, *_):
        """Close nothing."""


@pytest.fixture
async def monitor():
    """Serve a monitoring service; yield it and its address."""
    service = Monitor()
    async with served(service.take) as url:
        yield service, url


@pytest.fixture
async def simulator():
    """Serve an API with a job that runs for days; yield it and its address."""
    api = Simulator(now=virtual_clock().steady, key=KEY)
    api.add(JobScript(job_id="job-1", run_seconds=1e6))
    async with serve(api) as url:
        yield api, url


def a_daemon(api, heartbeat, **changes):
    """Return a daemon that sends heartbeats to a URL."""
    return an_app(api, NOWHERE, POLLER_HEARTBEAT_URL=heartbeat, **changes)


async def run_for(seconds, app):
    """Run a daemon for some time; return what it logs about heartbeats."""
    with capture_logs() as lines:
        async with running_app(app):
            await anyio.sleep(seconds)
    return [line for line in lines if line["event"].startswith("heartbeat.")]


async def reported_after(run_seconds, **changes):
    """Run a daemon for two minutes; return when it reports the end of a job, and its log."""
    api, receiver = Simulator(now=virtual_clock().steady, key=KEY), Receiver()
    api.add(JobScript(job_id="job-1", run_seconds=run_seconds))
    began = anyio.current_time()
    async with serve(api) as url, served(receiver.take) as hook:
        logged = await run_for(125.0, an_app(url, hook, **changes))
    return [pytest.approx(at - began) for at, _, _ in receiver.got], logged


async def test_heartbeats_come_at_every_interval(simulator, monitor):
    """The first one comes at the start, as the URL is written, and nothing is logged."""
    logged = await run_for(310.0, a_daemon(simulator[1], monitor[1] + UUID + "?create=1"))

    assert monitor[0].paths == [UUID + "?create=1"] * 6
    assert monitor[0].minutes == [0, 1, 2, 3, 4, 5]
    assert logged == []


async def test_heartbeats_have_the_interval_of_the_setting(simulator, monitor):
    """With 20 s there are three in a minute."""
    app = a_daemon(simulator[1], monitor[1] + UUID, POLLER_HEARTBEAT_INTERVAL="20s")
    await run_for(59.0, app)

    assert len(monitor[0].got) == 3


async def test_heartbeats_are_sent_only_to_a_url(simulator):
    """Without the setting nothing is sent, and nothing is logged."""
    assert await run_for(120.0, an_app(simulator[1], NOWHERE)) == []


@pytest.mark.parametrize(
    ("url", "failing"),
    [
        (UUID, f"{UUID}/fail"),
        (f"{UUID}/", f"{UUID}/fail"),
        ("/key/slug?create=1", "/key/slug/fail?create=1"),
        (PUSH, "/api/push/7AYUQNs1Cc?status=down&msg=a+%26+b%3F&ping="),
        ("/api/push/7AYUQNs1Cc", "/api/push/7AYUQNs1Cc?status=down&msg=a+%26+b%3F"),
    ],
)
async def test_failure_url_has_the_form_of_the_service(url, failing):
    """A push URL of Uptime Kuma gets a status and a message, any other one /fail in its path."""
    base = "https://monitor.example:8443"

    assert failure_url(base + url, "a & b?") == base + failing


async def test_rejected_key_is_a_failure_until_it_is_accepted(monitor):
    """The heartbeats report it, and say that all is well once the API accepts the key again."""
    api = Simulator(now=virtual_clock().steady, key="sk_another")
    api.add(JobScript(job_id="job-1", run_seconds=1e6))
    async with serve(api) as url:
        app = a_daemon(url, monitor[1] + PUSH)
        async with running_app(app):
            await anyio.sleep(130.0)
            api.key = KEY
            app.reload()
            await anyio.sleep(60.0)

    assert monitor[0].paths[0] == PUSH
    assert all("status=down&msg=API+key+rejected" in path for path in monitor[0].paths[1:3])
    assert monitor[0].paths[3:] == [PUSH]


async def test_silent_api_is_a_failure_after_ten_minutes(simulator, monitor):
    """Until then all is well, as it is once the API responds again."""
    simulator[0].faults.append(Fault(status=502, count=100_000))
    async with running_app(a_daemon(simulator[1], monitor[1] + UUID)):
        await anyio.sleep(750.0)
        simulator[0].faults.clear()
        await anyio.sleep(360.0)

    assert monitor[0].paths[:13] == [UUID] * 11 + [f"{UUID}/fail"] * 2
    assert monitor[0].paths[-1] == UUID


@pytest.mark.parametrize(
    ("verb", "loop"),
    [("write", "recording"), ("due_deliveries", "sink webhook"), ("settle", "outcomes")],
)
async def test_heartbeats_stop_while_one_loop_hangs(monitor, verb, loop):
    """One verb of the store hangs after the end of the job; all other loops still run."""
    kept = []

    def new_store(config, clock):
        kept.append(OpenedStore(in_memory(config, clock)))
        return kept[-1]

    api = Simulator(now=virtual_clock().steady, key=KEY)
    api.add(JobScript(job_id="job-1", run_seconds=60.0))
    with capture_logs() as lines, anyio.move_on_after(400.0):
        async with serve(api) as url, served(Receiver().take) as hook:
            heartbeat = {"POLLER_HEARTBEAT_URL": monitor[1] + UUID}
            async with running_app(an_app(url, hook, new_store=new_store, **heartbeat)):
                await anyio.sleep(50.0)
                kept[0].hangs = {verb}
                await anyio.sleep(300.0)

    skipped = [line for line in lines if line["event"] == "heartbeat.skipped"]
    assert monitor[0].minutes == [0, 1]
    assert {line["error"] for line in skipped} == {f"the loop {loop!r} has stalled"}
    assert [line["occurrences"] for line in skipped] == [1, 2, 4]


async def test_heartbeats_stop_while_the_store_fails(simulator, monitor):
    """They come again with the first interval in which the store works."""
    kept = []

    def new_store(config, clock):
        kept.append(OpenedStore(in_memory(config, clock)))
        return kept[-1]

    with capture_logs() as lines:
        app = a_daemon(simulator[1], monitor[1] + UUID, new_store=new_store)
        async with running_app(app):
            await anyio.sleep(90.0)
            kept[0].fails = {"backlogs", "due_deliveries", "load", "prune", "settle", "write"}
            await anyio.sleep(120.0)
            kept[0].fails = set()
            await anyio.sleep(60.0)

    errors = [line["error"] for line in lines if line["event"] == "heartbeat.skipped"]
    assert monitor[0].minutes == [0, 1, 4]
    assert len(errors) == 2
    assert all(error.startswith("the store fails: ") for error in errors)


async def test_heartbeats_begin_when_the_store_is_open(simulator, monitor):
    """A daemon that waits for its store sends none."""

    def new_store(config, clock):
        if anyio.current_time() < 150.0:
            raise StoreUnavailable("the disk is full")
        return in_memory(config, clock)

    await run_for(170.0, a_daemon(simulator[1], monitor[1] + UUID, new_store=new_store))

    assert [at >= 150.0 for at, _ in monitor[0].got] == [True]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, "not found", "the service returned 404"),
        (500, '{"ok":false,"msg":"Monitor not found."}', "the service returned 500"),
        (302, "", "the service returned 302; redirects are not followed"),
        (200, "OK (not found)", "the service ignored it: not found"),
        (200, "OK (rate limited)\n", "the service ignored it: rate limited"),
    ],
)
async def test_failing_heartbeats_are_logged_ever_less_often(
    simulator, monitor, status, body, error
):
    """Each is tried once at its time; no redirect is followed, and no body is logged."""
    monitor[0].status, monitor[0].body = status, body
    logged = await run_for(430.0, a_daemon(simulator[1], monitor[1] + UUID))

    assert monitor[0].paths == [UUID] * 8
    assert {(line["event"], line["error"]) for line in logged} == {("heartbeat.failed", error)}
    assert [line["occurrences"] for line in logged] == [1, 2, 4, 8]


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_any_success_of_the_service_is_enough(simulator, monitor, status):
    """Healthchecks.io returns 201 when it creates the check."""
    monitor[0].status = status

    assert await run_for(70.0, a_daemon(simulator[1], monitor[1] + UUID)) == []


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (stalls(), "127.0.0.1: no complete response within 10 s"),
        (resets(), "127.0.0.1: the connection was reset (Connection reset by peer)"),
        (sends(), "127.0.0.1: the connection was closed before a response"),
    ],
    ids=["hangs", "resets", "closes"],
)
async def test_broken_service_delays_nothing(handler, error):
    """The job is reported as soon as without heartbeats, and the next one has its own time."""
    usual, _ = await reported_after(60.0)
    began = anyio.current_time()
    async with peer(handler) as service:
        seconds, logged = await reported_after(60.0, POLLER_HEARTBEAT_URL=service.base + UUID)

    assert (len(usual), seconds) == (1, usual)
    assert service.lines == [f"GET {UUID} HTTP/1.1"] * 3
    assert [line["error"] for line in logged] == [error] * 2
    assert anyio.current_time() - began < 126.0


async def test_stop_does_not_wait_for_a_heartbeat(simulator):
    """A stop while the service hangs takes no second."""
    async with peer(stalls()) as service:
        app = a_daemon(simulator[1], service.base + UUID)
        async with running_app(app):
            await anyio.sleep(5.0)
            stopped_at = anyio.current_time()

        assert anyio.current_time() - stopped_at < 1.0
        assert len(service.requests) == 1


async def test_status_line_of_a_success_is_enough(simulator):
    """A response without its end is one, since the service has the heartbeat."""
    async with peer(stalls(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nOK")) as service:
        logged = await run_for(70.0, a_daemon(simulator[1], service.base + UUID))

    assert len(service.requests) == 2
    assert logged == []


async def test_heartbeat_on_a_stale_connection_is_sent_again(simulator):
    """A service that closes kept connections when they are used gets every heartbeat."""

    async def once(stream):
        await stream.send(KEPT_OPEN)
        await stream.receive()

    async with peer(once) as service:
        logged = await run_for(130.0, a_daemon(simulator[1], service.base + UUID))

    assert len(service.requests) == 3
    assert logged == []


async def test_heartbeats_follow_a_url_that_is_reloaded(simulator, monitor, tmp_path):
    """A new URL in the secret file is used after a SIGHUP, without a restart."""
    file = tmp_path / "url"
    file.write_text(f"{monitor[1]}/old")
    app = an_app(simulator[1], NOWHERE, POLLER_HEARTBEAT_URL_FILE=str(file))
    async with running_app(app):
        await anyio.sleep(30.0)
        file.write_text(f"{monitor[1]}/new")
        app.reload()
        await anyio.sleep(60.0)

    assert monitor[0].paths == ["/old", "/new"]


async def test_heartbeats_stop_when_their_url_is_gone(simulator, monitor, tmp_path):
    """A credential that is removed takes effect at a SIGHUP, and nothing is logged."""
    file = tmp_path / "POLLER_HEARTBEAT_URL"
    file.write_text(monitor[1] + UUID)
    app = an_app(simulator[1], NOWHERE, CREDENTIALS_DIRECTORY=str(tmp_path))
    with capture_logs() as lines:
        async with running_app(app):
            await anyio.sleep(30.0)
            file.unlink()
            app.reload()
            await anyio.sleep(100.0)

    assert len(monitor[0].got) == 1
    assert not [line for line in lines if "heartbeat" in line["event"]]


async def test_heartbeats_go_through_the_proxy(simulator):
    """POLLER_PROXY gets them, as it gets all other requests."""
    async with proxy() as via:
        heartbeat = f"http://monitor.example{UUID}"
        changes = {"POLLER_PROXY": via.base, "POLLER_ALLOW_HTTP": "on"}
        logged = await run_for(10.0, a_daemon(simulator[1], heartbeat, **changes))

    assert via.lines == [f"GET {heartbeat} HTTP/1.1"]
    assert logged == []


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_heartbeats_need_a_trusted_certificate(simulator, tmp_path, is_trusted):
    """POLLER_CA_FILE has the certificates that are trusted; the log names the setting to check."""
    ca, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    (ca if is_trusted else trustme.CA()).issue_cert("127.0.0.1").configure_cert(tls)
    async with peer(responds(200, b"OK"), tls=tls) as service:
        changes = {"POLLER_CA_FILE": str(tmp_path / "ca.pem")}
        logged = await run_for(10.0, a_daemon(simulator[1], service.base + UUID, **changes))

    assert len(service.requests) == is_trusted
    assert [line["error"].partition(";")[2] for line in logged] == (
        [] if is_trusted else [" check POLLER_HEARTBEAT_URL and POLLER_CA_FILE"]
    )
    assert not any(UUID in line["error"] for line in logged)
