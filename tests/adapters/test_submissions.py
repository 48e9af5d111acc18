"""Jobs are submitted to the simulator as the official SDK does it."""

import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest

from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator
from tests.support.simulator_client import SimulatorClient, simulator_client

SDK_BODY = {
    "model": "gpt-oss-20b",
    "inputs": ["one", "two", "three"],
    "job_priority": 1,
    "json_schema": {"type": "object"},
    "system_prompt": "Be brief.",
    "cost_estimate": False,
    "sampling_params": {"temperature": 0.1},
    "random_seed_per_input": False,
    "truncate_rows": True,
    "name": "Mine",
    "description": "a test",
}


@pytest.fixture
async def customer() -> AsyncIterator[SimulatorClient]:
    """Serve a simulator to a customer whose clock stands still."""
    async with simulator_client() as somebody:
        yield somebody


async def submit(customer: SimulatorClient, script: dict[str, Any] | None = None) -> Any:
    """Submit a job, with the script of a header if there is one; return its job object."""
    headers = {} if script is None else {"Simulator-Script": json.dumps(script)}
    async with customer.session.post(
        f"{customer.base}/v1/batch-inference",
        headers=headers | {"Authorization": f"Key {customer.key}"},
        json=SDK_BODY,
    ) as response:
        body = await response.json()
    assert response.status == 200, body
    return (await customer.request(f"/jobs/{body['results']}"))[1]["job"]


async def test_submission_becomes_a_job(customer: SimulatorClient):
    """The response has the ID where the SDK reads it, and the job has what was submitted."""
    status, body = await customer.request("/v1/batch-inference", "POST", **SDK_BODY)
    _, listed = await customer.request("/list-jobs")

    (job,) = listed["jobs"]
    assert (status, body["results"], body["metadata"]["job_id"]) == (200, "job-1", "job-1")
    assert (job["job_id"], job["status"], job["num_rows"]) == ("job-1", "QUEUED", 3)
    assert job["job_priority"] == 1
    for name in ("model", "name", "description", "system_prompt", "json_schema", "sampling_params"):
        assert job[name] == SDK_BODY[name]


async def test_submission_needs_only_model_and_inputs(customer: SimulatorClient):
    """What the SDK sends as null, and what a request leaves out, is null in the job."""
    _, body = await customer.request(
        "/batch-inference", "POST", model="m", inputs="https://x/y.csv"
    )
    _, shown = await customer.request(f"/jobs/{body['results']}")

    assert shown["job"]["sampling_params"] == {}
    assert shown["job"]["name"] is shown["job"]["json_schema"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "m"},
        {"inputs": ["a"]},
        {"model": "m", "inputs": []},
        {"model": "m", "inputs": ["a"], "job_priority": 2},
    ],
)
async def test_bad_submission_is_rejected(customer: SimulatorClient, fields: dict[str, Any]):
    """A bad submission gets a 422 with a message, creates no job and takes no chosen script."""
    customer.simulator.next_submissions.append({"job_id": "next"})

    status, body = await customer.request("/batch-inference", "POST", **fields)

    assert (status, list(body)) == (422, ["message"])
    assert not customer.simulator.job_ids
    assert customer.simulator.next_submissions


async def test_submission_needs_the_key(customer: SimulatorClient):
    """Like every request to the API, a submission without the API key gets a 401."""
    customer.key = "sk_other"

    assert (await customer.request("/batch-inference", "POST", **SDK_BODY))[0] == 401


async def test_large_submission_is_accepted(customer: SimulatorClient):
    """A submission may be larger than the megabyte that aiohttp accepts by default."""
    body = BytesIO(json.dumps({"model": "m", "inputs": ["x" * 2_000_000]}).encode())
    headers = {"Authorization": f"Key {customer.key}"}
    url = f"{customer.base}/batch-inference"
    async with customer.session.post(url, headers=headers, data=body) as response:
        assert response.status == 200


async def test_header_chooses_the_script(customer: SimulatorClient):
    """With a header, a client chooses ID, outcome, duration and cost of its submission."""
    script = {"job_id": "mine", "queue_seconds": 0, "run_seconds": 3, "cost": 1.25}
    first = await submit(customer, script)
    failed = await submit(customer, {"ends_as": "failed", "run_seconds": 1, "queue_seconds": 1})
    customer.clock.now += 3
    _, mine = await customer.request("/jobs/mine")
    _, other = await customer.request(f"/jobs/{failed['job_id']}")

    assert (first["job_id"], first["status"]) == ("mine", "RUNNING")
    assert (mine["job"]["status"], mine["job"]["job_cost"]) == ("SUCCEEDED", 1.25)
    assert (other["job"]["status"], other["job"]["name"]) == ("FAILED", "Mine")


async def test_bad_header_is_rejected(customer: SimulatorClient):
    """A header with a bad field gets a 422 that names it, and creates no job."""
    headers = {"Simulator-Script": '{"colour": "red"}', "Authorization": f"Key {customer.key}"}
    url = f"{customer.base}/batch-inference"
    async with customer.session.post(url, headers=headers, json=SDK_BODY) as response:
        body = await response.json()

    assert (response.status, body["message"][:8]) == (422, "colour: ")
    assert not customer.simulator.job_ids


async def test_next_submissions_are_chosen_one_by_one(customer: SimulatorClient):
    """Posted scripts go to the next submissions in their order; the one after is as any other."""
    for fields in ({"job_id": "a", "name": "A"}, {"job_id": "b"}):
        status, _ = await customer.request("/simulator/submissions", "POST", **fields)
        assert status == 204

    jobs = [await submit(customer) for _ in range(3)]

    assert [job["job_id"] for job in jobs] == ["a", "b", "job-3"]
    assert [job["name"] for job in jobs] == ["A", "Mine", "Mine"]


