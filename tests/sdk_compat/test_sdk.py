"""The official SDK accepts the simulator as the API, and shows what the daemon reports."""

from typing import Any, Final

import anyio
import pytest

from poller.core.errors import NotFound, Unauthorized
from poller.core.parsing import parse_job
from poller.sutro.simulator.script import JobScript
from tests.sdk_compat.sdk_process import SdkClient, SdkView
from tests.support.client_polls import client
from tests.support.daemon_process import Daemon, Place
from tests.support.secret_canaries import KEY
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.sdk]

MESSAGES: Final = {
    "succeeded": {"Job already completed."},
    "failed": {"Job has failed", "Job is in failed state."},
    "cancelled": {"Job has been cancelled", "Job was cancelled."},
}
"""The SDK's messages for each end, first while it waits, then as it attaches to the job."""


ENDS: Final = {f"job.{outcome}" for outcome in MESSAGES}


def scripts(*, queue: float = 0.0, run: float = 0.0) -> list[JobScript]:
    """Return a job of each outcome, whose id is the outcome."""
    return [
        JobScript(job_id=ends_as, ends_as=ends_as, queue_seconds=queue, run_seconds=run)
        for ends_as in ("succeeded", "failed", "cancelled")
    ]


async def test_sdk_and_daemon_report_the_same_ends(place: Place, sdk: SdkClient):
    """The SDK's status and the daemon's event agree on each job."""
    views: dict[str, SdkView] = {}

    async def view(job_id: str) -> None:
        views[job_id] = await sdk.wait_for(job_id)

    jobs = place.jobs(*scripts(queue=3.0, run=5.0))
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        async with anyio.create_task_group() as waiting:
            for job_id in jobs.split(","):
                waiting.start_soon(view, job_id)
        await until(lambda: len(place.receiver.ends) >= 3)
        await daemon.stop()

    ends = {event.subject: event.type for event in place.receiver.received}
    messages = set().union(*MESSAGES.values())
    printed = {
        ends_as: {word for word in messages if word in views[ends_as].printed}
        for ends_as in MESSAGES
    }
    assert len(place.receiver.received) == 3
    assert {ends_as: view.status for ends_as, view in views.items()} == {
        word: word.upper() for word in MESSAGES
    }
    assert ends == {
        ends_as: f"job.{(view.status or '').lower()}" for ends_as, view in views.items()
    }
    assert printed == MESSAGES


def logged_jobs(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """Return the jobs of the events in the log, by their ids."""
    return {line["job"]["job_id"]: line["job"] for line in daemon.lines if "event_id" in line}


async def test_submissions_of_the_sdk_have_their_events(place: Place, sdk: SdkClient):
    """The SDK submits, waits, cancels and stays attached; the daemon reports each chosen end."""
    for fields in (
        {"job_id": "waited", "queue_seconds": 0, "run_seconds": 3, "cost": 0.5},
        {"job_id": "cancelled", "queue_seconds": 0, "run_seconds": 600},
        {"job_id": "attached", "queue_seconds": 0, "run_seconds": 3},
        {"job_id": "estimated", "queue_seconds": 0, "run_seconds": 0},
    ):
        place.api.next_submissions.append(fields)
    settings = {"POLLER_DISCOVER": "on", "POLLER_DISCOVER_INTERVAL": "0.2s"}
    async with place.running("run", **settings) as daemon:
        await daemon.saying("poller.started")
        submitted = await sdk.submit()
        # The cancelled job is CANCELLING for a ninth of the time that it ran.
        await until(lambda: len(place.receiver.ends) >= 4 and len(logged_jobs(daemon)) >= 4)
        await daemon.stop()

    ends = {event.subject: event.type for event in place.receiver.received if event.type in ENDS}
    jobs = logged_jobs(daemon)
    assert submitted.job_ids == ["waited", "cancelled", "attached", "estimated"]
    assert submitted.outputs == [f"Simulated output {number}" for number in (1, 2, 3)]
    assert submitted.cancellation["cancelled"] is True
    assert "Job results received" in submitted.printed
    assert "Cost estimates retrieved for job estimated: $" in submitted.printed
    assert ends == dict.fromkeys(submitted.job_ids, "job.succeeded") | {
        "cancelled": "job.cancelled"
    }
    assert (jobs["waited"]["job_cost"], jobs["waited"]["num_rows"]) == (0.5, 3)


async def test_event_has_the_fields_that_the_sdk_lists(place: Place, sdk: SdkClient):
    """Each field of the job in an event has the name and the value that the SDK lists."""
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*scripts())) as daemon:
        await until(lambda: len(place.receiver.ends) >= 3 and len(logged_jobs(daemon)) >= 3)
        await daemon.stop()
    listed = (await sdk.wait_for("succeeded")).jobs or []

    jobs = logged_jobs(daemon)
    assert [job["job_id"] for job in listed] == ["cancelled", "failed", "succeeded"]
    assert jobs == {
        job["job_id"]: {name: job[name] for name in jobs[job["job_id"]]} for job in listed
    }


async def test_client_and_sdk_get_the_same_jobs(place: Place, sdk: SdkClient):
    """From one SUTRO_API_URL, client and SDK find the same prefix, jobs and status."""
    place.jobs(*scripts())
    view = await sdk.wait_for("failed")
    paths = [entry.path for entry in place.api.log]
    async with client(place.api_url, KEY) as api:
        jobs = [await api.get_job(job_id) for job_id in ("cancelled", "failed", "succeeded")]
        status = await api.get_status("failed")

    assert jobs == [parse_job(job) for job in view.jobs or []]
    assert status.status == view.status
    assert api.base == f"{place.api_url}/v1"
    assert all(path.startswith("/v1/") for path in paths)


async def test_unknown_job_is_reported_by_both(place: Place, sdk: SdkClient):
    """The API's 404 is reported by both."""
    view = await sdk.wait_for("job-9")
    async with client(place.api_url, KEY) as api:
        with pytest.raises(NotFound):
            await api.get_job("job-9")

    assert view.status is None
    assert "Bad status code: 404" in view.printed
    assert "{'message': 'No job found with ID job-9'}" in view.printed


async def test_rejected_key_is_reported_by_both(place: Place, sdk: SdkClient):
    """The API's 401 is reported by both."""
    view = await sdk.wait_for("job-1", key="sk_other")
    async with client(place.api_url, "sk_other") as api:
        with pytest.raises(Unauthorized):
            await api.get_job("job-1")

    assert (view.status, view.jobs) == (None, None)
    assert "Bad status code: 401" in view.printed


async def test_sdk_command_lists_the_jobs(place: Place, sdk: SdkClient):
    """`sutro jobs list` parses the timestamps, and shows how and when each job ended."""
    place.jobs(*scripts())
    rows = await sdk.list()

    jobs = [life.as_object(place.api.now()) for life in place.api.page(None, None)]
    assert [row["status"] for row in rows] == ["CANCELLED", "FAILED", "SUCCEEDED"]
    for row, job in zip(rows, jobs, strict=True):
        day, time = job["datetime_completed"].split("T")
        assert (row["job_id"], row["status"]) == (job["job_id"], job["status"])
        assert row["datetime_completed"] == f"{day} {time[:8]} UTC"
