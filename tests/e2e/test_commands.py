"""The other commands: their output and exit codes."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Final

import pytest
from aiohttp import ClientSession

from poller import __version__
from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Place
from tests.support.http_peers import peer, responds
from tests.support.ports import CLOSED_URL
from tests.support.secret_canaries import NEW_KEY
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

HEAVY: Final = {"aiohttp", "anyio", "structlog", "uvloop"}
IMPORTED: Final = """\
import sys
from poller.cli import main
try:
    main({words})
finally:
    print(*sorted(sys.modules))
"""


async def test_command_comes_from_the_wheel(place: Place):
    """The installed command imports the package beside it, with all of its files."""
    python, code = place.command.with_name("python"), "import poller; print(poller.__file__)"
    async with place.started([str(python), "-c", code], {}) as process:
        await process.end()
    package = Path(process.out.strip()).parent

    assert package.is_relative_to(place.command.parents[1])
    assert (package / "event.schema.json").is_file()


async def test_version_is_the_version_of_the_package(place: Place):
    """`python -m poller` is the same program, and `--version` prints one line."""
    python = str(place.command.with_name("python"))
    async with place.started([python, "-m", "poller", "--version"], {}) as process:
        code = await process.end()

    assert (code, process.out, process.err) == (0, f"sutro-poller {__version__}\n", "")


async def test_check_shows_every_setting_and_no_secret(place: Place):
    """The table has a line for each setting: its origin, and its value unless secret."""
    code, ended = await place.run("check", POLLER_JOB_IDS="job-1")

    shown = {
        line.split()[0]: line.split()[1:] for line in ended.out.partition("\n\n")[0].splitlines()
    }
    assert code == 0
    assert shown["SUTRO_API_KEY"] == ["environment", "****"]
    assert shown["POLLER_WEBHOOK_URL"][1].endswith("/...")
    assert shown["POLLER_CONCURRENCY"] == ["default", "16"]


async def test_check_prints_json(place: Place):
    """With `-o json` the output is one JSON object."""
    code, ended = await place.run("check", "-o", "json", POLLER_JOB_IDS="job-1")

    settings = {row["variable"]: row for row in json.loads(ended.out)["settings"]}
    assert code == 0
    assert settings["SUTRO_API_KEY"]["value"] == "****"
    assert settings["POLLER_JOB_IDS"]["value"] == "job-1"


@pytest.mark.parametrize(
    ("changes", "code", "shown"),
    [
        ({"POLLER_JOB_IDS": "job-1"}, 0, "accepted the API key; job job-1 is QUEUED."),
        ({"POLLER_JOB_IDS": "job-9"}, 0, "accepted the API key, but does not know job job-9"),
        ({"POLLER_JOB_IDS": None}, 0, "accepted the API key."),
        ({"SUTRO_API_KEY": NEW_KEY}, 77, "API key rejected (401): check SUTRO_API_KEY."),
        (
            {"SUTRO_API_URL": CLOSED_URL},
            69,
            "cannot connect (Connection refused); check SUTRO_API_URL",
        ),
    ],
    ids=["known", "unknown", "no job", "refused", "unreachable"],
)
async def test_check_tests_the_api(place: Place, changes, code, shown):
    """`--api` makes one request, and the exit code is its result."""
    place.jobs(JobScript(job_id="job-1", queue_seconds=60.0))

    found, ended = await place.run("check", "--api", **changes)

    assert found == code
    assert shown in ended.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("response", "code", "shown"),
    [
        (
            responds(403, b"<title>Just a moment...</title>"),
            69,
            (
                "has not shown whether the key is valid: a proxy or firewall, not the API, "
                'rejected the request (403): "Just a moment...".'
            ),
        ),
        (responds(503), 69, "has not shown whether the key is valid: the API failed (503)."),
        (
            responds(404, b'{"message": "no Route matched with those values"}'),
            78,
            "cannot be used: this server is not the Sutro API (404): check SUTRO_API_URL.",
        ),
    ],
    ids=["page", "outage", "gateway"],
)
async def test_check_does_not_accept_what_shows_nothing(place: Place, response, code, shown):
    """Where the response says nothing about the key, `check --api` does not accept it."""
    async with peer(response) as server:
        found, ended = await place.run("check", "--api", SUTRO_API_URL=server.base)

    assert (found, ended.out.splitlines()[-1]) == (code, f"{server.base} {shown}")


async def test_check_tests_the_paths(place: Place, tmp_path: Path):
    """`check` rejects a database path as `run` does; a jobs file need not exist yet."""
    lost, jobs = tmp_path / "no-such-folder", tmp_path / "jobs.txt"

    refused, shown = await place.run(
        "check", POLLER_JOB_IDS="a", POLLER_STORE=str(lost / "state.db")
    )
    taken, noted = await place.run("check", POLLER_JOBS_FILE=str(jobs))

    assert (refused, shown.out) == (78, "")
    rule = "must be a directory that this user can write to"
    assert shown.err == f"sutro-poller: POLLER_STORE: {lost} {rule}\n"
    # The SQLite of some machines is named in a line of its own.
    notes = [line for line in noted.err.splitlines() if not line.startswith("warning: SQLite")]
    assert (taken, len(notes)) == (0, 1)
    assert notes[0].startswith(f"POLLER_JOBS_FILE: {jobs} does not exist yet")


async def test_simulate_prints_an_env_file_for_run(place: Place):
    """The output of `simulate` is an env file with which `run` works; SIGTERM ends it."""
    command = str(place.command)
    async with place.started(
        [command, "simulate", "--port", "0", "--jobs", "2", "--speed", "20"], {}
    ) as simulator:
        await until(lambda: "# The simulated Sutro API is ready." in simulator.out)
        settings = {"SUTRO_API_URL": None, "SUTRO_API_KEY": None}
        async with place.running("run", "--env-file", str(simulator.stdout), **settings) as daemon:
            await until(lambda: len(place.receiver.ends) == 2)
            await daemon.stop()
        code = await simulator.stop()

    assert code == 0
    assert sorted(job_id[:5] for job_id in place.receiver.ends) == ["job-1", "job-2"]


async def test_submission_to_simulate_has_its_events(place: Place):
    """A job that is submitted to `simulate` is discovered, and its end arrives as it was chosen."""
    command = [str(place.command), "simulate", "--port", "0", "--submission", "ends_as=failed"]
    async with place.started([*command, "queue_seconds=0", "run_seconds=0.5"], {}) as simulator:
        await until(lambda: "# The simulated Sutro API is ready." in simulator.out)
        variables = dict(line.split("=", 1) for line in simulator.out.splitlines()[:-1])
        changes = variables | {"POLLER_DISCOVER_INTERVAL": "0.2s"}
        async with place.running("run", **changes) as daemon, ClientSession() as session:
            await daemon.saying("poller.started")
            async with session.post(
                f"{variables['SUTRO_API_URL']}/v1/batch-inference",
                headers={"Authorization": f"Key {variables['SUTRO_API_KEY']}"},
                json={"model": "gpt-oss-20b", "inputs": ["a", "b"], "name": "Mine"},
            ) as response:
                job_id = (await response.json())["results"]
            await until(lambda: job_id in place.receiver.ends)
            await daemon.stop()

    event = next(event for event in place.receiver.received if event.subject == job_id)
    assert event.type == "job.failed"
    assert json.loads(event.body)["data"]["job"]["name"] == "Mine"


@pytest.mark.slow
async def test_demo_ends_by_itself(place: Place):
    """Six simulated jobs end, all signatures verify, and nothing is left running."""
    async with place.started([str(place.command), "demo"], {"PATH": os.environ["PATH"]}) as demo:
        code = await demo.end(within=150.0)

    assert (code, demo.err) == (0, "")
    assert "6 of 6 jobs ended" in demo.out
    assert "all signatures verified" in demo.out


@pytest.mark.slow
async def test_demo_ends_with_its_reader(place: Place):
    """`demo | head` ends soon after the reader has gone, and that is no failure."""
    command = ["bash", "-c", f"set -o pipefail; {place.command} demo | head -5"]
    async with place.started(command, {"PATH": os.environ["PATH"]}) as demo:
        code = await demo.end(within=150.0)

    assert (code, demo.err) == (0, "")
    assert demo.out.count("\n") == 5


async def test_stopped_demo_leaves_no_daemon(place: Place):
    """SIGTERM ends the demo and the daemon that it has started."""
    async with place.started([str(place.command), "demo"], {"PATH": os.environ["PATH"]}) as demo:
        (daemon,) = await until(lambda: re.findall(r"process (\d+):", demo.out))
        demo.process.send_signal(signal.SIGTERM)
        code = await demo.end()

    assert code == 143
    assert demo.err == "sutro-poller: stopped before the end of the demo\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(daemon), signal.SIGKILL)  # if the daemon is there, it must not stay


@pytest.mark.parametrize("verb", ["status", "jobs ls", "sinks ls"])
async def test_commands_that_read_import_little(place: Place, verb: str):
    """A command that reads the database imports no network library, and no log."""
    python = str(place.command.with_name("python"))
    script = IMPORTED.format(words=verb.split())
    async with place.started([python, "-c", script], {"HOME": str(place.folder)}) as process:
        await process.end()

    assert "does not exist" in process.err
    assert HEAVY.isdisjoint(process.out.split())


CERTIFICATES = """\
import ssl
from contextlib import suppress
from poller.cli import main
with suppress(SystemExit):
    main(["run"])
from aiohttp.connector import _SSL_CONTEXT_UNVERIFIED, _SSL_CONTEXT_VERIFIED
for context in (_SSL_CONTEXT_VERIFIED, _SSL_CONTEXT_UNVERIFIED, ssl.create_default_context()):
    print(context.cert_store_stats()["x509"])
"""


async def test_certificates_are_read_for_contexts_that_verify_alone(place: Place):
    """The daemon trusts the system's certificates, and reads them for no other context."""
    python = str(place.command.with_name("python"))
    async with place.started([python, "-c", CERTIFICATES], {}) as process:
        await process.end()

    verified, unverified, others = process.out.splitlines()[-3:]
    assert (verified, unverified) == (others, "0")
