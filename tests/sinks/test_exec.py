"""The exec sink, with real commands: what they get, what their end means, and that they end."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Flag
from types import SimpleNamespace
from typing import Final

import anyio
import pytest

from poller.core.errors import ConfigError, DeliveryError
from poller.core.events import EventOrigin
from poller.runtime import command
from poller.runtime.command import MAX_OUTPUT, Command, CommandResult, run_command
from poller.sinks.exec import KIND, ExecSettings, environment, find_warnings
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import open_sink, sample_delivery
from tests.support.process_ids import all_ended, is_running, written
from tests.support.waiting import until

SECRETS: Final = {
    "SUTRO_API_KEY": "sk-canary",
    "POLLER_WEBHOOK_SECRET": "whsec_canary",
    "POLLER_SLACK_URL": "https://hooks.example/canary",
    "HTTPS_PROXY": "http://user:canary@proxy.example",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "CREDENTIALS_DIRECTORY": "/run/credentials/canary",
}
FAMILY: Final = """
trap '' TERM
echo $$ > {ids}
for _ in 1 2 3; do
    (trap '' TERM; for _ in 1 2 3; do sleep 100 & echo $! >> {ids}; done; wait) &
    echo $! >> {ids}
done
"""
"""A command with children and grandchildren that ignore SIGTERM; its own id is written first."""
FAMILY_SIZE: Final = 13
UNTIL_COMPLETE: Final = f"until [ $(wc -l < {{ids}}) -eq {FAMILY_SIZE} ]; do sleep 0.01; done\n"
"""How the command waits until all of its children have begun."""


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the ends of killed processes as long as a busy machine takes."""
    monkeypatch.setattr(command, "KILL_SECONDS", 60.0)


def shell(script: str) -> str:
    """Return the setting that runs a script in a shell."""
    return json.dumps(["sh", "-c", script])


async def send(
    script: str, event_type: str = "job.failed", **settings: str
) -> DeliveryError | None:
    """Send an event to a shell script; return the error."""
    async with open_sink(KIND, command=shell(script), **settings) as sink:
        try:
            await sink.send(sample_delivery(event_type))
        except DeliveryError as error:
            return error
    return None


def run(
    *words: str, stdin: bytes = b"", timeout: float = 120.0, stop: Flag | None = None
) -> CommandResult:
    """Run a command with the PATH alone."""
    path = {"PATH": os.environ["PATH"]}
    asked = Command(words=words, environment=path, stdin=stdin, timeout=timeout)
    return run_command(asked, stop or Flag())


async def test_exec_passes_the_event_on_stdin_and_in_variables(tmp_path: Path):
    """A command reads one line of JSON, and the id, type and job are variables."""
    event = sample_delivery("job.failed").event
    out = tmp_path / "out"

    error = await send(
        f'read -r line; echo "$line" "$POLLER_EVENT_ID $POLLER_EVENT_TYPE $POLLER_EVENT_JOB_ID"'
        f" > {out}"
    )

    assert error is None
    assert out.read_bytes() == event.line[:-1] + f" {event.id} job.failed job-12345\n".encode()


