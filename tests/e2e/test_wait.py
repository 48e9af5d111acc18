"""`wait` as a process: its exit codes, its output, and what it needs."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Final, NamedTuple

import anyio
import pytest
from anyio.to_thread import run_sync

from poller.sutro.simulator.script import JobScript
from tests.e2e.test_configuration_errors import run_each
from tests.support.daemon_process import PACE, Daemon, Place
from tests.support.ports import CLOSED_URL
from tests.support.secret_canaries import KEY, NEW_KEY
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

GOOD: Final = JobScript(job_id="good", queue_seconds=0.0, run_seconds=0.0)
BAD: Final = JobScript(job_id="bad", ends_as="failed", queue_seconds=0.0, run_seconds=0.0)
CANCELLED: Final = JobScript(
    job_id="dropped", ends_as="cancelled", queue_seconds=0.0, run_seconds=0.0
)
ENDLESS: Final = JobScript(job_id="endless", queue_seconds=600.0)
LATE: Final = JobScript(job_id="late", queue_seconds=0.2, run_seconds=0.4, appears_after=0.2)
NEWEST: Final = JobScript(job_id="newest", queue_seconds=0.0, run_seconds=0.0, cost_delay=0.3)

WORKERS: Final = 3
HIDE_CURSOR: Final = b"\x1b[?25l"
SHOW_CURSOR: Final = b"\x1b[?25h"
MINIMAL: Final = PACE | {"SUTRO_API_KEY": KEY, "POLLER_NOT_FOUND_GRACE": "0.5s"}


class Case(NamedTuple):
    """A wait: its arguments, its exit code, a part of its output, and its variables."""

    arguments: str
    code: int
    shown: str
    changes: Mapping[str, str] = MappingProxyType({})

    @property
    def words(self) -> list[str]:
        """The command line."""
        return ["wait", *self.arguments.split()]

    def environment(self, place: Place) -> dict[str, str]:
        """Return little more than the API key; `{api}` and `{folder}` are replaced."""
        given = MINIMAL | {"SUTRO_API_URL": "{api}"} | self.changes
        return {
            name: text.format(api=place.api_url, folder=place.folder)
            for name, text in given.items()
        }


CASES: Final = (
    Case("good", 0, "good succeeded in 0s: "),
    Case("late", 0, "late succeeded in 0.4s: "),
    Case("--latest", 0, "newest succeeded in 0s: "),
    Case("good late", 0, "2 jobs ended in "),
    Case("", 0, "2 jobs ended in ", {"POLLER_JOB_IDS": "good,late"}),
    Case(
        "",
        0,
        "2 jobs ended in ",
        {"POLLER_JOB_IDS": "late", "POLLER_JOBS_FILE": "{folder}/jobs.txt"},
    ),
    Case("--any endless good", 0, "1 of 2 jobs ended"),
    Case("bad", 1, "bad failed after 0s: The model returned no output for 3 rows."),
    Case("good dropped bad lost", 1, ": 1 succeeded, 1 failed, 1 cancelled, 1 missing; $"),
    Case("--fail-fast endless bad", 1, "bad failed after 0s: The model returned"),
    Case("good dropped lost", 3, "dropped cancelled after 0s"),
    Case("lost-1 lost-2 lost-3", 4, "lost-2 is missing: the API does not know this job ID"),
    Case("lost", 4, "lost: no such job (404); missing if that lasts 0.5 s"),
    Case(
        "good --unreachable-after 300ms",
        69,
        "cannot connect (Connection refused); check SUTRO_API_URL",
        {"SUTRO_API_URL": CLOSED_URL},
    ),
    Case("good", 77, "API key rejected (401): check SUTRO_API_KEY", {"SUTRO_API_KEY": NEW_KEY}),
    Case("good", 78, "SUTRO_API_KEY: is required", {"SUTRO_API_KEY": ""}),
    Case("good", 78, "check SUTRO_API_URL", {"SUTRO_API_URL": "{api}/wrong"}),
    Case("", 78, "pass IDs, use --latest, or set POLLER_JOB_IDS"),
    Case("", 78, "empty.txt contains no job ID", {"POLLER_JOBS_FILE": "{folder}/empty.txt"}),
    Case("", 78, "none.txt: No such file", {"POLLER_JOBS_FILE": "{folder}/none.txt"}),
    Case("", 78, "bad.txt, line 2: a job ID has", {"POLLER_JOBS_FILE": "{folder}/bad.txt"}),
    Case("endless --timeout 300ms", 124, "timed out after 0.3s; the jobs go on"),
    Case("a,b", 2, "a job ID has 1 to 256"),
    Case("good --timeout soon", 2, "must be a duration"),
)


@asynccontextmanager
async def waiting(place: Place, arguments: str) -> AsyncIterator[Daemon]:
    """Run `wait` with an environment of little more than the API key."""
    case = Case(arguments, 0, "")
    command = [str(place.command), *case.words]
    async with place.started(command, case.environment(place)) as process:
        yield process


@pytest.fixture
def jobs(place: Place) -> Place:
    """Create jobs of every outcome."""
    place.jobs(GOOD, BAD, CANCELLED, ENDLESS, LATE, NEWEST)
    (place.folder / "jobs.txt").write_text("# ours\ngood # ended\n\n", "utf-8")
    (place.folder / "empty.txt").write_text("# none yet\n", "utf-8")
    (place.folder / "bad.txt").write_text("good\nmy key\n", "utf-8")
    return place


async def test_wait_exit_codes(jobs: Place):
    """The exit code shows how the jobs ended; the worst end counts."""
    shown: list[list] = [[] for _ in range(WORKERS)]

    async def play(worker: int) -> None:
        cases = [(case.words, case.environment(jobs)) for case in CASES[worker::WORKERS]]
        shown[worker] = await run_sync(run_each, jobs.command, cases)

    async with anyio.create_task_group() as group:
        for worker in range(WORKERS):
            group.start_soon(play, worker)

    (jobs.folder / "results.json").write_text(json.dumps(shown), "utf-8")  # searched for secrets
    wrong = [
        (case, code, out, err)
        for worker in range(WORKERS)
        for case, (code, out, err) in zip(CASES[worker::WORKERS], shown[worker], strict=True)
        if code != case.code or case.shown not in out + err or "Traceback" in err
    ]
    assert not wrong


async def test_wait_prints_only_the_result_to_stdout(jobs: Place):
    """The result is one line of stdout; changes and the reasons of failures go to stderr."""
    async with waiting(jobs, "late bad") as process:
        await process.end()

    assert process.out.startswith("2 jobs ended in ")
    assert process.out.count("\n") == 1
    assert process.err.splitlines()[-1].startswith("bad failed after 0s: The model returned")
    assert "late SUCCEEDED" in process.err


async def test_wait_json_lists_every_job(jobs: Place):
    """With `-o json` stdout is a list with an object for each job, in the order of the ids."""
    async with waiting(jobs, "-o json lost bad bad good") as process:
        code = await process.end()

    shown = json.loads(process.out)
    assert code == 1
    assert [result["job"]["job_id"] for result in shown] == ["lost", "bad", "good"]
    assert [result["type"] for result in shown] == ["job.missing", "job.failed", "job.succeeded"]
    assert shown[1]["reason"] == "The model returned no output for 3 rows."


async def test_wait_needs_only_an_api_key(jobs: Place):
    """`wait` needs no home, store or settings, and ignores the settings of sinks."""
    given = {"SUTRO_API_URL": jobs.api_url, "SUTRO_API_KEY": KEY, "POLLER_WEBHOOK_URL": "junk"}
    async with jobs.started([str(jobs.command), "wait", "good"], given) as process:
        code = await process.end()

    assert (code, process.err) == (0, "good SUCCEEDED\n")
    assert not list((jobs.folder / "state").iterdir())
    assert sorted(path.name for path in jobs.folder.iterdir()) == [
        "bad.txt",
        "empty.txt",
        "jobs.txt",
        "output",
        "state",
    ]


async def test_wait_interrupted_exits_130(jobs: Place):
    """Ctrl-C ends it at once, with a line that says what goes on."""
    async with waiting(jobs, "endless") as process:
        await until(lambda: "QUEUED" in process.err)
        process.process.send_signal(signal.SIGINT)
        code = await process.end()

    told = "sutro-poller: interrupted; the jobs go on: wait for them again\n"
    assert (code, process.err) == (130, f"endless QUEUED\n{told}")


async def test_wait_keeps_its_exit_code_without_a_reader(jobs: Place):
    """A failed job makes the exit code 1 even if the reader of stdout has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(jobs.command), "wait", "bad"]
    given = {"SUTRO_API_URL": jobs.api_url, "SUTRO_API_KEY": KEY}
    async with await anyio.open_process(
        command, env=given, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL
    ) as process:
        os.close(writer)
        code = await process.wait()

    assert code == 1


