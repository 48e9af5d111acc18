"""The HTTP API of the installed daemon: ports in use, slow clients, secrets, exit when done."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import pairwise

import aiohttp
import anyio
import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Daemon, Place
from tests.support.lateness import measured_lateness
from tests.support.secret_canaries import TOKEN, found_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

DEFAULT = ("127.0.0.1", 8377)
ENDED = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)
RUNS = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1e5)
SLOW_CLIENTS = 200
PROBES = 10
POLLS = 20
INTERVAL = 0.1


@asynccontextmanager
async def with_api(place: Place, **changes: str) -> AsyncIterator[tuple[Daemon, str]]:
    """Run a daemon with the API at any free port; return its URL too."""
    async with place.running("run", POLLER_LISTEN="127.0.0.1:0", **changes) as daemon:
        (opened,) = await daemon.saying("api.listening")
        yield daemon, opened["address"]


def is_taken(port: tuple[str, int], stack: ExitStack) -> bool:
    """Listen on a port until the end of a stack; return whether that is possible."""
    with suppress(OSError):
        stack.enter_context(socket.create_server(port))
        return True
    return False


async def test_api_is_off_when_the_default_port_is_in_use(place: Place):
    """If the default port is in use, the daemon logs it and runs without the API."""
    jobs = place.jobs(ENDED)
    with ExitStack() as stack:
        with suppress(TimeoutError):  # then another process keeps it
            await until(lambda: is_taken(DEFAULT, stack), within=20.0)
        async with place.running("run", POLLER_JOB_IDS=jobs, POLLER_LISTEN=None) as daemon:
            (logged,) = await daemon.saying("api.listen_failed")
            await until(lambda: place.receiver.ends)
            code = await daemon.stop()

    assert code == 0
    assert logged["level"] == "error"
    assert "127.0.0.1:8377: the address is in use, perhaps by another daemon" in logged["error"]


async def test_metrics_are_served_without_the_api(place: Place):
    """With POLLER_LISTEN=off the metrics have a listener, and the lag of the loop is measured."""
    jobs, address = place.jobs(RUNS), "127.0.0.1:0"
    async with place.running("run", POLLER_JOB_IDS=jobs, POLLER_METRICS_LISTEN=address) as daemon:
        (opened,) = await daemon.saying("metrics.listening")
        async with (
            aiohttp.ClientSession() as session,
            session.get(opened["address"] + "/metrics") as response,
        ):
            text = await response.text()
        code = await daemon.stop()

    assert "sutro_poller_event_loop_lag_seconds " in text
    assert (code, daemon.said("api.listening")) == (0, [])


async def test_api_serves_the_page_from_the_wheel(place: Place):
    """The wheel has the templates of the page, and the files that it loads."""
    async with (
        with_api(place, POLLER_JOB_IDS=place.jobs(RUNS)) as (daemon, url),
        aiohttp.ClientSession() as session,
    ):
        await daemon.saying("poller.started")
        async with session.get(url) as response:
            page = await response.text()
        statuses = [response.status]
        for path in re.findall(r'(?:href|src)="(/assets/[^"]+)"', page):
            async with session.get(url + path) as response:
                statuses.append(response.status)

    assert statuses == [200] * 5


async def test_api_port_in_use_is_an_error_if_it_was_set(place: Place):
    """If a port was set and is in use, the daemon exits with 75 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as blocker:
        at = f"127.0.0.1:{blocker.getsockname()[1]}"
        code, ended = await place.run("run", POLLER_JOB_IDS="job-1", POLLER_LISTEN=at)

    assert (code, ended.out) == (75, "")
    reason = "the address is in use, perhaps by another daemon"
    assert ended.err == f"sutro-poller: POLLER_LISTEN: cannot listen on http://{at}: {reason}\n"


def intervals(place: Place) -> list[float]:
    """Return the seconds between polls of the job, in ascending order."""
    polls = [request.at for request in place.api.log if request.path.endswith("/job-1")]
    return sorted(later - sooner for sooner, later in pairwise(polls))


async def drip(url: str) -> None:
    """Begin a request and send it byte by byte, until the daemon closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            while True:
                await anyio.sleep(0.5)
                await stream.send(b"x")


@pytest.mark.slow
async def test_api_slow_clients_delay_no_poll(place: Place):
    """Two hundred clients that send byte by byte delay neither a poll nor a probe."""
    place.api.add(RUNS)
    pace = {"POLLER_MIN_INTERVAL": str(INTERVAL), "POLLER_MAX_INTERVAL": str(INTERVAL)}
    async with with_api(place, POLLER_JOB_IDS="job-1", POLLER_LIST_PAGES="off", **pace) as (
        daemon,
        url,
    ):
        await until(lambda: len(intervals(place)) > 30)
        calm = intervals(place)
        place.api.log.clear()
        async with (
            measured_lateness(daemon.process.pid) as lateness,
            anyio.create_task_group() as group,
            aiohttp.ClientSession() as session,
        ):
            for _ in range(SLOW_CLIENTS):
                group.start_soon(drip, url)
            responses = []
            while len(responses) < PROBES or len(intervals(place)) < POLLS:
                await anyio.sleep(0.25)
                async with session.get(f"{url}/livez") as response:
                    responses.append(response.status)
            loaded, late = intervals(place), lateness()
            group.cancel_scope.cancel()

    assert set(responses) == {200}
    assert loaded[-2] - calm[-2] - late <= 2.0, (calm, loaded, late)


PATHS = (
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi.json",
    "/v1/status",
    "/v1/jobs",
    "/v1/jobs/job-1",
    "/v1/events",
    "/v1/sinks",
    "/v1/nothing",
)


async def test_api_responses_have_no_secret(place: Place):
    """Key, token, sink URL, signing secret and headers are in no response."""
    place.receiver.status = 500
    jobs = place.jobs(ENDED)
    async with (
        with_api(place, POLLER_JOB_IDS=jobs, POLLER_LISTEN_TOKEN=TOKEN) as (daemon, url),
        aiohttp.ClientSession() as session,
    ):
        await daemon.saying("delivery.failed")
        texts = []
        for token in (TOKEN, "wrong"):
            headers = {"Authorization": f"Bearer {token}"}
            for method, path in (
                *(("GET", path) for path in PATHS),
                ("POST", "/v1/sinks/webhook/test"),
                ("DELETE", "/v1/jobs/job-1"),
            ):
                async with session.request(method, url + path, headers=headers) as response:
                    texts.append(
                        (path, response.status, await response.read(), str(response.headers))
                    )
        await daemon.stop()

    assert {status for _, status, _, _ in texts} >= {200, 401, 404, 409}
    assert not [path for path, _, text, head in texts if found_in(text + head.encode())]


async def test_exit_when_done(place: Place):
    """As the main container of a Job it exits with 0 once the last event is delivered."""
    changes = {"POLLER_JOB_IDS": place.jobs(ENDED), "POLLER_EXIT_WHEN_DONE": "on"}
    async with place.running("run", **changes) as daemon:
        code = await daemon.end()

    assert code == 0
    assert place.receiver.ends == ["job-1"]
    assert daemon.said("poller.completed")
