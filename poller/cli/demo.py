"""`demo`: simulator, daemon and a verifying receiver at work."""

import argparse
import base64
import hmac
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
from aiohttp import web
from anyio.abc import Process

from poller.cli import exit_codes as codes
from poller.cli import print_error, print_output
from poller.core.events import TERMINAL_EVENTS
from poller.sinks.text import format_details
from poller.sutro.simulator.script import demo_jobs
from poller.sutro.simulator.server import Simulator, listen, serve

JOBS: Final = 6
TIME_LIMIT: Final = 120.0
TOLERANCE: Final = 300.0
"""Seconds that the timestamp of a webhook may be off, as in the libraries of Standard Webhooks."""


def run(_arguments: argparse.Namespace) -> int:
    """Run the demo to its end; return 0 if every end arrived with a valid signature."""
    return anyio.run(play_demo)


@dataclass(slots=True)
class Receiver:
    """Verify the signature of each webhook, and print its event."""

    secret: str
    events: list[dict[str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    rejected: int = 0
    is_read: bool = True
    all_ended: anyio.Event = field(default_factory=anyio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        """Respond with 204 to a webhook with a valid signature, else with 400."""
        body = await request.read()
        if not is_genuine(self.secret, request.headers, body, now=time.time()):
            self.rejected += 1
            return web.Response(status=400)
        event = json.loads(body)
        self.events.append(event)
        self.ids.add(request.headers["webhook-id"])
        job, details = event["data"]["job"], format_details(event["data"])
        self.is_read = print_output(f"{event['type']:<17} {job['job_id']:<6}  {details}")
        if len(self.ends) >= JOBS or not self.is_read:
            self.all_ended.set()
        return web.Response(status=204)

    @property
    def ends(self) -> list[dict[str, Any]]:
        """Return the events of jobs that ended."""
        return [event for event in self.events if event["type"] in TERMINAL_EVENTS]


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """Return whether the webhook is signed and recent, as a receiver checks it.

    It follows Standard Webhooks 1.0 and shares no code with the sink that signs.
    """
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE:
        return False
    content = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), content, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


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
    cost = sum(event["data"]["job"]["job_cost"] or 0 for event in ends)
    is_ok = len(ends) == JOBS and not receiver.rejected and code == 0
    print_output(
        f"\n{len(ends)} of {JOBS} jobs ended; {len(receiver.events)} webhooks, all signatures "
        f"{'verified' if not receiver.rejected else 'NOT verified'}, {len(receiver.ids)} ids."
    )
    print_output(
        f"{requests} requests to the API, ${cost:.4f} in all; the daemon exited with {code}."
    )
    if not is_ok:
        print_output("The demo failed.")
        print_output(json.dumps(receiver.events, indent=2))
    return codes.OK if is_ok or not receiver.is_read else codes.FAILURE