async def test_header_leaves_the_next_script_to_the_next(customer: SimulatorClient):
    """A submission with a script of its own takes none that was chosen for the next."""
    await customer.request("/simulator/submissions", "POST", job_id="a")

    jobs = [await submit(customer, script) for script in ({"job_id": "own"}, None)]

    assert [job["job_id"] for job in jobs] == ["own", "a"]


async def test_submission_with_a_taken_id_is_rejected(customer: SimulatorClient):
    """A chosen ID that a job has already gets a 409."""
    customer.simulator.add(JobScript(job_id="a"))
    await customer.request("/simulator/submissions", "POST", job_id="a")

    status, body = await customer.request("/batch-inference", "POST", **SDK_BODY)

    assert (status, body) == (409, {"message": "there is a job with ID a already"})


async def test_scripts_take_turns():
    """The simulator's own scripts take turns, and each chooses its ID once."""
    simulator = Simulator(suffix="-1f", submissions=({"job_id": "a", "rows": 1}, {"rows": 2}))
    taken = []
    for _ in range(3):
        taken.append(simulator.take_submission())
        simulator.add(JobScript(**{"job_id": simulator.free_id()} | taken[-1]))

    assert taken == [{"job_id": "a", "rows": 1}, {"rows": 2}, {"rows": 1}]
    assert list(simulator.job_ids) == ["a", "job-2-1f", "job-3-1f"]


async def test_fault_of_a_job_concerns_its_own_requests(customer: SimulatorClient):
    """The fault of a script fails requests about its job, and no other; the list shows the job."""
    customer.simulator.next_submissions.append(
        {"job_id": "odd", "fault": {"status": 403, "count": 2}}
    )
    await customer.request("/batch-inference", "POST", **SDK_BODY)
    customer.simulator.add(JobScript(job_id="job-1"))

    paths = ("/jobs/job-1", "/list-jobs", "/jobs/odd", "/job-status/odd", "/jobs/odd")
    statuses = [(await customer.request(path))[0] for path in paths]

    assert statuses == [200, 200, 403, 403, 200]


async def test_submission_itself_fails(customer: SimulatorClient):
    """A fault with the path of submissions fails the next one."""
    customer.simulator.faults.append(Fault(status=503, path="batch-inference"))

    statuses = [
        (await customer.request("/batch-inference", "POST", **SDK_BODY))[0] for _ in range(2)
    ]

    assert statuses == [503, 200]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_running_job_is_cancelled(customer: SimulatorClient, method: str):
    """A running job that is cancelled is CANCELLING for a moment; a queued one ends at once."""
    customer.simulator.add(JobScript(job_id="a", queue_seconds=0))
    customer.simulator.add(JobScript(job_id="b", queue_seconds=60, ends_as="failed"))
    customer.clock.now += 9

    responses = [await customer.request(f"/job-cancel/{job_id}", method) for job_id in "ab"]
    seen = [(await customer.request(f"/jobs/{job_id}"))[1]["job"]["status"] for job_id in "ab"]
    customer.clock.now += 2
    _, late = await customer.request("/jobs/a")

    assert [(status, body["cancelled"]) for status, body in responses] == [(200, True)] * 2
    assert seen == ["CANCELLING", "CANCELLED"]
    assert late["job"]["status"] == "CANCELLED"


async def test_ended_job_is_not_cancelled(customer: SimulatorClient):
    """A job that has ended stays as it is."""
    customer.simulator.add(JobScript(job_id="a", queue_seconds=0, run_seconds=0))

    response = await customer.request("/job-cancel/a")
    _, shown = await customer.request("/jobs/a")

    assert response == (200, {"cancelled": False, "message": "Job a has already ended"})
    assert shown["job"]["status"] == "SUCCEEDED"


async def test_results_after_success(customer: SimulatorClient):
    """There is one output for each row, once the job has succeeded."""
    customer.simulator.add(JobScript(job_id="a", rows=2))

    before, _ = await customer.request("/job-results", "POST", job_id="a")
    customer.clock.now += 25
    after, body = await customer.request("/job-results", "POST", job_id="a", include_inputs=False)

    assert (before, after) == (400, 200)
    assert body["results"] == {"outputs": ["Simulated output 1", "Simulated output 2"]}


async def test_progress_of_a_job_that_ends_at_once(customer: SimulatorClient):
    """A job without a run time has no row done until it ends."""
    customer.simulator.add(JobScript(job_id="a", rows=7, queue_seconds=5, run_seconds=0))
    _, queued = await customer.request("/stream-job-progress/a")
    customer.clock.now += 5
    _, ended = await customer.request("/stream-job-progress/a")

    assert (queued["result"], ended["result"]) == (0, 7)


async def test_progress_of_this_moment(customer: SimulatorClient):
    """The progress stream has one line with the rows that are done, and ends."""
    customer.simulator.add(JobScript(job_id="a", rows=40, queue_seconds=5, run_seconds=20))
    rows = []
    for _ in range(4):
        _, update = await customer.request("/stream-job-progress/a")
        rows.append((update["update_type"], update["result"]))
        customer.clock.now += 10

    assert rows == [("progress", done) for done in (0, 10, 30, 40)]


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/job-cancel/a", {}),
        ("GET", "/stream-job-progress/a", {}),
        ("POST", "/job-results", {"job_id": "a"}),
    ],
)
async def test_unknown_job(
    customer: SimulatorClient, method: str, path: str, fields: dict[str, Any]
):
    """A job that the API does not show is a 404 with the API's message."""
    response = await customer.request(path, method, **fields)

    assert response == (404, {"message": "No job found with ID a"})