def rest_of(master: int) -> bytes:
    """Return what a terminal that nobody writes to any more has still to show, and close it."""
    drawn = b""
    with os.fdopen(master, "rb", buffering=0) as screen, suppress(OSError):  # EIO at its end
        while more := screen.read(4_096):
            drawn += more
    return drawn


async def test_wait_draws_a_table_on_a_terminal(jobs: Place):
    """With `rich` a table is drawn on stderr, and the result is still one line of stdout."""
    master, terminal = os.openpty()
    given = {"SUTRO_API_URL": jobs.api_url, "SUTRO_API_KEY": KEY, "TERM": "xterm"}
    out = jobs.folder / "table.out"
    with out.open("wb") as stdout:
        process = await anyio.open_process(
            [str(jobs.command), "wait", "good", "bad"], env=given, stdout=stdout, stderr=terminal
        )
    async with process:
        code = await process.wait()
    os.close(terminal)
    drawn = rest_of(master).decode()

    assert code == 1
    assert "elapsed" in drawn
    assert "SUCCEEDED" in drawn
    assert out.read_text("utf-8").count("\n") == 1


async def test_wait_restores_the_cursor(jobs: Place):
    """SIGTERM, as `timeout` sends it, ends a wait with 143, and the cursor is shown again."""
    master, terminal = os.openpty()
    given = {"SUTRO_API_URL": jobs.api_url, "SUTRO_API_KEY": KEY, "TERM": "xterm"}
    async with await anyio.open_process(
        [str(jobs.command), "wait", "endless"], env=given, stdout=None, stderr=terminal
    ) as process:
        os.close(terminal)
        drawn = b""
        while b"QUEUED" not in drawn:
            drawn += await run_sync(os.read, master, 4_096)
        process.send_signal(signal.SIGTERM)
        code = await process.wait()
    drawn += rest_of(master)

    assert code == 143
    assert drawn.rindex(SHOW_CURSOR) > drawn.rindex(HIDE_CURSOR)
