"""`simulate`: serve a simulated Sutro API on loopback, for trying out a receiver."""

import argparse
import math
import secrets
import signal
from dataclasses import replace
from typing import Final

import anyio

from poller.cli import print_output
from poller.cli.arguments import parse_count
from poller.settings.types import parse_duration
from poller.sutro.simulator.script import demo_jobs
from poller.sutro.simulator.server import Simulator, serve

MAX_PORT: Final = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `simulate`."""
    parser.add_argument(
        "--port", type=_port, default=8378, metavar="PORT", help="0 for any (default: 8378)"
    )
    parser.add_argument(
        "--jobs", type=parse_count, default=6, metavar="N", help="number of jobs (default: 6)"
    )
    parser.add_argument(
        "--key",
        default="sk_simulator",
        metavar="KEY",
        help="API key to accept (default: sk_simulator)",
    )
    parser.add_argument(
        "--speed",
        type=_factor,
        default=0.2,
        metavar="FACTOR",
        help="jobs end after 15 to 100 s at 0.2, the default",
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


def build(arguments: argparse.Namespace) -> Simulator:
    """Return the simulator of the command line, with its jobs."""
    simulator = Simulator(key=arguments.key, speed=arguments.speed, list_delay=arguments.list_delay)
    # New IDs at each start: a daemon remembers ended jobs, and event IDs derive from job IDs.
    scripts = demo_jobs(arguments.jobs, suffix=f"-{secrets.token_hex(2)}")
    for number, script in enumerate(scripts):
        simulator.add(replace(script, is_row_stuck=number < arguments.stuck_row))
    return simulator


def run(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; print the variables that point the daemon here."""
    simulator = build(arguments)

    async def serve_until_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with serve(simulator, port=arguments.port) as base:
                job_ids = ",".join(simulator.job_ids)
                # At once: a reader of the file finds all of them or none.
                print_output(
                    f"SUTRO_API_URL={base}\nSUTRO_API_KEY={arguments.key}\nPOLLER_JOB_IDS={job_ids}"
                )
                await anext(received)

    anyio.run(serve_until_signal)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_PORT}")
    return int(text)


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
