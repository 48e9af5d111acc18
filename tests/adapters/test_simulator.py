"""The simulator answers as the real API is documented to."""

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import aiohttp
import anyio
import pytest
from yarl import URL

from poller.core.errors import ConfigError
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.simulator_client import START, SimulatorClient, simulator_client
from tests.support.virtual_time import virtual_clock


@pytest.fixture
async def customer() -> AsyncIterator[SimulatorClient]:
    """Serve a simulator to a customer whose clock stands still."""
    async with simulator_client() as somebody:
        yield somebody


async def test_job_that_is_asked_for(customer: SimulatorClient) -> None:
    """A job is answered under the key `job`, as it stands at the moment of the request."""
    customer.simulator.add(JobScript(job_id="job-1", queue_seconds=5))
    customer.clock.now += 5

    status, body = await customer.request("/jobs/job-1")

    assert (status, list(body)) == (200, ["job"])
    assert (body["job"]["job_id"], body["job"]["status"]) == ("job-1", "RUNNING")


async def test_job_that_appears_late(customer: SimulatorClient) -> None:
    """A job that the API does not show yet is a 404, and afterwards it is as old as it is."""
    customer.simulator.add(JobScript(job_id="job-1", appears_after=30))

    customer.clock.now += 29
    hidden, _ = await customer.request("/jobs/job-1")
    customer.clock.now += 1
    _, body = await customer.request("/jobs/job-1")

    assert hidden == 404
    assert body["job"]["datetime_created"] == "2024-01-15T10:30:00Z"


async def test_job_status_is_in_capitals(customer: SimulatorClient) -> None:
    """The words of job-status are in capitals even when those of the job object are not."""
    customer.simulator.add(JobScript(job_id="job-1", case="lower"))

    _, body = await customer.request("/job-status/job-1")

    assert body["job_status"] == {"job-1": "QUEUED"}


@pytest.mark.virtual(limit=21.0)
async def test_virtual_time() -> None:
    """A simulator that is given a virtual clock lives in virtual time, and stops in none."""
    simulator = Simulator(now=virtual_clock().steady)
    simulator.add(JobScript(job_id="job-1", queue_seconds=5, run_seconds=10))
    headers = {"Authorization": "Key sk_simulator"}
    words = []

    async with aiohttp.ClientSession(headers=headers) as session, serve(simulator) as base:
        for _ in range(4):
            async with session.get(f"{base}/jobs/job-1") as answer:
                words.append((await answer.json())["job"]["status"])
            await anyio.sleep(5)

    assert words == ["QUEUED", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert anyio.current_time() == pytest.approx(20)


async def test_cancelled_server_hangs_up() -> None:
    """A cancelled simulator closes its connections before it lets go."""
    with anyio.CancelScope() as scope:
        async with serve(Simulator()) as base:
            stream = await anyio.connect_tcp("127.0.0.1", URL(base).port or 0)
            await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive()
            scope.cancel()
            await anyio.sleep_forever()

    async with stream:
        with anyio.fail_after(30.0), pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_job_that_nobody_knows(customer: SimulatorClient) -> None:
    """An unknown id gets the API's own 404."""
    seen = await customer.request("/jobs/job-9"), await customer.request("/job-status/job-9")

    assert seen == ((404, {"message": "No job found with ID job-9"}),) * 2


async def test_job_status_of_a_healthy_job(customer: SimulatorClient) -> None:
    """The status alone has no metadata while there is nothing to explain."""
    customer.simulator.add(JobScript(job_id="job-1"))

    status, body = await customer.request("/job-status/job-1")

    assert (status, body["job_status"]) == (200, {"job-1": "QUEUED"})
    assert body["metadata"] is None


async def test_job_status_of_a_failed_job(customer: SimulatorClient) -> None:
    """The status alone explains a failure."""
    customer.simulator.add(JobScript(job_id="job-1", ends_as="failed", failure="no GPU"))
    customer.clock.now += 25

    _, body = await customer.request("/job-status/job-1")

    assert body["metadata"] == {"failure_reason": {"message": "no GPU"}}


async def test_list_without_limit(customer: SimulatorClient) -> None:
    """A list without a limit has every job that shows, newest first, and no cursor."""
    for index in range(150):
        customer.simulator.add(JobScript(job_id=f"job-{index}"))
    customer.simulator.add(JobScript(job_id="later", appears_after=1))

    _, body = await customer.request("/list-jobs")

    assert [job["job_id"] for job in body["jobs"]] == [f"job-{149 - i}" for i in range(150)]
    assert body["next_cursor"] is None


async def listed_statuses(customer: SimulatorClient) -> dict[str, str]:
    """Return the status of each row of the list."""
    _, body = await customer.request("/list-jobs")
    return {job["job_id"]: job["status"] for job in body["jobs"]}


async def test_rows_lag_behind(customer: SimulatorClient) -> None:
    """With a list delay a row shows its job as it was so long ago; a GET shows it as it is."""
    customer.simulator.list_delay = 30
    customer.simulator.add(JobScript(job_id="job-1", queue_seconds=5, run_seconds=20))

    customer.clock.now += 25
    at_its_end = await listed_statuses(customer)
    _, body = await customer.request("/jobs/job-1")
    customer.clock.now += 30
    later = await listed_statuses(customer)

    assert body["job"]["status"] == "SUCCEEDED"
    assert (at_its_end, later) == ({"job-1": "QUEUED"}, {"job-1": "SUCCEEDED"})


async def test_stuck_row_stays_as_it_was_first_shown(customer: SimulatorClient) -> None:
    """A stuck row shows its job for ever as it was when the list began to show it."""
    customer.simulator.add(JobScript(job_id="job-1", is_row_stuck=True, listed_after=5))
    customer.simulator.add(JobScript(job_id="job-2"))

    customer.clock.now += 9_000

    assert await listed_statuses(customer) == {"job-2": "SUCCEEDED", "job-1": "RUNNING"}


async def test_list_shows_a_job_for_a_while(customer: SimulatorClient) -> None:
    """A row comes and goes as its script says, below those of newer jobs; a GET always works."""
    customer.simulator.add(JobScript(job_id="job-1", listed_after=30, unlisted_after=60))
    customer.simulator.add(JobScript(job_id="job-2"))
    seen = []
    for _ in range(3):
        rows = await listed_statuses(customer)
        seen.append((list(rows), (await customer.request("/jobs/job-1"))[0]))
        customer.clock.now += 30

    assert seen == [(["job-2"], 200), (["job-2", "job-1"], 200), (["job-2"], 200)]


async def test_row_that_differs_from_its_job(customer: SimulatorClient) -> None:
    """Fields of a row can be replaced, for example by an odd date or by no status."""
    row = {"datetime_created": "1970-01-01T00:00:00Z", "status": None}
    customer.simulator.add(JobScript(job_id="job-1", row=row))

    _, page = await customer.request("/list-jobs")
    _, alone = await customer.request("/jobs/job-1")

    assert page["jobs"] == [alone["job"] | row]


@pytest.mark.parametrize("removed", ["job-2", "job-3"])
async def test_list_pages(customer: SimulatorClient, removed: str) -> None:
    """Pages give each job once, also when jobs come and go between two of them."""
    for index in range(5):
        customer.simulator.add(JobScript(job_id=f"job-{index}"))

    _, first = await customer.request("/list-jobs?limit=3")
    customer.simulator.add(JobScript(job_id="new"))
    customer.simulator.remove(removed)
    _, second = await customer.request(f"/list-jobs?limit=3&cursor={first['next_cursor']}")

    assert [job["job_id"] for job in first["jobs"]] == ["job-4", "job-3", "job-2"]
    assert [job["job_id"] for job in second["jobs"]] == ["job-1", "job-0"]
    assert second["next_cursor"] is None


async def test_last_page_that_is_full(customer: SimulatorClient) -> None:
    """A page that ends with the oldest job has no cursor."""
    customer.simulator.add(JobScript(job_id="job-1"))

    _, body = await customer.request("/list-jobs?limit=1")

    assert (len(body["jobs"]), body["next_cursor"]) == (1, None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit: "),
        ("limit=101", "limit: "),
        ("limit=many", "limit: "),
        ("cursor=%C3%A9", "this is no cursor"),
        ("cursor=abcd", "this is no cursor"),
    ],
)
async def test_list_refuses_a_bad_query(customer: SimulatorClient, query: str, words: str) -> None:
    """A limit outside 1 to 100 and a cursor that the API never gave are answered 422."""
    status, body = await customer.request(f"/list-jobs?{query}")

    assert status == 422
    assert words in body["message"]


