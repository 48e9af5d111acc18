"""A reader of the log that is slow, gone or full stops neither deliveries nor signals."""

import os
import signal
from collections.abc import Iterator

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Place
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
JOBS = 40


@pytest.fixture
def full() -> Iterator[int]:
    """Yield a device that is always full."""
    device = os.open("/dev/full", os.O_WRONLY)
    yield device
    os.close(device)


@pytest.fixture
def gone() -> Iterator[int]:
    """Yield a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def unread() -> Iterator[int]:
    """Yield a full pipe that is never read."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, b" " * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["full", "gone", "unread"])
async def test_unread_log_delays_nothing(place: Place, where: str, request: pytest.FixtureRequest):
    """All webhooks arrive, SIGHUP is handled, and SIGTERM ends the daemon with 0 within 8 s."""
    jobs = place.jobs(
        *(JobScript(job_id=f"job-{number}", run_seconds=0.2) for number in range(JOBS))
    )
    variables = place.environment({"POLLER_JOB_IDS": jobs, "POLLER_SINKS": "log,webhook"})
    command = [str(place.command), "run"]
    async with place.started(command, variables, onto=request.getfixturevalue(where)) as daemon:
        await until(lambda: len(place.receiver.ends) == JOBS)
        daemon.process.send_signal(signal.SIGHUP)
        code = await daemon.stop()

    assert (code, daemon.err) == (0, "")
