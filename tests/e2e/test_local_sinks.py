"""Sinks on the daemon's own machine: commands end with the daemon, and files get every event."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.builders import check_event
from tests.support.daemon_process import NO_WEBHOOK, Place
from tests.support.process_ids import all_ended, written
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENDED = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)
HANG: Final = "sleep 100 & echo $! > {ids}; echo $$ >> {ids}; trap '' TERM; sleep 100"


def check_line(line: bytes) -> dict[str, Any]:
    """Check one line with an event, and return the event."""
    text, end, rest = line.partition(b"\n")
    event = json.loads(text)
    assert (end, rest, event.pop("id")[:4]) == (b"\n", b"", "evt_")
    return check_event(json.dumps(event).encode())


def command(script: str) -> dict[str, str | None]:
    """Return the settings that run a shell script for each event."""
    return NO_WEBHOOK | {"POLLER_EXEC_COMMAND": json.dumps(["sh", "-c", script])}


async def test_exec_gets_an_event_and_nothing_of_the_key(place: Place, tmp_path: Path):
    """A setting is enough: the command gets the event, and the key is not in its environment."""
    body, names = tmp_path / "body", tmp_path / "names"
    settings = command(f"cat > {body}; env > {names}")
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), **settings) as daemon:
        await until(lambda: names.exists() and "POLLER_EVENT_ID=" in names.read_text("utf-8"))
        code = await daemon.stop()

    assert code == 0
    assert check_line(body.read_bytes())["type"] == "job.succeeded"
    assert "SUTRO_" not in names.read_text("utf-8")


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
async def test_exec_leaves_no_command_behind(place: Place, tmp_path: Path, is_killed: bool):
    """A command that hangs ends with the daemon, at SIGTERM after its grace and at kill -9."""
    ids = tmp_path / "ids"
    settings = command(HANG.format(ids=ids))
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), **settings) as daemon:
        found = await until(lambda: written(ids, 2))
        if is_killed:
            daemon.process.kill()
            await daemon.end()
        else:
            assert await daemon.stop() == 0

    assert await all_ended(found)


async def test_exec_with_a_missing_command_does_not_start(place: Place):
    """One line names the setting, for `check` and for `run`."""
    settings = NO_WEBHOOK | {"POLLER_EXEC_COMMAND": "no-such-program", "POLLER_JOB_IDS": "job-1"}

    ends = [await place.run(verb, **settings) for verb in ("check", "run")]

    problem = "POLLER_EXEC_COMMAND: must begin with a program in PATH, or with the path of one"
    assert [(code, ended.err) for code, ended in ends] == [(78, f"sutro-poller: {problem}\n")] * 2


async def test_exec_test_reports_the_last_line(place: Place):
    """`sinks test` says why a command failed."""
    code, ended = await place.run("sinks", "test", "exec", **command("echo no paper; exit 3"))

    assert code == 1
    assert "the command exited with 3: no paper" in ended.out


async def test_file_gets_an_event(place: Place, tmp_path: Path):
    """A setting is enough to have each event in a file."""
    path = tmp_path / "events.jsonl"
    settings = NO_WEBHOOK | {"POLLER_FILE_PATH": str(path)}
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), **settings) as daemon:
        await until(lambda: path.exists() and path.read_bytes().endswith(b"\n"))
        code = await daemon.stop()

    assert code == 0
    assert check_line(path.read_bytes())["type"] == "job.succeeded"
