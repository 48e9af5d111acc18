"""The official SDK takes the simulator for the API, and tells of it what the daemon tells."""

from typing import Final

import anyio
import pytest

from poller.core.errors import NotFound, Unauthorized
from poller.core.parsing import parse_job
from poller.sutro.simulator.script import JobScript
from tests.sdk_compat.sdk_process import Visit, Witness
from tests.support.client_polls import client
from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.sdk]

WORDS: Final = {
    "succeeded": {"Job already completed."},
    "failed": {"Job has failed", "Job is in failed state."},
    "cancelled": {"Job has been cancelled", "Job was cancelled."},
}
"""What the SDK prints of each end, first while it waits for the job, then as it attaches to it."""


def scripts(*, queue: float = 0.0, run: float = 0.0) -> list[JobScript]:
    """Give a job of each ends_as, whose id is its ends_as."""
    return [
        JobScript(job_id=ends_as, ends_as=ends_as, queue_seconds=queue, run_seconds=run)
        for ends_as in ("succeeded", "failed", "cancelled")
    ]


async def test_the_sdk_and_the_daemon_tell_the_same_ends(place: Place, witness: Witness):
    """Of jobs that both wait for, the SDK's status and the daemon's event are of one word."""
    visits: dict[str, Visit] = {}

    async def visit(job_id: str) -> None:
        visits[job_id] = await witness.ask(job_id)

    jobs = place.jobs(*scripts(queue=3.0, run=5.0))
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        async with anyio.create_task_group() as waiting:
            for job_id in jobs.split(","):
                waiting.start_soon(visit, job_id)
        await until(lambda: len(place.receiver.ends) >= 3)
        await daemon.stop()

    ends = {it.subject: it.type for it in place.receiver.receipts}
    words = set().union(*WORDS.values())
    said = {ends_as: {it for it in words if it in visits[ends_as].said} for ends_as in WORDS}
    assert len(place.receiver.receipts) == 3
    assert {ends_as: it.status for ends_as, it in visits.items()} == {
        it: it.upper() for it in WORDS
    }
    assert ends == {ends_as: f"job.{(it.status or '').lower()}" for ends_as, it in visits.items()}
    assert said == WORDS


async def test_an_event_has_what_the_sdk_lists(place: Place, witness: Witness):
    """Each field of the job in an event has the name and the value that the SDK gives it."""
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*scripts())) as daemon:
        await until(lambda: len(place.receiver.ends) == 3)
        await daemon.stop()
    listed = (await witness.ask("succeeded")).jobs or []

    told = {it["job"]["job_id"]: it["job"] for it in daemon.lines if "event_id" in it}
    assert [it["job_id"] for it in listed] == ["cancelled", "failed", "succeeded"]
    assert told == {it["job_id"]: {name: it[name] for name in told[it["job_id"]]} for it in listed}


async def test_client_and_sdk_read_the_same(place: Place, witness: Witness):
    """From one SUTRO_API_URL both come to one prefix, to the same jobs and to the same status."""
    place.jobs(*scripts())
    visit = await witness.ask("failed")
    paths = [it.path for it in place.api.log]
    async with client(place.api_url, KEY) as api:
        jobs = [await api.get_job(job_id) for job_id in ("cancelled", "failed", "succeeded")]
        status = await api.get_status("failed")

    assert jobs == [parse_job(it) for it in visit.jobs or []]
    assert status.status == visit.status
    assert api.base == f"{place.api_url}/v1"
    assert all(it.startswith("/v1/") for it in paths)


async def test_a_job_that_nobody_knows(place: Place, witness: Witness):
    """The API's 404 is one for both."""
    visit = await witness.ask("job-9")
    async with client(place.api_url, KEY) as api:
        with pytest.raises(NotFound):
            await api.get_job("job-9")

    assert visit.status is None
    assert "Bad status code: 404" in visit.said
    assert "{'message': 'No job found with ID job-9'}" in visit.said


async def test_a_key_that_is_refused(place: Place, witness: Witness):
    """The API's 401 is one for both."""
    visit = await witness.ask("job-1", key="sk_other")
    async with client(place.api_url, "sk_other") as api:
        with pytest.raises(Unauthorized):
            await api.get_job("job-1")

    assert (visit.status, visit.jobs) == (None, None)
    assert "Bad status code: 401" in visit.said


async def test_the_command_of_the_sdk_lists_the_jobs(place: Place, witness: Witness):
    """`sutro jobs list` reads the times that it is given, and shows how and when each job ended."""
    place.jobs(*scripts())
    rows = await witness.list()

    jobs = [life.as_object(place.api.now()) for life in place.api.page(None, None)]
    assert [it["status"] for it in rows] == ["CANCELLED", "FAILED", "SUCCEEDED"]
    for row, job in zip(rows, jobs, strict=True):
        day, time = job["datetime_completed"].split("T")
        assert (row["job_id"], row["status"]) == (job["job_id"], job["status"])
        assert row["datetime_completed"] == f"{day} {time[:8]} UTC"
