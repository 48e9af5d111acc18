"""A daemon with the HTTP API, one running job and one that has ended."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, live_daemon

RUNS = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1e5)
ENDS = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[LiveDaemon]:
    """Run a daemon that watches job-1 and has seen the end of job-2."""
    async with live_daemon(tmp_path, RUNS, ENDS, POLLER_JOB_IDS="job-1,job-2") as live:
        await live.wait_for_job("job-1", "RUNNING")
        await live.wait_for_job("job-2", "SUCCEEDED")
        yield live
