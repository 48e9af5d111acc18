"""The command line: one verb, its output, its exit code.

Each verb is a module of this package with `arguments`, which says what it takes, and `execute`,
which does it and gives the exit code. Only the module of the verb that is asked for is imported.
Data goes to stdout and everything else to stderr; `run` alone logs to stdout, where a service
manager or a container engine expects it.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from poller import __version__
from poller.cli import exit_codes as codes
from poller.core.errors import ConfigError, NoMatch, StoreError, StoreUnavailable

VERBS: Final = {
    "run": "watch the configured jobs and send events until stopped",
    "wait": "wait until jobs have ended, and exit by how they did",
    "check": "show the settings, and where each came from",
    "health": "ask the running daemon whether it is ready, for container engines",
    "status": "say whether all is well, and what needs a person",
    "jobs": "list the jobs that were seen; add and remove watched ones",
    "events": "list, show and replay events",
    "dead": "list, replay and drop what a sink did not take",
    "sinks": "list, test and enable sinks",
    "costs": "sum what jobs have cost",
    "schema": "print the JSON Schema of the events",
    "simulate": "serve a Sutro API with made-up jobs on loopback",
    "demo": "show it all at work: simulator, daemon, receiver",
    "version": "print the version",
}

STORE_EXIT_CODES: Final[tuple[tuple[type[StoreError], int], ...]] = (
    (NoMatch, codes.USAGE),
    (StoreUnavailable, codes.LOCKED),
    (StoreError, codes.BAD_CONFIGURATION),
)
"""The exit code for each way in which a store refuses; the first row that fits counts."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit with its code."""
    words = sys.argv[1:] if argv is None else argv
    is_run = words[:1] == ["run"]
    # Until `run` heeds signals itself; as process 1 of a container it would be deaf to this one.
    # The other verbs leave a terminal as it was: the live table of `wait` hides the cursor.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(codes.OK if is_run else codes.TERMINATED))
    if is_run:  # what a reload would read is read at the start
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # structlog takes 4 MiB of it along where it is installed, for what a daemon never draws.
        sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    try:
        arguments = _parser(words[0] if words else "").parse_args(words)
        code: int = arguments.execute(arguments)
    except ConfigError as error:
        print_error(*error.problems)
        code = codes.BAD_CONFIGURATION
    except StoreError as error:
        print_error(str(error))
        code = next(code for kind, code in STORE_EXIT_CODES if isinstance(error, kind))
    except KeyboardInterrupt:
        code = codes.INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        code = codes.OK
    sys.exit(code)


def add_env_file_argument(parser: argparse.ArgumentParser) -> None:
    """Let a verb that reads settings take a file of them."""
    parser.add_argument("--env-file", type=Path, help="a file of variables; the environment wins")


def print_error(*problems: str) -> None:
    """Tell a person what is wrong, a line each."""
    for problem in problems:
        print(f"sutro-poller: {problem}", file=sys.stderr)  # noqa: T201 - for people


def print_status(*lines: str) -> None:
    """Tell a person what goes on, a line each."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - for people


def print_output(text: str) -> None:
    """Print what the verb was asked for, at once; its exit code counts even if nobody reads."""
    try:
        print(text, flush=True)  # noqa: T201 - data
    except BrokenPipeError:
        _silence_stdout()
    except OSError as error:
        _silence_stdout()
        print_error(f"stdout cannot be written to: {error.strerror}")
        sys.exit(codes.NO_OUTPUT)


def _silence_stdout() -> None:
    """Let all further output, and the interpreter's last flush, meet nobody."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser(word: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sutro-poller",
        description="Tells people when their Sutro batch-inference jobs end.",
        epilog="Settings are environment variables; `sutro-poller check` lists them.",
    )
    parser.add_argument("--version", action="version", version=f"sutro-poller {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, purpose in VERBS.items():
        verb = verbs.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
        )
        if name == word:
            module = import_module(f"poller.cli.{name}")
            module.add_arguments(verb)
            verb.set_defaults(execute=module.run)
    return parser
