"""The door of the installed daemon: taken addresses, slow strangers, secrets, the end of work."""

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import pairwise

import aiohttp
import anyio
import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Daemon, Place
from tests.support.secret_canaries import TOKEN, found_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

DEFAULT = ("127.0.0.1", 8377)
ENDED = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)
RUNS = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1e5)
STRANGERS = 200
INTERVAL = 0.1


@asynccontextmanager
async def with_a_door(place: Place, **changes: str) -> AsyncIterator[tuple[Daemon, str]]:
    """Run a daemon with a door at any free port, and give its URL too."""
    async with place.running("run", POLLER_LISTEN="127.0.0.1:0", **changes) as daemon:
        (opened,) = await daemon.saying("api.listening")
        yield daemon, opened["address"]


async def test_two_daemons_on_one_machine(place: Place):
    """Where the default port is taken the daemon says so and runs on, without a door."""
    jobs = place.jobs(ENDED)
    with ExitStack() as stack:
        with suppress(OSError):  # then somebody else has it, which is as good
            stack.enter_context(socket.create_server(DEFAULT))
        async with place.running("run", POLLER_JOB_IDS=jobs, POLLER_LISTEN=None) as daemon:
            (shut,) = await daemon.saying("api.listen_failed")
            await until(lambda: place.receiver.ends)
            code = await daemon.stop()

    assert code == 0
    assert shut["level"] == "error"
    assert "127.0.0.1:8377: the address is already in use" in shut["error"]


async def test_a_port_that_was_asked_for_and_is_taken(place: Place):
    """Where a port that was asked for is taken, the daemon does not start: exit 75, one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        code, ended = await place.run("run", POLLER_JOB_IDS="job-1", POLLER_LISTEN=at)

    assert (code, ended.out) == (75, "")
    told = f"POLLER_LISTEN: cannot listen on http://{at}: the address is already in use"
    assert ended.err == f"sutro-poller: {told}\n"


def gaps(place: Place) -> list[float]:
    """Give the seconds between looks at the job."""
    looks = [it.at for it in place.api.log if it.path.endswith("/job-1")]
    return sorted(later - sooner for sooner, later in pairwise(looks))


async def drip(url: str, seconds: float) -> None:
    """Begin a request, and go on with it a byte at a time, until the daemon has had enough."""
    host, port = url.removeprefix("http://").split(":")
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            with anyio.move_on_after(seconds):
                while True:
                    await anyio.sleep(0.5)
                    await stream.send(b"x")


@pytest.mark.slow
async def test_slow_strangers_delay_no_poll(place: Place):
    """Two hundred who drip their requests hold up neither a look at a job nor a probe."""
    place.api.add(RUNS)
    pace = {"POLLER_MIN_INTERVAL": str(INTERVAL), "POLLER_MAX_INTERVAL": str(INTERVAL)}
    async with with_a_door(place, POLLER_JOB_IDS="job-1", POLLER_LIST_PAGES="off", **pace) as (
        _,
        url,
    ):
        await until(lambda: len(gaps(place)) > 30)
        calm = gaps(place)
        place.api.log.clear()
        async with anyio.create_task_group() as group, aiohttp.ClientSession() as session:
            for _ in range(STRANGERS):
                group.start_soon(drip, url, 4.0)
            await anyio.sleep(0.5)
            answers = []
            for _ in range(10):
                async with session.get(f"{url}/livez") as answer:
                    answers.append(answer.status)
                await anyio.sleep(0.25)
        troubled = gaps(place)

    assert answers == [200] * 10
    assert len(troubled) > 20
    assert troubled[-2] - calm[-2] <= 1.0, (calm, troubled)


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


async def test_no_answer_tells_a_secret(place: Place):
    """Key, token, sink URL, signing secret and headers are in no answer, however it goes."""
    place.receiver.status = 500
    jobs = place.jobs(ENDED)
    async with (
        with_a_door(place, POLLER_JOB_IDS=jobs, POLLER_LISTEN_TOKEN=TOKEN) as (daemon, url),
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
                async with session.request(method, url + path, headers=headers) as answer:
                    texts.append((path, answer.status, await answer.read(), str(answer.headers)))
        await daemon.stop()

    assert {status for _, status, _, _ in texts} >= {200, 401, 404, 409}
    assert not [path for path, _, text, head in texts if found_in(text + head.encode())]


async def test_it_ends_when_all_is_done(place: Place):
    """As the main container of a Job it exits with 0 once the last event is received."""
    given = {"POLLER_JOB_IDS": place.jobs(ENDED), "POLLER_EXIT_WHEN_DONE": "on"}
    async with place.running("run", **given) as daemon:
        code = await daemon.end()

    assert code == 0
    assert place.receiver.ends == ["job-1"]
    assert daemon.said("poller.completed")
