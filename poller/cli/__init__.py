"""The command line: one verb, its output, its exit code.

Each verb is a module of this package. `add_arguments`, where there is one, declares the arguments
of the verb; `run`, or what an action sets as `run`, executes it and returns the exit code, or None
for 0. Only the module of the requested verb is imported. Data goes to stdout and everything else to
stderr; `run` alone logs to stdout, where a service manager or a container engine expects it.
"""

import argparse
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import poller
from poller.cli import exit_codes as codes
from poller.core.errors import ConfigError, PollerError, StoreError
from poller.runtime import streams

VERBS: Final = {
    "run": "watch the configured jobs and send events until stopped",
    "wait": "wait until jobs end; the exit code says how they ended",
    "check": "validate the settings and show where each comes from",
    "health": "check whether the running daemon is ready (for container health checks)",
    "status": "show health, backlog and what needs attention",
    "jobs": "list and show jobs; add or remove watched jobs of the daemon",
    "events": "list, show and replay events",
    "dead-letters": "list, replay or drop undelivered events",
    "sinks": "list, test and enable sinks; explain which events they get",
    "costs": "sum the costs of ended jobs",
    "schema": "print the JSON Schema of the events",
    "listen": "receive webhooks on loopback and print their events",
    "files": "print a file that comes with the package, such as the systemd unit",
    "simulate": "serve a simulated Sutro API on loopback",
    "demo": "run a local demo with simulator, daemon and receiver",
    "help": "show the help of a command",
}
ALIASES: Final = {"dead-letters": ("dead",)}


class CommandError(PollerError):
    """A verb failed. `code` is the exit code."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit with its code."""
    words = [*(sys.argv[1:] if argv is None else argv)]
    verb = _requested_verb(words)
    _handle_early_signals(is_run=verb == "run")
    # structlog and aiohttp import these where they are installed: 5 MiB and 80 ms for nothing.
    for module in () if verb == "wait" else ("rich", "aiodns"):
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]
    if verb == "run":
        _import_aiohttp()
    streams.prepare()
    try:
        sys.exit(_execute(verb, words))
    finally:
        with _writing_output():  # `--help` is still in the buffer
            sys.stdout.flush()


def _execute(verb: str, words: Sequence[str]) -> int:
    """Return the exit code of a verb, and print the error that ended it."""
    try:
        arguments = build_parser(verb).parse_args(words)
        if not gc.isenabled():
            gc.freeze()  # what was imported stays
            gc.enable()
        return arguments.run(arguments) or codes.OK
    except KeyboardInterrupt:
        print_error("interrupted")
        return codes.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug must not look like a job that failed
        return _report(unwrap(error))


def _report(error: BaseException) -> int:
    """Print the error that ended a verb; return its exit code."""
    if isinstance(error, ConfigError):
        print_error(*error.problems)
        return codes.BAD_CONFIGURATION
    if isinstance(error, StoreError | CommandError):
        print_error(str(error))
        return error.code if isinstance(error, CommandError) else codes.for_error(error)
    is_debug = os.environ.get("POLLER_LOG_LEVEL", "").lower() == "debug"
    if is_debug:
        traceback.print_exception(error)
    where = "".join(
        f" in {Path(frame.filename).name}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)[-1:]
    )
    how = "" if is_debug else "; POLLER_LOG_LEVEL=debug shows the traceback"
    # Without the text of the error, which may hold a secret.
    print_error(f"this is a bug: {type(error).__name__}{where}{how}")
    return codes.CRASHED


def unwrap(error: BaseException) -> BaseException:
    """Return the only error of a group, and else the error itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def add_env_file_argument(parser: argparse.ArgumentParser) -> None:
    """Add --env-file to a verb that reads settings."""
    parser.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,  # keep a value given before the verb
        help="read variables from FILE; the environment takes precedence",
    )


def as_sentence(purpose: str) -> str:
    """Return the help of a verb or an action as a sentence."""
    return f"{purpose[0].upper()}{purpose[1:]}."


def print_error(*problems: str) -> None:
    """Print problems to stderr, one per line."""
    for problem in problems:
        print(f"sutro-poller: {problem}", file=sys.stderr)  # noqa: T201 - for people


def print_status(*lines: str) -> None:
    """Print progress to stderr at once, one line each."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - for people


def print_output(text: str) -> bool:
    """Print the result of a verb to stdout at once; return whether its reader is there.

    A reader that has gone does not change the exit code.
    """
    with _writing_output():
        print(text, flush=True)  # noqa: T201 - data
        return True
    return False


@contextmanager
def _writing_output() -> Iterator[None]:
    """Exit with NO_OUTPUT if stdout fails; discard all output once its reader has gone."""
    try:
        yield
    except BrokenPipeError:
        _silence_stdout()
    except OSError as error:
        _silence_stdout()
        print_error(f"cannot write to stdout: {error.strerror}")
        sys.exit(codes.NO_OUTPUT)


def _handle_early_signals(*, is_run: bool) -> None:
    """Set the signal handlers that count until `run` installs its own.

    The daemon exits at once: an exception of a handler can be lost in an import. The other verbs
    exit through Python, so that the live table of `wait` gives the terminal its cursor back.
    """
    if is_run:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(codes.OK))
        signal.signal(signal.SIGINT, lambda *_: os._exit(codes.INTERRUPTED))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # everything is about to be read anyway
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(codes.TERMINATED))
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a script's background
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _import_aiohttp() -> None:
    """Import aiohttp without the CA certificates of its context that verifies none: 2 MiB, 30 ms.

    The system's certificates are read for every other context.
    """
    context = import_module("ssl").SSLContext
    read = context.set_default_verify_paths
    context.set_default_verify_paths = lambda self: read(self) if self.verify_mode else None
    try:
        import_module("aiohttp")
    finally:
        context.set_default_verify_paths = read


def _silence_stdout() -> None:
    """Discard all further output, also what the interpreter flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _requested_verb(words: Sequence[str]) -> str:
    """Return the full name of the first word that is a verb; empty when there is none."""
    names = {alias: name for name in VERBS for alias in (name, *ALIASES.get(name, ()))}
    rest = words[2:] if words[:1] == ["--env-file"] else words
    first = next((word for word in rest if not word.startswith("--env-file=")), "")
    return names.get(first, "")


class _PrintVersion(argparse.Action):
    """Prints the version, whose lookup takes a while, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print_output(f"sutro-poller {poller.__version__}")
        parser.exit()


def build_parser(*requested: str) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the requested verbs alone."""
    parser = argparse.ArgumentParser(
        prog="sutro-poller",
        description="Send events when Sutro batch-inference jobs start and end.",
        epilog="Settings are environment variables; `sutro-poller check` lists them.",
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version")
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="same as after the command")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, purpose in VERBS.items():
        verb = verbs.add_parser(
            name,
            aliases=ALIASES.get(name, ()),
            help=purpose,
            description=as_sentence(purpose),
        )
        if name in requested:
            module = import_module(f"poller.cli.{name.replace('-', '_')}")
            if hasattr(module, "add_arguments"):
                module.add_arguments(verb)
            if hasattr(module, "run"):
                verb.set_defaults(run=module.run)
    return parser
