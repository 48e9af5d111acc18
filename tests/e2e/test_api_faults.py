"""A failing API loses no event, and gets no unwanted request."""

import signal
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import pytest

from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Entry, serve
from tests.support.daemon_process import Place
from tests.support.ports import reserved_port
from tests.support.secret_canaries import KEY, NEW_KEY
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

RUNNING_JOB = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=600.0)
ENDED_JOB = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)


def is_survived(status: str, number: int) -> bool:
    """Return whether a process ignores or handles a signal, given its /proc/PID/status."""
    masks = [
        line.split()[1] for line in status.splitlines() if line.startswith(("SigIgn:", "SigCgt:"))
    ]
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def responses(place: Place, status: int) -> list[Entry]:
    """Return the API's responses of one status so far."""
    return [entry for entry in place.api.log if entry.status == status]


@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
async def test_retry_after_pauses_requests(place: Place, *, is_date: bool):
    """After a 429 with Retry-After no request comes before its end, and one comes after."""
    async with place.running("run", POLLER_JOB_IDS=place.jobs(RUNNING_JOB)):
        await until(lambda: responses(place, 200))
        pause = formatdate(now() + 2.0, usegmt=True) if is_date else "1"
        place.api.faults.append(Fault(status=429, retry_after=pause))
        (throttled,) = await until(lambda: responses(place, 429))
        after = await until(lambda: [entry for entry in place.api.log if entry.at > throttled.at])

    # A date counts from the Date of its response, which has whole seconds.
    seconds = parsedate_to_datetime(pause).timestamp() - int(throttled.at) if is_date else 1.0
    assert after[0].at - throttled.at >= seconds


async def test_replaced_api_key_loses_nothing(place: Place, tmp_path: Path):
    """A rejected API key and its return are reported; SIGHUP tries the new one at once."""
    key = tmp_path / "key"
    key.write_text(KEY, "utf-8")
    settings = {"SUTRO_API_KEY": None, "SUTRO_API_KEY_FILE": str(key)}
    place.jobs(RUNNING_JOB)
    async with place.running("run", POLLER_JOB_IDS="job-1,job-2", **settings) as daemon:
        await until(lambda: responses(place, 200))
        place.api.key = NEW_KEY
        await until(lambda: [line for line in daemon.said("poll.failed") if "401" in line["error"]])
        place.jobs(ENDED_JOB)
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.saying("poller.auth_failed")
        key.write_text(NEW_KEY, "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.saying("poller.auth_recovered")
        await until(lambda: place.receiver.ends)
        await daemon.stop()

    throttled = [line["event"] for line in daemon.lines if line["event"].startswith("poller.auth")]
    assert throttled == ["poller.auth_failed", "poller.auth_recovered"]
    assert place.receiver.ends == ["job-2"]
    assert (
        len(responses(place, 401)) <= 3
    )  # one for each job with a request in flight, and one probe


async def test_missing_job_and_its_return_are_reported(place: Place, tmp_path: Path):
    """A job that is unknown for long is missing, then found, then watched on."""
    # A missing job is polled once an hour, which no setting shortens.
    (tmp_path / "sitecustomize.py").write_text(
        "import poller.core.pacing as pacing\npacing.MISSING_INTERVAL = 0.1\n", "utf-8"
    )
    settings = {
        "PYTHONPATH": str(tmp_path),
        "POLLER_JOB_IDS": "job-1",
        "POLLER_NOT_FOUND_GRACE": "0.2s",
        "POLLER_WEBHOOK_EVENTS": "*",
    }
    async with place.running("run", **settings) as daemon:
        await until(lambda: place.receiver.received)
        place.jobs(RUNNING_JOB)
        await until(lambda: len(place.receiver.received) == 3)
        await daemon.stop()

    throttled = [event.type for event in place.receiver.received]
    assert throttled == ["job.missing", "job.found", "job.started"]


async def test_api_outage_at_start_is_retried(place: Place):
    """A daemon that starts while the API is down reports the end of the job later."""
    with reserved_port() as port:
        settings = {
            "POLLER_JOB_IDS": place.jobs(ENDED_JOB),
            "SUTRO_API_URL": f"http://127.0.0.1:{port}",
        }
        async with place.running("run", **settings) as daemon:
            await daemon.saying("poll.failed")
            async with serve(place.api, port=port):
                await until(lambda: place.receiver.ends)
            code = await daemon.stop()

    assert code == 0
    assert place.receiver.ends == ["job-2"]


async def test_jobs_file_may_appear_and_grow(place: Place, tmp_path: Path):
    """IDs are read once the file exists, and again on SIGHUP."""
    jobs = tmp_path / "jobs"
    place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0), ENDED_JOB)
    async with place.running("run", POLLER_JOBS_FILE=str(jobs)) as daemon:
        await daemon.saying("jobs_file.unreadable")
        jobs.write_text("job-1  # the first\n", "utf-8")
        await until(lambda: place.receiver.ends == ["job-1"])
        jobs.write_text("job-1\njob-2\n", "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: place.receiver.ends == ["job-1", "job-2"])
        await daemon.saying("poller.reloaded")
        await daemon.stop()

    assert len(daemon.said("poller.reloaded")) == 1


async def test_reload_during_the_start_is_ignored(place: Place):
    """SIGHUP during the imports of a start does not end the daemon."""
    async with place.running("run", POLLER_JOB_IDS=place.jobs(RUNNING_JOB)) as daemon:
        status = Path(f"/proc/{daemon.process.pid}/status")
        await until(lambda: is_survived(status.read_text("utf-8"), signal.SIGHUP))
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.saying("poller.started")

        assert await daemon.stop() == 0