async def test_exec_passes_no_secret_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A command gets a few known variables of the daemon, and no other one."""
    for name, text in (SECRETS | {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"}).items():
        monkeypatch.setenv(name, text)
    out = tmp_path / "out"

    await send(f"env > {out}")

    text = out.read_text("utf-8")
    assert "canary" not in text
    assert "TZ=Asia/Tokyo\n" in text
    assert "LC_ALL=C.UTF-8\n" in text


def test_guard_of_a_command_has_no_environment(monkeypatch: pytest.MonkeyPatch):
    """The shell beside a command has no secret either."""
    monkeypatch.setenv("SUTRO_API_KEY", "sk-canary")

    script = """
    cd /proc/$(cut -d ' ' -f 5 /proc/$$/stat)
    until [ "$(head -c 7 cmdline)" ]; do :; done  # empty while the kernel loads a program
    echo $(head -c 7 cmdline) $(wc -c < environ)
    """

    assert run("sh", "-c", script) == CommandResult(0, "exited with 0: /bin/sh 0")


def test_exec_variables_of_an_event_without_a_job():
    """An event about the daemon has an empty job id, so that a strict script can read it."""
    event = a_test_event(
        "poller.auth_failed",
        EventOrigin(deployment="api.sutro.sh"),
        datetime(2024, 1, 15, tzinfo=UTC),
        sink="exec",
        instance="1",
    )

    assert environment(event, {"HOME": "/root", "SUTRO_API_KEY": "key"}) == {
        "HOME": "/root",
        "POLLER_EVENT_ID": event.id,
        "POLLER_EVENT_TYPE": "poller.auth_failed",
        "POLLER_EVENT_JOB_ID": "",
    }


@pytest.mark.parametrize(
    ("script", "reason", "is_sink_fault"),
    [
        ("exit 75", "exited with 75", True),
        ("exit 3", "exited with 3", False),
        ("kill -SEGV $$", "was killed by SIGSEGV", False),
        ("echo one; echo two >&2; exit 1", "exited with 1: two", False),
        ("printf 'no end\\n\\n'; exit 1", "exited with 1: no end", False),
        (r"printf '\377\n'; exit 1", "exited with 1: \N{REPLACEMENT CHARACTER}", False),
        ("head -c 99999 /dev/zero; exit 1", "exited with 1", False),
        ("exec > /dev/null 2>&1 < /dev/null; exit 9", "exited with 9", False),
    ],
)
async def test_exec_failure_is_the_exit_code_and_the_last_line(
    script: str, reason: str, is_sink_fault: bool
):
    """Code 75 is a failure of the sink; another one may be the event's own, which three show."""
    error = await send(script)

    assert error is not None
    assert error.reason == f"the command {reason}"
    assert (error.is_sink_fault, error.is_suspect) == (is_sink_fault, not is_sink_fault)
    assert not error.is_permanent


async def test_exec_command_that_takes_too_long_is_killed_with_all_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At the timeout the whole group dies, and the last line says how far it came."""
    ids = tmp_path / "ids"

    def clock() -> float:
        return time.monotonic() + (60.0 if written(ids, FAMILY_SIZE) else 0.0)

    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    error = await send(f"echo waiting; {FAMILY.format(ids=ids)} wait", timeout="1m")

    assert error is not None
    assert error.reason == "the command did not end within 60 s: waiting"
    assert error.is_sink_fault
    assert await all_ended(written(ids, FAMILY_SIZE))


async def test_exec_command_leaves_no_children_behind(tmp_path: Path):
    """The children of a command that has ended die at once, though they hold its output open."""
    ids = tmp_path / "ids"

    error = await send((FAMILY + UNTIL_COMPLETE).format(ids=ids), timeout="1m")

    assert error is None
    assert await all_ended(written(ids, FAMILY_SIZE))


async def test_exec_command_ends_with_its_call(tmp_path: Path):
    """A call that is cancelled, as at the end of the daemon, returns when its command is dead."""
    ids = tmp_path / "ids"

    script = FAMILY.format(ids=ids) + "wait"
    async with open_sink(KIND, command=shell(script)) as sink, anyio.create_task_group() as tasks:
        tasks.start_soon(sink.send, sample_delivery())
        found = await until(lambda: written(ids, FAMILY_SIZE))
        tasks.cancel_scope.cancel()

    assert not is_running(found[0])
    assert await all_ended(found)


@pytest.mark.parametrize("closed", ["", "exec > /dev/null 2>&1; "], ids=["open", "closed output"])
async def test_exec_command_dies_with_the_process_that_runs_it(tmp_path: Path, closed: str):
    """After kill -9 of this process nothing of a command is left, without any help."""
    ids = tmp_path / "ids"
    source = (
        "import sys, threading; from poller.runtime.command import *;"
        "run_command(Command(words=['sh', '-c', sys.argv[1]], environment={}, stdin=b'',"
        " timeout=60), threading.Event())"
    )
    script = closed + FAMILY.format(ids=ids) + "wait"
    async with await anyio.open_process([sys.executable, "-c", source, script]) as process:
        found = await until(lambda: written(ids, FAMILY_SIZE))
        process.kill()

    assert await all_ended(found)


def test_command_that_kills_its_own_group_is_like_any_other():
    """SIGTERM to the group, as scripts send it at their end, does not end the guard."""
    script = 'trap "" TERM; kill 0; kill -0 $(cut -d " " -f 5 /proc/$$/stat) && echo guarded'

    assert run("sh", "-c", script) == CommandResult(0, "exited with 0: guarded")


def test_command_that_prints_without_end_is_killed():
    """Output is bounded, and no longer line than what is kept of it is shown."""
    assert run("sh", "-c", "yes") == CommandResult(None, "printed more than 16 MiB: y")
    assert run("cat", "/dev/zero") == CommandResult(None, "printed more than 16 MiB")


def test_command_may_print_much_and_read_nothing():
    """Neither a full pipe nor one that nobody reads blocks the command or its runner."""
    much = b"x" * (MAX_OUTPUT - 5) + b"\nend\n"

    assert run("cat", stdin=much) == CommandResult(0, "exited with 0: end")
    assert run("true", stdin=much) == CommandResult(0, "exited with 0")
    assert run("sh", "-c", "yes | head -c 1000000; cat; exit 4", stdin=much[-5:]) == (
        CommandResult(4, "exited with 4: end")
    )


def test_command_inherits_no_file():
    """A command has its three streams alone: no connection, no database, no lock."""
    result = run("sh", "-c", "cd /proc/self/fd && echo *")

    assert result.summary.removeprefix("exited with 0: ") in {"0 1 2", "0 1 2 3"}  # 3: the folder


def test_command_that_cannot_be_started_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A script whose interpreter is missing fails like a command, and leaves no guard."""
    script = tmp_path / "script"
    script.write_text("#!/no/such\n", "utf-8")
    script.chmod(0o755)

    started = []

    class Guard(subprocess.Popen):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            started.append(self.pid)

    monkeypatch.setattr(command.subprocess, "Popen", Guard)

    assert run(str(script)) == CommandResult(None, "cannot be started: No such file or directory")
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


