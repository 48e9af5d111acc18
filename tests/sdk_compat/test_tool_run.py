"""The wheel runs without an installation, with packages of the index alone."""

import os

import anyio
import pytest
from anyio.to_thread import run_sync

from poller.sutro.simulator.script import JobScript
from tests.sdk_compat.uv_tool import ToolRunner
from tests.support.daemon_process import Place

pytestmark = [pytest.mark.anyio, pytest.mark.sdk]

FIRST_RUN_SECONDS = 300.0
"""Seconds for a first run, which fetches the dependencies."""


@pytest.fixture
def watched(place: Place) -> Place:
    """Create one job that has ended."""
    place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0))
    return place


async def test_wheel_runs_without_installation(watched: Place, tool_runner: ToolRunner):
    """`wait` prints how the job ended, and exits with the code for that."""
    command, environment = tool_runner.command("wait", "job-1"), tool_runner.environment(watched)
    async with watched.started(command, environment) as process:
        code = await process.end(within=FIRST_RUN_SECONDS)

    assert code == 0, process.err
    assert process.err.splitlines()[-1] == "job-1 SUCCEEDED"
    assert process.out.startswith("job-1 succeeded in 0s: ")
    assert process.out.count("\n") == 1


async def test_uv_installs_the_wheel(place: Place, tool_runner: ToolRunner):
    """`uv tool install` installs the command, which has the files of the package."""
    folder, environment = tool_runner.home / "bin", tool_runner.environment(place)
    install = [str(tool_runner.uv), "tool", "install", str(tool_runner.wheel)]
    async with place.started(install, environment | {"UV_TOOL_BIN_DIR": str(folder)}) as installing:
        code = await installing.end(within=FIRST_RUN_SECONDS)
    async with place.started([str(folder / "sutro-poller"), "files"], environment) as listing:
        await listing.end(within=FIRST_RUN_SECONDS)

    assert code == 0, installing.err
    assert "sutro-poller.service" in listing.out.splitlines()


async def test_exit_code_goes_through_uv(place: Place, tool_runner: ToolRunner):
    """The exit code goes through uv."""
    place.jobs(JobScript(job_id="job-1", ends_as="failed", queue_seconds=0.0, run_seconds=0.0))
    command, environment = tool_runner.command("wait", "job-1"), tool_runner.environment(place)
    async with place.started(command, environment) as process:
        code = await process.end(within=FIRST_RUN_SECONDS)

    assert code == 1, process.err
    assert process.out == "job-1 failed after 0s: The model returned no output for 3 rows.\n"


async def test_rich_extra_draws_the_table(watched: Place, tool_runner: ToolRunner):
    """With `[rich]` a terminal gets the table, and stdout is still one line."""
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
        with anyio.fail_after(FIRST_RUN_SECONDS):
            drawn = await run_sync(read_all, master, abandon_on_cancel=True)
            code = await process.wait()

    assert code == 0, drawn
    assert "elapsed" in drawn
    assert out.read_text("utf-8").startswith("job-1 succeeded in 0s: ")


def read_all(master: int) -> str:
    """Read a terminal until no process writes to it any more."""
    drawn = b""
    try:
        while part := os.read(master, 100_000):
            drawn += part
    except OSError:  # the error of Linux after the last writer has gone
        pass
    finally:
        os.close(master)
    return drawn.decode(errors="replace")
