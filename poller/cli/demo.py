"""`demo`: simulator, daemon and a verifying receiver at work."""

import argparse
import base64
import json
import os
import secrets
import signal
import sys
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Final

import anyio
from aiohttp import web
from anyio.abc import Process

from poller.cli import exit_codes as codes
from poller.cli import print_error, print_output
from poller.receive import (
    Event,
    InvalidWebhook,
    JobCancelled,
    JobFailed,
    JobSucceeded,
    verify,
)
from poller.sinks.text import format_details
from poller.sutro.simulator.script import demo_jobs
from poller.sutro.simulator.server import Simulator, listen, serve

JOBS: Final = 6
TIME_LIMIT: Final = 120.0


def run(_arguments: argparse.Namespace) -> int:
    """Run the demo to its end; return 0 if every end arrived with a valid signature."""
    return anyio.run(play_demo)


@dataclass(slots=True)
class Receiver:
    """Verify the signature of each webhook, and print its event."""

    secret: str
    events: list[Event] = field(default_factory=list)
    rejected: int = 0
    is_read: bool = True
    all_ended: anyio.Event = field(default_factory=anyio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        """Respond with 204 to a webhook with a valid signature, else with 401."""
        try:
            event = verify(request.headers, await request.read(), self.secret)
        except InvalidWebhook as error:
            self.rejected += 1
            return web.Response(status=error.status)
        self.events.append(event)
        details = format_details(event.data)
        self.is_read = print_output(f"{event.type:<17} {event.data['job']['job_id']:<6}  {details}")
        if len(self.ends) >= JOBS or not self.is_read:
            self.all_ended.set()
        return web.Response(status=204)

    @property
    def ends(self) -> list[JobSucceeded | JobFailed | JobCancelled]:
        """Return the events of jobs that ended."""
        kinds = (JobSucceeded, JobFailed, JobCancelled)
        return [event for event in self.events if isinstance(event, kinds)]


async def play_demo() -> int:
    """Run the demo until its end or a signal, and return the exit code."""
    code: int = codes.FAILURE
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with anyio.create_task_group() as showing:

            async def stop_on_signal() -> None:
                nonlocal code
                code = 128 + await anext(received)
                print_error("stopped before the end of the demo")
                showing.cancel_scope.cancel()

            showing.start_soon(stop_on_signal)
            code = await run_jobs()
            showing.cancel_scope.cancel()
    return code


async def run_jobs() -> int:
    """Run the daemon until the simulated jobs have ended; return the exit code."""
    receiver = Receiver("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    app = web.Application()
    app.router.add_post("/events", receiver.receive)
    simulator = Simulator(key="sk_demo_" + secrets.token_hex(8))
    for script in demo_jobs(JOBS):
        simulator.add(script)
    command = [sys.executable, "-m", "poller", "run"]
    with TemporaryDirectory(prefix="sutro-poller-demo-") as folder:
        async with serve(simulator) as api, listen(app) as base:
            url = f"{base}/events"
            print_output(f"simulated Sutro API  {api}  ({JOBS} jobs)")
            print_output(f"webhook receiver     {url}")
            environment = daemon_environment(simulator, receiver, api=api, url=url, folder=folder)
            # Being cancelled in the block kills the daemon.
            async with await anyio.open_process(
                command, env=environment, stdout=None, stderr=None
            ) as process:
                print_output(
                    f"daemon               process {process.pid}: {' '.join(command[1:])}\n"
                )
                code = await wait_for_ends(receiver, process)
    return report(receiver, requests=sum(simulator.requests.values()), code=code)


async def wait_for_ends(receiver: Receiver, process: Process) -> int:
    """Wait until all jobs have ended, stop the daemon, and return its exit code."""
    async with anyio.create_task_group() as waiting:

        async def wait_for_exit() -> None:
            await process.wait()
            waiting.cancel_scope.cancel()

        waiting.start_soon(wait_for_exit)
        with anyio.move_on_after(TIME_LIMIT):
            await receiver.all_ended.wait()
        process.send_signal(signal.SIGTERM)
    return await process.wait()


def daemon_environment(
    simulator: Simulator, receiver: Receiver, *, api: str, url: str, folder: str
) -> dict[str, str]:
    """Return the environment that configures the daemon, as a user would write it."""
    ours = {name for name in os.environ if name.startswith(("POLLER_", "SUTRO_"))}
    return {name: text for name, text in os.environ.items() if name not in ours} | {
        "no_proxy": "*",
        "SUTRO_API_URL": api,
        "SUTRO_API_KEY": simulator.key,
        "POLLER_JOB_IDS": ",".join(f"job-{number + 1}" for number in range(JOBS)),
        "POLLER_MAX_INTERVAL": "2s",
        "POLLER_WEBHOOK_URL": url,
        "POLLER_WEBHOOK_SECRET": receiver.secret,
        "POLLER_SINKS": "webhook",
        "POLLER_LISTEN": "off",
        "POLLER_LOG_LEVEL": "warning",
        "POLLER_STORE": f"{folder}/state.db",
    }


def report(receiver: Receiver, *, requests: int, code: int) -> int:
    """Print what happened; return the exit code. Without a reader of stdout nothing went wrong."""
    ends = receiver.ends
    cost = sum(event.job.job_cost or 0 for event in ends)
    ids = {event.id for event in receiver.events}
    is_ok = len(ends) == JOBS and not receiver.rejected and code == 0
    print_output(
        f"\n{len(ends)} of {JOBS} jobs ended; {len(receiver.events)} webhooks, all signatures "
        f"{'verified' if not receiver.rejected else 'NOT verified'}, {len(ids)} ids."
    )
    print_output(
        f"{requests} requests to the API, ${cost:.4f} in all; the daemon exited with {code}."
    )
    if not is_ok:
        print_output("The demo failed.")
        print_output(json.dumps([event.data for event in receiver.events], indent=2))
    return codes.OK if is_ok or not receiver.is_read else codes.FAILURE
