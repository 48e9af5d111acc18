"""The simulator is steered by people: jobs come and go, requests fail, the key changes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript
from tests.support.simulator_client import SimulatorClient, simulator_client


@pytest.fixture
async def customer() -> AsyncIterator[SimulatorClient]:
    """Serve a simulator to a customer whose clock stands still."""
    async with simulator_client() as somebody:
        yield somebody


async def test_fault_for_so_many_requests(customer: SimulatorClient) -> None:
    """A fault answers as many requests as it says, and then the API answers again."""
    status, _ = await customer.request(
        "/simulator/faults", "POST", status=429, count=2, retry_after="5"
    )

    seen = [
        ((await customer.request("/list-jobs"))[0], customer.response.headers.get("Retry-After"))
        for _ in range(3)
    ]

    assert status == 204
    assert seen == [(429, "5"), (429, "5"), (200, None)]


async def test_fault_of_one_kind(customer: SimulatorClient) -> None:
    """A fault with a path leaves the other requests alone."""
    customer.simulator.faults.append(Fault(status=503, path="list-jobs"))
    customer.simulator.faults.append(Fault(status=524))

    seen = [(await customer.request(path))[0] for path in ("/jobs/a", "/list-jobs", "/jobs/a")]

    assert seen == [524, 503, 404]


async def test_faults_come_before_the_key(customer: SimulatorClient) -> None:
    """An edge that fails does not look at the key."""
    customer.simulator.faults.append(Fault(status=502))
    customer.key = "sk_other"

    assert (await customer.request("/list-jobs"))[0] == 502


async def test_faults_are_taken_back(customer: SimulatorClient) -> None:
    """After DELETE /simulator/faults no request fails any more."""
    customer.simulator.faults.append(Fault(status=500, count=1_000))

    status, _ = await customer.request("/simulator/faults", "DELETE")

    assert (status, (await customer.request("/list-jobs"))[0]) == (204, 200)


async def test_a_number_is_a_good_retry_after(customer: SimulatorClient) -> None:
    """A Retry-After may be posted as a number."""
    await customer.request("/simulator/faults", "POST", status=503, retry_after=7)

    await customer.request("/list-jobs")

    assert customer.response.headers["Retry-After"] == "7"


async def test_key_is_changed(customer: SimulatorClient) -> None:
    """After a change of key the old one is refused and the new one accepted."""
    await customer.request("/simulator/key", "POST", key="sk_new")

    old, _ = await customer.request("/list-jobs")
    customer.key = "sk_new"
    new, _ = await customer.request("/list-jobs")

    assert (old, new) == (401, 200)


async def test_job_is_created(customer: SimulatorClient) -> None:
    """A posted script becomes a job of that id."""
    answer = await customer.request("/simulator/jobs", "POST", job_id="mine", name="Mine", rows=7)
    _, seen = await customer.request("/jobs/mine")

    assert answer == (201, {"job_id": "mine"})
    assert (seen["job"]["name"], seen["job"]["num_rows"]) == ("Mine", 7)


async def test_job_is_created_with_a_row_of_its_own(customer: SimulatorClient) -> None:
    """A posted script also says how the list shows the job."""
    fields = {"listed_after": 5, "unlisted_after": 10, "is_row_stuck": True, "row": {"name": "x"}}
    await customer.request("/simulator/jobs", "POST", job_id="mine", queue_seconds=0, **fields)
    customer.clock.now += 5
    _, page = await customer.request("/list-jobs")

    assert [(job["job_id"], job["name"]) for job in page["jobs"]] == [("mine", "x")]


async def test_job_is_created_from_nothing(customer: SimulatorClient) -> None:
    """A post without a body makes a job under an id that is free."""
    customer.simulator.add(JobScript(job_id="job-2"))

    answer = await customer.request("/simulator/jobs", "POST")

    assert answer == (201, {"job_id": "job-3"})


async def test_job_id_that_is_taken(customer: SimulatorClient) -> None:
    """A second job of one id is refused."""
    customer.simulator.add(JobScript(job_id="job-1"))

    status, body = await customer.request("/simulator/jobs", "POST", job_id="job-1")

    assert status == 409
    assert body == {"message": "there is a job with ID job-1 already"}


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("jobs", {"ends_as": "lost"}, "ends_as: "),
        ("jobs", {"run_seconds": -1}, "run_seconds: "),
        ("jobs", {"queue_seconds": "soon"}, "queue_seconds: "),
        ("jobs", {"rows": 0}, "rows: "),
        ("jobs", {"job_id": "a b"}, "job_id: "),
        ("jobs", {"job_id": ".."}, "job_id: "),
        ("jobs", {"colour": "red"}, "colour: "),
        ("jobs", {"listed_after": -1}, "listed_after: "),
        ("jobs", {"row": "RUNNING"}, "row: "),
        ("jobs", {"cost": -1}, "cost: "),
        ("jobs", {"fault": {"status": 200}}, "fault.status: "),
        ("submissions", {"ends_as": "lost"}, "ends_as: "),
        ("faults", {"status": 200}, "status: "),
        ("faults", {"count": 3}, "status: "),
        ("faults", {"status": 429, "path": "elsewhere"}, "path: "),
        ("faults", {"status": 429, "retry_after": "5\r\nX: y"}, "retry_after: "),
        ("key", {"key": ""}, "key: "),
        ("key", {"other": "x"}, "key: "),
    ],
)
async def test_bad_field(
    customer: SimulatorClient, path: str, fields: dict[str, Any], named: str
) -> None:
    """A bad field is answered 422 with its name and its rule."""
    status, body = await customer.request(f"/simulator/{path}", "POST", **fields)

    assert status == 422
    assert named in body["message"]


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"1", b"null"])
async def test_body_that_is_no_object(customer: SimulatorClient, body: bytes) -> None:
    """A body that is no JSON object is answered 422 with a message."""
    async with customer.session.post(f"{customer.base}/simulator/jobs", data=body) as answer:
        message = (await answer.json())["message"]

    assert answer.status == 422
    assert message[0].isupper()


async def test_job_is_removed(customer: SimulatorClient) -> None:
    """A removed job is unknown to the API, and cannot be removed twice."""
    customer.simulator.add(JobScript(job_id="job-1"))

    first, _ = await customer.request("/simulator/jobs/job-1", "DELETE")
    second, _ = await customer.request("/simulator/jobs/job-1", "DELETE")

    assert (first, second, (await customer.request("/jobs/job-1"))[0]) == (204, 404, 404)
