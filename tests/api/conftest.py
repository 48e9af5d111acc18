"""What the tests of the door share: a daemon with one job that runs and one that has ended."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.api_server import House, a_house

RUNS = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1e5)
ENDS = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Give a daemon that has told of the end of job-2, and watches job-1."""
    async with a_house(tmp_path, RUNS, ENDS, POLLER_JOB_IDS="job-1,job-2") as it:
        await it.seen("job-1", "RUNNING")
        await it.seen("job-2", "SUCCEEDED")
        yield it
