"""The command line: one verb, its output, its exit code.

Data goes to stdout and everything else to stderr; `run` alone logs to stdout, where a service
manager or a container engine expects it.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

import anyio
import structlog

from poller import __version__, logs
from poller.app import App, make_client, make_http
from poller.clock import Clock
from poller.configuration import Config, describe, load
from poller.errors import (
    ConfigError,
    Misconfigured,
    NotFound,
    PollError,
    Refused,
    StoreLocked,
    StoreRefused,
)

OK: Final = 0
CRASHED: Final = 1
UNREACHABLE: Final = 69
LOCKED: Final = 75
KEY_REFUSED: Final = 77
BAD_CONFIGURATION: Final = 78
UNLIKELY_ID: Final = "sutro-poller-check"

log = structlog.get_logger()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit with its code."""
    arguments = _parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], int] = arguments.verb
    try:
        code = verb(arguments)
    except ConfigError as error:
        for problem in error.problems:
            print(f"sutro-poller: {problem}", file=sys.stderr)  # noqa: T201 - for people
        code = BAD_CONFIGURATION
    except (KeyboardInterrupt, BrokenPipeError):
        code = OK
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sutro-poller",
        description="Tells people when their Sutro batch-inference jobs end.",
        epilog="Settings are environment variables; `sutro-poller check` lists them.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    run = verbs.add_parser("run", help="watch the configured jobs and send events until stopped")
    run.set_defaults(verb=_run)
    check = verbs.add_parser("check", help="show the settings, and where each came from")
    check.add_argument("--api", action="store_true", help="make one request, say what it told")
    check.add_argument("-o", "--output", choices=("table", "json"), default="table")
    check.set_defaults(verb=_check)
    for verb in (run, check):
        verb.add_argument("--env-file", type=Path, help="a file of variables; the environment wins")
    simulate = verbs.add_parser("simulate", help="serve a Sutro API with made-up jobs on loopback")
    simulate.add_argument("--port", type=int, default=8378, help="8378 unless told; 0 for any")
    simulate.add_argument("--jobs", type=int, default=6, help="how many jobs to begin with")
    simulate.add_argument("--key", default="sk_simulator", help="the key that it accepts")
    simulate.add_argument("--speed", type=float, default=1.0, help="how fast its time goes")
    simulate.set_defaults(verb=_simulate)
    demo = verbs.add_parser("demo", help="show it all at work: simulator, daemon, receiver")
    demo.set_defaults(verb=_demo)
    verbs.add_parser("version", help="print the version").set_defaults(verb=_version)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    config = load(os.environ, arguments.env_file)
    settings = config.settings
    logs.configure(
        settings.log_level, settings.log_format, stream=sys.stdout, secrets=config.secrets
    )
    try:
        anyio.run(_run_app, config, backend_options={"use_uvloop": _has_uvloop()})
    except BaseException as error:  # noqa: BLE001 - a crash too is told by the log
        return _fail(error)
    return OK


async def _run_app(config: Config) -> None:
    await App(config).run()


def _fail(error: BaseException) -> int:
    """Give the exit code of what ended the daemon; what nobody foresaw is logged whole."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, StoreLocked | StoreRefused | ConfigError):
        print(f"sutro-poller: {error}", file=sys.stderr)  # noqa: T201 - for people
        return LOCKED if isinstance(error, StoreLocked) else BAD_CONFIGURATION
    # No traceback of the interpreter's own: this one goes through the log, which strikes secrets.
    log.critical("poller.crashed", exc_info=error)
    return CRASHED


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401, PLC0415 - it does not install everywhere
    except ImportError:
        return False
    return True


def _check(arguments: argparse.Namespace) -> int:
    config = load(os.environ, arguments.env_file, for_run=not arguments.api)
    logs.configure("warning", "console", stream=sys.stderr, secrets=config.secrets)
    code, told = anyio.run(_ask_api, config) if arguments.api else (OK, "")
    rows = describe(config)
    if arguments.output == "json":
        shown = {"settings": [row._asdict() for row in rows]} | ({"api": told} if told else {})
        _print(json.dumps(shown, indent=2))
        return code
    names, origins = (max(len(row[column]) for row in rows) for column in (0, 2))
    for variable, value, origin in rows:
        _print(f"{variable:{names}}  {origin:{origins}}  {value or '-'}")
    if told:
        _print(f"\n{told}")
    return code


async def _ask_api(config: Config) -> tuple[int, str]:
    """Make one request, for the first configured job, and say what it told."""
    job_id = next(iter(config.settings.job_ids), UNLIKELY_ID)
    async with make_http(config) as http:
        client = make_client(config, http, Clock())
        try:
            job = await client.get_job(job_id)
        except NotFound:
            told = "is not known to it" if config.settings.job_ids else "(made up) is not known"
            return OK, f"The API at {client.base} takes the key; job {job_id} {told}."
        except PollError as error:
            code = next(code for kind, code in CHECKED if isinstance(error, kind))
            return code, f"The API at {client.base} cannot be used: {error}."
        return OK, f"The API at {client.base} takes the key; job {job_id} is {job.status}."


CHECKED: Final[tuple[tuple[type[PollError], int], ...]] = (
    (Refused, KEY_REFUSED),
    (Misconfigured, BAD_CONFIGURATION),
    (PollError, UNREACHABLE),
)
"""The exit code of `check --api` for each kind of error; the first row that fits counts."""


def _simulate(arguments: argparse.Namespace) -> int:
    from poller.sutro import script, simulator  # noqa: PLC0415 - the daemon does not need it

    simulated = simulator.Simulator(key=arguments.key, speed=arguments.speed)
    for one in script.cast(arguments.jobs):
        simulated.add(one)

    async def serve() -> None:
        async with simulator.serve(simulated, port=arguments.port) as base:
            ids = ",".join(f"job-{number + 1}" for number in range(arguments.jobs))
            _print(f"SUTRO_API_URL={base}\nSUTRO_API_KEY={arguments.key}\nPOLLER_JOB_IDS={ids}")
            sys.stdout.flush()
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                await anext(received)

    anyio.run(serve)
    return OK


def _demo(_arguments: argparse.Namespace) -> int:
    from poller import demo  # noqa: PLC0415 - the daemon does not need it

    return anyio.run(demo.run)


def _version(_arguments: argparse.Namespace) -> int:
    _print(f"sutro-poller {__version__}")
    return OK


def _print(text: str) -> None:
    print(text)  # noqa: T201 - what the verb was asked for
