"""Invalid configurations are rejected at the start: an exit code and one line for each problem."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.settings.test_problems import BAD
from tests.support.config_builders import CANARIES, GOOD
from tests.support.daemon_process import Place
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

FORK_SERVER = Path(__file__).parents[1] / "support/fork_server.py"


def run_each(command: Path, cases: list[tuple[list[str], dict[str, str]]]) -> list[list]:
    """Run each case in a process of its own; return its exit code and its output."""
    given = [json.dumps({"arguments": case[0], "environment": case[1]}) for case in cases]
    ended = subprocess.run(
        [command.with_name("python"), "-Es", FORK_SERVER],
        input="\n".join(given),
        capture_output=True,
        check=True,
        text=True,
        timeout=240,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_each_broken_rule_is_one_line_and_exit_code_78(command: Path):
    """A line names the variable and the rule, stdout stays empty, and no secret is shown."""
    shown = run_each(command, [(["run"], GOOD | changes) for changes, _, _ in BAD])

    wrong = [
        (variable, code, out, err)
        for (_, variable, rule), (code, out, err) in zip(BAD, shown, strict=True)
        if (code, out, err.count("\n")) != (78, "", 1)
        or not err.startswith(f"sutro-poller: {variable}: ")
        or rule not in err
        or any(canary in err for canary in CANARIES)
    ]
    assert len(BAD) >= 25
    assert not wrong


async def test_all_problems_are_reported_at_once(place: Place):
    """Three broken rules are three lines of one start."""
    code, ended = await place.run(
        "run", POLLER_JOB_IDS='my"key', POLLER_CONCURRENCY="0", POLLER_WEBHOK_URL="x"
    )

    assert code == 78
    assert ended.err.count("\n") == 3
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", [[], ["watch"], ["run", "--fast"], ["check", "-o", "xml"]])
def test_usage_error_is_exit_code_2(command: Path, arguments: list[str]):
    """A missing or unknown command, option or choice is reported with the usage."""
    ((code, out, err),) = run_each(command, [(arguments, {})])

    assert (code, out) == (2, "")
    assert err.startswith("usage: sutro-poller")


@pytest.mark.parametrize(
    "odd",
    [
        ("--port", "70000"),
        ("--port", "http"),
        ("--jobs", "-1"),
        ("--jobs", "many"),
        ("--speed", "0"),
        ("--speed", "inf"),
        ("--speed", "fast"),
    ],
)
def test_simulate_rejects_invalid_numbers(command: Path, odd):
    """A number out of bounds is a usage error, reported in a line below the usage."""
    ((code, out, err),) = run_each(command, [(["simulate", *odd], {})])

    assert (code, out) == (2, "")
    assert f"argument {odd[0]}: must be " in err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("events", "the following arguments are required: {ls,show,replay}"),
        ("jobs ls --state nope", "invalid choice: 'NOPE' (choose from 'UNKNOWN', 'SUBMITTED',"),
    ],
)
def test_usage_error_lists_the_choices(command: Path, words: str, shown: str):
    """The choices are shown as a user types them."""
    ((code, _, err),) = run_each(command, [(words.split(), {})])

    assert code == 2
    assert shown in err


def test_full_disk_behind_stdout_is_exit_code_74(command: Path):
    """A full disk behind stdout is one line and exit code 74, not a traceback."""
    with Path("/dev/full").open("wb") as full:
        shown = subprocess.run(
            [command, "schema"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=240
        )

    assert shown.returncode == 74
    assert shown.stderr == b"sutro-poller: cannot write to stdout: No space left on device\n"


async def test_second_daemon_on_one_database_exits_75(place: Place):
    """A second daemon exits with 75 and the reason; the first one continues."""
    async with place.running("run", POLLER_JOB_IDS="job-1") as first:
        await until(place.api.requests.total)
        code, second = await place.run("run", POLLER_JOB_IDS="job-1")
        first_code = await first.stop()

    assert (code, first_code) == (75, 0)
    assert second.err == (
        f"sutro-poller: {place.folder}/state/state.db is in use by another process;"
        " stop that process, or use another POLLER_STORE\n"
    )


async def test_unwritable_database_path_exits_78(place: Place):
    """A database below a file is exit code 78 and a line with the variable and the rule."""
    (place.folder / "file").touch()

    code, ended = await place.run(
        "run", POLLER_JOB_IDS="job-1", POLLER_STORE=str(place.folder / "file" / "state.db")
    )

    assert code == 78
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("sutro-poller: POLLER_STORE: ")
    assert "a directory that this user can write to" in ended.err


@pytest.mark.parametrize("verb", ["run", "check"])
async def test_home_that_cannot_be_written_exits_78(place: Place, verb: str):
    """Without a folder for the default database there is one line, and no traceback."""
    home = place.folder / "file"
    home.touch()

    code, ended = await place.run(
        verb, POLLER_JOB_IDS="job-1", POLLER_STORE="", XDG_STATE_HOME="", HOME=str(home)
    )

    assert (code, ended.out) == (78, "")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("sutro-poller: POLLER_STORE: ")
    assert "a directory that this user can write to" in ended.err


async def test_database_of_a_newer_version_is_not_changed(place: Place):
    """A database of a newer version is rejected with 78, and no byte of it changes."""
    path = place.folder / "newer.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    code, ended = await place.run("run", POLLER_JOB_IDS="job-1", POLLER_STORE=str(path))

    assert code == 78
    assert "was written by a newer version" in ended.err
    assert path.read_bytes() == before


def test_daemon_does_not_import_rich():
    """`run` does not import rich, installed or not: it takes 4 MiB."""
    importing = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "poller", "run"],
        cwd=FORK_SERVER.parents[2],
        env={"PATH": os.environ["PATH"]},
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )

    imported = {line.rpartition("|")[2].strip() for line in importing.stderr.splitlines()}
    assert importing.returncode == 78
    assert {"poller.app", "structlog.dev"} < imported
    assert not {module for module in imported if module.startswith(("rich.", "pygments"))}
