"""How a command ends that neither succeeds nor fails as it should."""

import asyncio
import io
import signal
import sys
import threading
from collections.abc import Callable

import anyio
import pytest

from poller import __main__ as entry_point
from poller import __version__
from poller.cli import main, run, schema
from tests.cli.conftest import RunCli


def raising(error: BaseException) -> Callable[..., None]:
    """Return a verb that raises."""

    def run(_arguments: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        KeyError("sk_secret"),
        OSError(28, "sk_secret"),
        ExceptionGroup("sk_secret", [ValueError("sk_secret")]),
        ExceptionGroup("sk_secret", [ValueError("sk_secret"), KeyError("sk_secret")]),
    ],
)
def test_bug_has_an_exit_code_of_its_own(
    error: Exception, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
):
    """A bug exits with 70 and one line, which says how to get the traceback and has no secret."""
    monkeypatch.setattr(schema, "run", raising(error))

    result = run_cli("schema", POLLER_LOG_LEVEL="info")

    assert (result.code, result.out) == (70, "")
    assert result.err.startswith("sutro-poller: this is a bug: ")
    assert result.err.endswith("; POLLER_LOG_LEVEL=debug shows the traceback\n")
    assert result.err.count("\n") == 1
    assert "sk_secret" not in result.err


def test_traceback_of_a_bug_is_shown_on_request(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch):
    """With POLLER_LOG_LEVEL=debug the traceback comes before the line."""
    monkeypatch.setattr(schema, "run", raising(KeyError("which")))

    result = run_cli("schema", POLLER_LOG_LEVEL="debug")

    assert result.code == 70
    assert result.err.startswith("Traceback ")
    assert "KeyError: 'which'" in result.err


def test_interrupted_command_says_so(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C exits with 130 and a line."""
    monkeypatch.setattr(schema, "run", raising(KeyboardInterrupt()))

    result = run_cli("schema")

    assert (result.code, result.err) == (130, "sutro-poller: interrupted\n")


class Full(io.StringIO):
    """A stream onto a full disk, which shows when it is flushed."""

    def flush(self) -> None:
        """Fail."""
        raise OSError(28, "No space left on device")

    def fileno(self) -> int:
        """Return a file descriptor that may be replaced."""
        return self.null.fileno()


def test_help_that_cannot_be_written_exits_with_74(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    """Output that is still in the buffer at the end counts too."""
    stream = Full()
    with (tmp_path / "any").open("w") as stream.null:
        monkeypatch.setattr(sys, "stdout", stream)
        result = run_cli("--help")

    assert result.code == 74
    assert result.err == "sutro-poller: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("command", ["", "wait", "jobs add", "dead"])
def test_help_is_a_command(run_cli: RunCli, command: str):
    """`help` and a command print what the command prints for --help."""
    words = command.split()

    assert run_cli("help", *words) == run_cli(*words, "--help")
    assert run_cli("help", *words).code == 0


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler])
@pytest.mark.parametrize("start", [main, entry_point.main])
def test_interrupts_stay_ignored(start, before, monkeypatch: pytest.MonkeyPatch, capsys):
    """A script ignores Ctrl-C for what it starts in the background: a command keeps that."""
    monkeypatch.setattr(sys, "argv", ["sutro-poller", "schema"])
    restored = signal.signal(signal.SIGINT, before)
    try:
        with pytest.raises(SystemExit):
            start()
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, restored)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    assert after is (before if before is signal.SIG_IGN else signal.default_int_handler)


class CrashingApp:
    """A daemon that crashes while a call of a plug-in hangs in a thread."""

    def __init__(self, hang: Callable[[], object]) -> None:
        self.hang = hang

    async def run(self) -> None:
        """Crash once the call has begun."""
        asyncio.get_running_loop().run_in_executor(None, self.hang)
        raise KeyError


def test_crash_does_not_wait_for_threads_that_hang(monkeypatch: pytest.MonkeyPatch):
    """A daemon that crashed exits at once: its supervisor is to start it again."""
    exited, codes = threading.Event(), []
    monkeypatch.setattr(run, "App", lambda *_, **__: CrashingApp(exited.wait))
    monkeypatch.setattr(run, "handle_signals", lambda _app: None)

    def finish(code: int) -> None:
        codes.append(code)
        exited.set()

    anyio.run(run._run_app, None, finish)

    assert codes == [70]


def test_version_is_one_line(run_cli: RunCli):
    """`--version` prints the version of the package, whatever else is wrong."""
    result = run_cli("--version")

    assert (result.code, result.out, result.err) == (0, f"sutro-poller {__version__}\n", "")