@pytest.mark.parametrize("path", ["/jobs/job-1", "/list-jobs", "/job-status/job-1"])
async def test_wrong_key(customer: SimulatorClient, path: str) -> None:
    """A request with another key gets 401 and a message, and no job."""
    customer.simulator.add(JobScript(job_id="job-1"))
    customer.key = "sk_other"

    assert await customer.request(path) == (401, {"message": "The API key is not valid."})


@pytest.mark.parametrize("path", ["/jobs/job-1", "/list-jobs", "/job-status/job-1"])
async def test_both_prefixes(customer: SimulatorClient, path: str) -> None:
    """The API answers alike under /v1 and under no prefix."""
    customer.simulator.add(JobScript(job_id="job-1"))

    bare, prefixed = await customer.request(path), await customer.request(f"/v1{path}")

    assert bare == prefixed
    assert bare[0] == 200


async def test_one_prefix_alone() -> None:
    """A path outside the prefixes gets a 404 that is not the API's."""
    simulator = Simulator(prefixes=("/v1",))
    async with (
        serve(simulator) as base,
        aiohttp.ClientSession() as session,
        session.get(f"{base}/jobs/job-1") as answer,
    ):
        text = await answer.text()

    assert (answer.status, text) == (404, "404: Not Found")
    assert [entry.status for entry in simulator.log] == [404]


async def test_date_is_of_the_clock_that_jobs_live_by(customer: SimulatorClient) -> None:
    """The Date of an answer agrees with the times in it, in virtual time too."""
    await customer.request("/list-jobs")

    assert parsedate_to_datetime(customer.response.headers["Date"]).timestamp() == START


async def test_requests_are_counted_and_logged(customer: SimulatorClient) -> None:
    """Each request is counted by kind and logged with its time, path and status."""
    await customer.request("/v1/jobs/job-1")
    await customer.request("/list-jobs?limit=5")

    assert customer.simulator.requests == {"jobs": 1, "list-jobs": 1}
    assert list(customer.simulator.log) == [
        (START, "GET", "/v1/jobs/job-1", 404),
        (START, "GET", "/list-jobs?limit=5", 200),
    ]


async def test_the_simulator_listens_on_loopback_only() -> None:
    """The simulator does not listen on an address that other machines could reach."""
    async with serve(Simulator()) as base:
        port = URL(base).port

        with pytest.raises(OSError, match="connection"):
            await anyio.connect_tcp("127.0.0.2", port or 0)


async def test_port_that_is_taken(customer: SimulatorClient) -> None:
    """A port that is in use is the person's to change."""
    port = URL(customer.base).port

    with pytest.raises(ConfigError, match=f"port {port}"):
        async with serve(Simulator(), port=port or 0):
            pytest.fail("it listens")
