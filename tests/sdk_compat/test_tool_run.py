"""The wheel runs from where it lies, with what the index has: nothing of these tests is in it."""

import os

import anyio
import pytest
from anyio.to_thread import run_sync

from poller.sutro.simulator.script import JobScript
from tests.sdk_compat.uv_tool import ToolRunner
from tests.support.daemon_process import Place

pytestmark = [pytest.mark.anyio, pytest.mark.sdk]

LONG = 300.0
"""Seconds for a first run, which fetches what the wheel needs."""


@pytest.fixture
def watched(place: Place) -> Place:
    """Give a place whose one job has ended."""
    place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0))
    return place


async def test_the_wheel_runs_without_being_installed(watched: Place, tool_runner: ToolRunner):
    """It says in lines how the job ended, and exits by that."""
    command, environment = tool_runner.command("wait", "job-1"), tool_runner.environment(watched)
    async with watched.started(command, environment) as process:
        code = await process.end(within=LONG)

    assert code == 0, process.err
    assert process.err.splitlines()[-1] == "job-1 SUCCEEDED"
    assert process.out.startswith("job-1 succeeded in 0s: ")
    assert process.out.count("\n") == 1


async def test_a_job_that_failed_is_the_code_of_the_runner(place: Place, tool_runner: ToolRunner):
    """The exit code goes through uv: a script may rely on it."""
    place.jobs(JobScript(job_id="job-1", ends_as="failed", queue_seconds=0.0, run_seconds=0.0))
    command, environment = tool_runner.command("wait", "job-1"), tool_runner.environment(place)
    async with place.started(command, environment) as process:
        code = await process.end(within=LONG)

    assert code == 1, process.err
    assert process.out == "job-1 failed after 0s: The model returned no output for 3 rows.\n"


async def test_the_extra_brings_the_table(watched: Place, tool_runner: ToolRunner):
    """With `[rich]` a terminal gets the table, and stdout still is one line."""
    master, terminal = os.openpty()
    out = watched.folder / "table.out"
    with out.open("wb") as stdout:
        process = await anyio.open_process(
            tool_runner.command("wait", "job-1", extra="[rich]"),
            env=tool_runner.environment(watched),
            stdout=stdout,
            stderr=terminal,
        )
    os.close(terminal)
    async with process:
        with anyio.fail_after(LONG):
            drawn = await run_sync(read_all, master, abandon_on_cancel=True)
            code = await process.wait()

    assert code == 0, drawn
    assert "elapsed" in drawn
    assert out.read_text("utf-8").startswith("job-1 succeeded in 0s: ")


def read_all(master: int) -> str:
    """Read a terminal until nobody writes to it any more."""
    drawn = b""
    try:
        while part := os.read(master, 100_000):
            drawn += part
    except OSError:  # what Linux says when the last writer has gone
        pass
    finally:
        os.close(master)
    return drawn.decode(errors="replace")