def test_command_leaves_no_zombie_where_its_orphans_are_adopted():
    """As the first process of a container does, the runner collects what a command leaves."""
    source = (
        "import ctypes, os, threading; from poller.runtime import command;"
        "from poller.runtime.command import *; command.KILL_SECONDS = 60.0;"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0);"  # PR_SET_CHILD_SUBREAPER
        "run_command(Command(words=['sh', '-c', 'sleep 100 & sleep 100 & exit 0'],"
        f" environment={{'PATH': {os.environ['PATH']!r}}}, stdin=b'', timeout=60),"
        " threading.Event());"
        "os.waitpid(-1, os.WNOHANG)"
    )

    ended = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.stderr.strip().endswith("ChildProcessError: [Errno 10] No child processes")


def test_signal_without_a_name_is_a_number():
    """Real-time signals have no name of their own."""
    number = int(signal.SIGRTMIN) + 3

    assert run("sh", "-c", f"kill -{number} $$").summary == f"was killed by signal {number}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no-such-program --to me", "must begin with a program in PATH, or with the path of one"),
        ("TOKEN=canary notify", "must begin with a program in PATH, or with the path of one"),
        ("/no/such/file", "must begin with a file that exists"),
        ("/etc/passwd", "must begin with a file that is executable"),
        ("sh 'canary", 'must be words with closed quotes, or a JSON list such as ["notify", "-q"]'),
        ("[1]", 'must be words with closed quotes, or a JSON list such as ["notify", "-q"]'),
        ("[]", 'must be words with closed quotes, or a JSON list such as ["notify", "-q"]'),
        ('["sh", "\\u0000"]', "must be words with closed quotes, or a JSON list such as"),
    ],
)
async def test_exec_command_that_cannot_work_is_one_line(text: str, problem: str):
    """A command that is missing is found at the start; the line repeats nothing of it."""
    with pytest.raises(ConfigError) as caught:
        async with open_sink(KIND, command=text):
            pass

    assert str(caught.value).startswith(f"POLLER_TEST_COMMAND: {problem}")
    assert len(caught.value.problems) == 1
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ['["sh", "-c", "exit 0"]', "sh -c 'exit 0'"])
def test_exec_command_is_words_or_a_list(text: str):
    """Words are split as a shell does it, without anything else that a shell does."""
    assert ExecSettings(command=text).command == tuple(shlex.split("sh -c 'exit 0'"))
    assert ExecSettings(command="sh $HOME *").command == ("sh", "$HOME", "*")


def test_exec_command_for_a_shell_is_a_warning():
    """Who writes a pipe learns that no shell reads it."""
    piped, plain = (ExecSettings(command=text) for text in ("cat | mail me", "sh -c 'cat | mail'"))

    assert find_warnings(piped) == {"command": "no shell reads |: use a script, or sh -c"}
    assert find_warnings(plain) == {}


async def test_exec_sink_runs_as_many_commands_as_are_set():
    """The number of commands at the same time is a setting, 1 unless it is set."""
    async with open_sink(KIND, command="true") as one:
        assert one.concurrency == 1
    async with open_sink(KIND, command="true", concurrency="4") as four:
        assert four.concurrency == 4
