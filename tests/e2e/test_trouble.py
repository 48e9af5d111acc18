"""An API in trouble costs no event, and gets no request that it did not want."""

import signal
import socket
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import pytest

from poller.sutro.simulator.requests import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Entry, serve
from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY, NEW_KEY
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

LONG = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=600.0)
ENDED = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)


def is_ignored(status: str, number: int) -> bool:
    """Tell from what the system says of a process whether it ignores a signal."""
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def answers(place: Place, status: int) -> list[Entry]:
    """Give the API's answers of one status so far."""
    return [it for it in place.api.log if it.status == status]


@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
async def test_nothing_is_asked_during_a_pause(place: Place, *, is_date: bool):
    """After a 429 with Retry-After no request comes before its end, and one comes after."""
    async with place.running("run", POLLER_JOB_IDS=place.jobs(LONG)):
        await until(lambda: answers(place, 200))
        pause = formatdate(now() + 2.0, usegmt=True) if is_date else "1"
        place.api.faults.append(Fault(status=429, retry_after=pause))
        (told,) = await until(lambda: answers(place, 429))
        after = await until(lambda: [it for it in place.api.log if it.at > told.at])

    # A date is counted from the Date of the answer that carries it, which has whole seconds.
    seconds = parsedate_to_datetime(pause).timestamp() - int(told.at) if is_date else 1.0
    assert after[0].at - told.at >= seconds


async def test_a_revoked_key_that_is_put_right_loses_nothing(place: Place, tmp_path: Path):
    """People are told of a refused key and of its return; SIGHUP tries the new one at once."""
    key = tmp_path / "key"
    key.write_text(KEY, "utf-8")
    settings = {"SUTRO_API_KEY": None, "SUTRO_API_KEY_FILE": str(key)}
    place.jobs(LONG)
    async with place.running("run", POLLER_JOB_IDS="job-1,job-2", **settings) as daemon:
        await until(lambda: answers(place, 200))
        place.api.key = NEW_KEY
        await until(lambda: [it for it in daemon.said("poll.failed") if "401" in it["error"]])
        place.jobs(ENDED)
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.saying("poller.auth_failed")
        key.write_text(NEW_KEY, "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.saying("poller.auth_recovered")
        await until(lambda: place.receiver.ends)
        await daemon.stop()

    told = [it["event"] for it in daemon.lines if it["event"].startswith("poller.auth")]
    assert told == ["poller.auth_failed", "poller.auth_recovered"]
    assert place.receiver.ends == ["job-2"]
    assert len(answers(place, 401)) <= 3  # one for each job that was being asked about, one trial


async def test_a_missing_job_is_told_and_so_is_its_return(place: Place, tmp_path: Path):
    """A job that the API does not know for long is missing, then found, then goes on."""
    # A missing job is asked about once an hour, which no setting shortens.
    (tmp_path / "sitecustomize.py").write_text(
        "import poller.core.lifecycle as lifecycle\nlifecycle.MISSING_INTERVAL = 0.1\n", "utf-8"
    )
    settings = {
        "PYTHONPATH": str(tmp_path),
        "POLLER_JOB_IDS": "job-1",
        "POLLER_NOT_FOUND_GRACE": "0.2s",
        "POLLER_WEBHOOK_EVENTS": "*",
    }
    async with place.running("run", **settings) as daemon:
        await until(lambda: place.receiver.receipts)
        place.jobs(LONG)
        await until(lambda: len(place.receiver.receipts) == 3)
        await daemon.stop()

    told = [it.type for it in place.receiver.receipts]
    assert told == ["job.missing", "job.found", "job.started"]


async def test_an_api_that_is_down_at_the_start_is_waited_for(place: Place):
    """Nobody listens at first; when somebody does, the job's end is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), SUTRO_API_URL=url) as daemon:
        await daemon.saying("poll.failed")
        async with serve(place.api, port=port):
            await until(lambda: place.receiver.ends)
        code = await daemon.stop()

    assert code == 0
    assert place.receiver.ends == ["job-2"]


async def test_a_jobs_file_may_appear_and_grow(place: Place, tmp_path: Path):
    """Ids count from when the file is there; SIGHUP has it read again."""
    jobs = tmp_path / "jobs"
    place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0), ENDED)
    async with place.running("run", POLLER_JOBS_FILE=str(jobs)) as daemon:
        await daemon.saying("jobs_file.unreadable")
        jobs.write_text("job-1  # the first\n", "utf-8")
        await until(lambda: place.receiver.ends == ["job-1"])
        jobs.write_text("job-1\njob-2\n", "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: place.receiver.ends == ["job-1", "job-2"])
        await daemon.stop()

    assert len(daemon.said("poller.reloaded")) == 1


async def test_a_reload_before_it_heeds_signals(place: Place):
    """SIGHUP while the imports of a start are under way ends nothing."""
    async with place.running("run", POLLER_JOB_IDS=place.jobs(LONG)) as daemon:
        status = Path(f"/proc/{daemon.process.pid}/status")
        await until(lambda: is_ignored(status.read_text("utf-8"), signal.SIGHUP))
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.saying("poller.started")

        assert await daemon.stop() == 0
