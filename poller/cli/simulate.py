"""`simulate`: serve a simulated Sutro API on loopback, for trying out a receiver."""

import argparse
import json
import math
import secrets
import shlex
import signal
from dataclasses import replace
from typing import Any, Final

import anyio
from pydantic import ValidationError

from poller.cli import print_output
from poller.cli.arguments import parse_count
from poller.core.errors import ConfigError
from poller.settings.durations import parse_duration
from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.requests import describe, script_fields
from poller.sutro.simulator.script import JobScript, demo_jobs
from poller.sutro.simulator.server import Simulator, serve

MAX_PORT: Final = 65_535
DEMO_JOBS: Final = 6
DEMO_STRETCH: Final = 5.0
"""Longer than in the demo: there is time to read what the daemon prints."""

FORMS: Final = (
    ("--job", script_fields, "add a job; repeat for more"),
    ("--submission", script_fields, "fields of a submitted job; repeated, they take turns"),
    ("--fault", Fault, "fail requests, such as status=503 count=3; repeat for more"),
)
READY: Final = "# The simulated Sutro API is ready. Ctrl-C or SIGTERM stops it."
"""A comment: the whole output is an env file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `simulate`."""
    parser.add_argument(
        "--port", type=_port, default=8378, metavar="PORT", help="0 for any (default: 8378)"
    )
    parser.add_argument(
        "--jobs",
        type=_job_count,
        metavar="N",
        help="number of made-up jobs (default: 6, or 0 with --job or --submission)",
    )
    _add_forms(parser)
    parser.add_argument(
        "--key",
        default="sk_simulator",
        metavar="KEY",
        help="API key to accept (default: sk_simulator)",
    )
    parser.add_argument(
        "--speed",
        type=_factor,
        default=1.0,
        metavar="FACTOR",
        help="how fast jobs pass; at 1, the default, made-up ones end after 15 to 100 s",
    )
    parser.add_argument(
        "--list-delay",
        type=_duration,
        default=0.0,
        metavar="DURATION",
        help="how far the rows of the job list lag behind: 90s, 2h (default: 0)",
    )
    parser.add_argument(
        "--stuck-row",
        type=parse_count,
        default=0,
        metavar="N",
        help="number of jobs whose row in the job list never changes (default: 0)",
    )


def _add_forms(parser: argparse.ArgumentParser) -> None:
    for option, form, text in FORMS:
        parser.add_argument(
            option,
            action=_AppendForm,
            nargs="+",
            type=_field,
            const=form,
            default=(),
            metavar="FIELD=VALUE",
            help=text,
        )


class _AppendForm(argparse.Action):
    """Append what `const` makes of FIELD=VALUE ..., as keywords."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse passes it
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002 - argparse passes it
    ) -> None:
        """Append one form. Raises the usage error that names the bad fields."""
        try:
            form = self.const(**dict(values))
        except ValidationError as error:
            raise argparse.ArgumentError(self, describe(error)) from None
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), form))


def _field(text: str) -> tuple[str, Any]:
    """Return the name and the value of a field; an object is in JSON."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return name, json.loads(value) if value.startswith("{") else value
    except ValueError:
        raise argparse.ArgumentTypeError(f"{name}: not JSON") from None


def build(arguments: argparse.Namespace) -> Simulator:
    """Return the simulator of the command line, with its jobs. Raises ConfigError."""
    # New IDs at each start: a daemon remembers ended jobs, and event IDs derive from job IDs.
    suffix = f"-{secrets.token_hex(2)}"
    simulator = Simulator(
        key=arguments.key,
        speed=arguments.speed,
        list_delay=arguments.list_delay,
        suffix=suffix,
        submissions=arguments.submission or ({},),
    )
    is_chosen = bool(arguments.job or arguments.submission)
    count = (0 if is_chosen else DEMO_JOBS) if arguments.jobs is None else arguments.jobs
    for number, script in enumerate(demo_jobs(count, suffix=suffix, stretch=DEMO_STRETCH)):
        simulator.add(replace(script, is_row_stuck=number < arguments.stuck_row))
    for fields in arguments.job:
        _add_job(simulator, fields)
    simulator.faults += arguments.fault
    return simulator


def _add_job(simulator: Simulator, fields: dict[str, Any]) -> None:
    try:
        simulator.add(JobScript(**{"job_id": simulator.free_id()} | fields))
    except ValueError as error:
        raise ConfigError(f"--job: {error}") from None


def run(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; print the variables that point the daemon here."""
    simulator = build(arguments)

    async def serve_until_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with serve(simulator, port=arguments.port) as base:
                # At once: a reader of the file finds all of them or none.
                print_output("\n".join([*variables(simulator, base), READY]))
                await anext(received)

    anyio.run(serve_until_signal)


def variables(simulator: Simulator, base: str) -> list[str]:
    """Return the lines of an env file that points daemon and official SDK to a simulator."""
    values = {"SUTRO_API_URL": base, "SUTRO_API_KEY": simulator.key}
    if simulator.job_ids:
        values["POLLER_JOB_IDS"] = ",".join(simulator.job_ids)
    values["POLLER_DISCOVER"] = "on"
    return [f"{name}={shlex.quote(value)}" for name, value in values.items()]


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_PORT}")
    return int(text)


def _job_count(text: str) -> int:
    return 0 if text == "0" else parse_count(text)


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise argparse.ArgumentTypeError("must be a number greater than 0")
    return factor


def _duration(text: str) -> float:
    try:
        return float(str(parse_duration(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
