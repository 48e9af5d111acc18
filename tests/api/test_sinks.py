"""Sinks and the status of the daemon in the HTTP API."""

from pathlib import Path

import pytest

from poller import __version__
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_sinks_list(daemon: LiveDaemon):
    """Each sink is listed with its backlog, without its address."""
    await until(lambda: daemon.receiver.ends)
    sinks = (await daemon.get("/v1/sinks")).body["sinks"]

    assert [(sink["sink"], sink["state"], sink["dead"]) for sink in sinks] == [
        ("log", "enabled", 0),
        ("webhook", "enabled", 0),
    ]


async def test_sinks_enable(tmp_path: Path):
    """A sink that a 410 disabled is enabled again, and its deliveries are sent."""
    async with live_daemon(tmp_path, RUNS, ENDS, status=410, POLLER_JOB_IDS="job-2") as daemon:
        await until(lambda: any(row["dead"] for row in daemon.app._store.admin().sinks()))
        status = (await daemon.get("/v1/status")).body
        daemon.receiver.status = 204
        on = await daemon.post("/v1/sinks/webhook/enable")
        again = await daemon.post("/v1/sinks/webhook/enable")
        await until(lambda: daemon.receiver.ends)

    (webhook,) = [sink for sink in status["sinks"] if sink["sink"] == "webhook"]
    assert (webhook["enabled"], webhook["dead"]) == (False, 1)
    assert on.body == {"sink": "webhook", "was_disabled": True, "pending_again": 1}
    assert again.body == {"sink": "webhook", "was_disabled": False, "pending_again": 0}


async def test_sinks_test(daemon: LiveDaemon):
    """A test event is sent at once, signed, and the response reports the delivery."""
    response = (await daemon.post("/v1/sinks/webhook/test")).body

    tests = [receipt.id for receipt in daemon.receiver.received if receipt.type == "poller.test"]
    assert response == {"sink": "webhook", "event_id": tests[0], "delivered": True, "reason": None}


async def test_sinks_test_reports_a_failure(tmp_path: Path):
    """A failed test has the reason, without the address; nothing of it is stored."""
    async with live_daemon(tmp_path, RUNS, status=500) as daemon:
        response = (await daemon.post("/v1/sinks/webhook/test")).body
        events = (await daemon.get("/v1/events?type=poller.test")).body["events"]

    assert (response["delivered"], response["reason"]) == (False, "the receiver returned 500")
    assert events == []


async def test_sinks_explain(tmp_path: Path):
    """The decision about each event of a job is served for each sink, with the setting."""
    async with live_daemon(tmp_path, RUNS, ENDS, POLLER_WEBHOOK_MIN_DURATION="1h") as daemon:
        await daemon.wait_for_job("job-1", "RUNNING")
        await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        running = (await daemon.get("/v1/jobs/job-1/sinks")).body["decisions"]
        ended = (await daemon.get("/v1/jobs/job-2/sinks")).body["decisions"]
        unknown = await daemon.get("/v1/jobs/job-9/sinks")
        await until(lambda: "job-2" in [row["job_id"] for row in daemon.log if "job_id" in row])

    (webhook,) = [row for row in ended if row["sink"] == "webhook" and row["recorded_as"]]
    assert webhook["type"] == "job.succeeded"
    assert not webhook["routed"]
    assert webhook["reason"] == "POLLER_WEBHOOK_MIN_DURATION: 0s is less than 1h0m"
    assert webhook["delivery"] is None
    (failed,) = [row for row in running if (row["type"], row["sink"]) == ("job.failed", "webhook")]
    assert failed["routed"]
    assert failed["reason"] == "POLLER_WEBHOOK_MIN_DURATION: is decided when the job ends"
    assert unknown.problem == "not-found"
    assert daemon.receiver.ends == []


@pytest.mark.parametrize("act", ["enable", "test"])
@pytest.mark.parametrize(("name", "problem"), [("nobody", "not-found"), ("No", "invalid")])
async def test_sinks_reject_unknown_names(daemon: LiveDaemon, act: str, name: str, problem: str):
    """A sink that is not configured can neither be tested nor enabled."""
    assert (await daemon.post(f"/v1/sinks/{name}/{act}")).problem == problem


async def test_sinks_test_lists_the_configured_sinks(daemon: LiveDaemon):
    """The problem of an unknown sink lists those that are configured."""
    detail = (await daemon.post("/v1/sinks/nobody/test")).body["detail"]

    assert detail == "no such sink; configured: log, webhook"


@pytest.mark.parametrize("act", ["enable", "test"])
async def test_sinks_reject_a_body(daemon: LiveDaemon, act: str):
    """A body is rejected, and nothing is done."""
    response = await daemon.post(f"/v1/sinks/webhook/{act}", {"dry_run": True})

    assert (response.status, response.problem) == (400, "invalid")
    assert "poller.test" not in [receipt.type for receipt in daemon.receiver.received]


async def test_status_of_a_working_daemon(daemon: LiveDaemon):
    """The status has the version, readiness, jobs and backlogs."""
    status = (await daemon.get("/v1/status")).body

    assert (status["version"], status["ready"], status["issues"]) == (__version__, True, [])
    assert status["jobs"] == {"RUNNING": 1, "SUCCEEDED": 1}
    assert status["api"]["last_response_at"]
    assert status["api"]["failing_since"] is None
    assert status["store"] == {"id": daemon.app.status.database_id, "error": None}
    assert [sink["sink"] for sink in status["sinks"]] == ["log", "webhook"]


async def test_status_reports_a_rejected_key(tmp_path: Path):
    """A rejected API key is an issue with a remedy; the daemon stays ready."""
    async with live_daemon(tmp_path, RUNS) as daemon:
        await daemon.wait_for_job("job-1", "RUNNING")
        daemon.api.key = "another"
        gate = daemon.app.status.rate_limiter.gate
        await until(lambda: gate.opens_at)
        daemon.app.reload()
        await until(lambda: gate.is_rejected)
        status = (await daemon.get("/v1/status")).body

    (issue,) = [issue for issue in status["issues"] if issue["name"] == "api_key_rejected"]
    assert "set SUTRO_API_KEY" in issue["remedy"]
    assert status["ready"]
