"""`simulate`: a Sutro API on loopback for those who build a receiver."""

import argparse
import signal

import anyio

from poller.cli import codes, say
from poller.sutro.script import cast
from poller.sutro.simulator import Simulator, serve


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `simulate` takes."""
    parser.add_argument("--port", type=int, default=8378, help="8378 unless told; 0 for any")
    parser.add_argument("--jobs", type=int, default=6, help="how many jobs to begin with")
    parser.add_argument("--key", default="sk_simulator", help="the key that it accepts")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast its time goes")


def execute(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes; print the variables that point the daemon here."""
    simulator = Simulator(key=arguments.key, speed=arguments.speed)
    scripts = cast(arguments.jobs)
    for script in scripts:
        simulator.add(script)

    async def until_a_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with serve(simulator, port=arguments.port) as base:
                job_ids = ",".join(script.job_id for script in scripts)
                say(f"SUTRO_API_URL={base}")
                say(f"SUTRO_API_KEY={arguments.key}")
                say(f"POLLER_JOB_IDS={job_ids}")
                await anext(received)

    anyio.run(until_a_signal)
    return codes.OK
