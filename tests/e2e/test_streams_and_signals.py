"""Standard streams that a shell has closed or filled, and signals at any moment of the start."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.to_thread import run_sync

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

STREAMS: Final = {
    "2>&-": 0,
    "2>/dev/full": 0,
    "2> >(true)": 0,
    ">&-": 0,
    "<&-": 0,
    "<&- >&- 2>&-": 0,
    ">/dev/full": 74,
}
"""The exit code of a wait for a job that succeeded, by its redirections."""

SIGNAL_AT_IMPORT: Final = """
import os, sys
from poller import __main__

class Finder:
    def find_spec(name, path, target=None):
        if name == os.environ["AT_MODULE"]:
            os.kill(os.getpid(), int(os.environ["SEND"]))

sys.meta_path.insert(0, Finder)
__main__.main()
"""
"""The command line, but a signal comes when a module is imported."""


async def test_wait_keeps_its_exit_code_with_any_streams(place: Place):
    """Messages that nobody can get change no exit code; a result that cannot be written does."""
    place.jobs(JobScript(job_id="good", queue_seconds=0.0, run_seconds=0.0))
    environment = {
        "SUTRO_API_URL": place.api_url,
        "SUTRO_API_KEY": KEY,
        "PATH": os.environ["PATH"],
    }
    codes = {}

    async def play(redirections: str) -> None:
        command = ["bash", "-c", f"{place.command} wait good {redirections}"]
        async with place.started(command, environment) as process:
            codes[redirections] = await process.end()

    async with anyio.create_task_group() as group:
        for redirections in STREAMS:
            group.start_soon(play, redirections)

    assert codes == STREAMS


async def test_daemon_runs_without_streams(place: Place):
    """A daemon whose streams are all closed delivers, and SIGTERM ends it with 0."""
    place.jobs(JobScript(job_id="good", queue_seconds=0.0, run_seconds=0.0))
    environment = place.environment({"POLLER_JOB_IDS": "good", "POLLER_SINKS": "webhook,log"})
    command = ["bash", "-c", f"exec {place.command} run <&- >&- 2>&-"]
    async with place.started(command, environment) as daemon:
        await until(lambda: place.receiver.ends)
        code = await daemon.stop()

    assert code == 0


@pytest.mark.parametrize("module", ["poller.cli", "poller.cli.run", "poller.app", "uvloop"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_signal_during_the_start(
    command: Path, tmp_path: Path, module: str, number: int, code: int
):
    """A signal while the daemon starts ends it at once, without a word."""
    python = str(command.with_name("python"))
    environment = {"SUTRO_API_KEY": KEY, "POLLER_JOB_IDS": "job-1", "HOME": str(tmp_path)}
    ended = await run_sync(
        lambda: subprocess.run(
            [python, "-c", SIGNAL_AT_IMPORT, "run"],
            env=environment | {"AT_MODULE": module, "SEND": str(int(number))},
            capture_output=True,
            check=False,
            timeout=120,
        )
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")
