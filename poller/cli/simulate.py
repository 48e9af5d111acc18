"""`simulate`: a Sutro API on loopback for those who build a receiver."""

import argparse
import math
import secrets
import signal
from dataclasses import replace
from typing import Final

import anyio

from poller.cli import exit_codes as codes
from poller.cli import print_output
from poller.sutro.simulator.script import demo_jobs
from poller.sutro.simulator.server import Simulator, serve

MAX_PORT: Final = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `simulate` takes."""
    parser.add_argument("--port", type=_port, default=8378, help="0 takes any (default: 8378)")
    parser.add_argument("--jobs", type=_count, default=6, help="how many to make (default: 6)")
    parser.add_argument("--key", default="sk_simulator", help="accepted (default: sk_simulator)")
    parser.add_argument(
        "--speed", type=_factor, default=0.2, help="0.2: jobs end after 15 to 100 s (default: 0.2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes; print the variables that point the daemon here."""
    simulator = Simulator(key=arguments.key, speed=arguments.speed)
    # A daemon remembers which jobs have ended, and ids of events come from those of jobs.
    tag = secrets.token_hex(2)
    scripts = [replace(it, job_id=f"{it.job_id}-{tag}") for it in demo_jobs(arguments.jobs)]
    for script in scripts:
        simulator.add(script)

    async def until_a_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with serve(simulator, port=arguments.port) as base:
                job_ids = ",".join(script.job_id for script in scripts)
                print_output(f"SUTRO_API_URL={base}")
                print_output(f"SUTRO_API_KEY={arguments.key}")
                print_output(f"POLLER_JOB_IDS={job_ids}")
                await anext(received)

    anyio.run(until_a_signal)
    return codes.OK


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_PORT}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise argparse.ArgumentTypeError("must be a number, more than 0")
    return factor
