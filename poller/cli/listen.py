"""`listen`: receive webhooks on loopback, verify them and print their events."""

import argparse
import base64
import json
import os
import secrets
import signal
from dataclasses import dataclass, field
from typing import Final

import anyio
from aiohttp import web

from poller.cli import add_env_file_argument, print_error, print_output, print_status
from poller.cli.arguments import parse_port
from poller.core.errors import ConfigError
from poller.receive import Event, InvalidWebhook, verify
from poller.settings.sources import EnvSources
from poller.sinks.text import format_details, job_label
from poller.sinks.webhook import signing_keys
from poller.sutro.simulator.server import listen

SECRET: Final = "POLLER_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `listen`."""
    parser.add_argument(
        "--port", type=parse_port, default=9000, metavar="PORT", help="0 for any (default: 9000)"
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("line", "json"),
        default="line",
        help="form of the events: a line each, or JSON with the ID (default: line)",
    )
    add_env_file_argument(parser)


@dataclass(slots=True)
class Receiver:
    """Verify each webhook, and print its event or why it is rejected."""

    secret: str = field(repr=False)
    style: str = "line"
    ids: set[str] = field(default_factory=set)
    reader_gone: anyio.Event = field(default_factory=anyio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        """Respond with 204 to a valid webhook, and to others with the status of the error."""
        try:
            event = verify(request.headers, body := await request.read(), self.secret)
        except InvalidWebhook as error:
            print_error(f"rejected with {error.status}: {error}")
            return web.Response(status=error.status, text=f"{error}\n")
        is_repeated = event.id in self.ids
        self.ids.add(event.id)
        is_json = self.style == "json"
        text = as_json(event.id, body) if is_json else as_line(event, is_repeated=is_repeated)
        if not print_output(text):
            self.reader_gone.set()
        return web.Response(status=204)


def run(arguments: argparse.Namespace) -> None:
    """Receive until SIGTERM or SIGINT, or until the reader of stdout has gone."""
    secret = configured_secret(arguments)
    receiver = Receiver(secret or new_secret(), arguments.output)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.receive)

    async def serve() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with listen(app, arguments.port) as base, anyio.create_task_group() as waiting:
                lines = [f"POLLER_WEBHOOK_URL={base}/events"]
                lines += [] if secret else [f"{SECRET}={receiver.secret}"]
                print_status("# Receiving webhooks. Settings of the daemon:", *lines)

                async def stop_without_reader() -> None:
                    await receiver.reader_gone.wait()
                    waiting.cancel_scope.cancel()

                waiting.start_soon(stop_without_reader)
                await anext(received)
                waiting.cancel_scope.cancel()

    anyio.run(serve)


def configured_secret(arguments: argparse.Namespace) -> str | None:
    """Return the secret of the daemon's settings, if there is one. Raises ConfigError."""
    sources = EnvSources.of(os.environ, arguments.env_file)
    found = sources.find(SECRET, is_secret=True)
    if found is None:
        return None
    if found.problem:
        raise ConfigError(found.problem)
    try:
        signing_keys(found.text)
    except ValueError as error:
        raise ConfigError(f"{SECRET}: {error}") from None
    return found.text


def new_secret() -> str:
    """Return a random secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def as_json(event_id: str, body: bytes) -> str:
    """Return an event as one line of JSON: its ID, and its body."""
    return json.dumps({"id": event_id} | json.loads(body), ensure_ascii=False)


def as_line(event: Event, *, is_repeated: bool) -> str:
    """Return an event in one line: its type, its job, and what happened."""
    job, details = event.data.get("job"), format_details(event.data)
    marks = {"test": event.is_test, "replay": event.is_replay, "repeated": is_repeated}
    shown = ", ".join(name for name, is_set in marks.items() if is_set)
    text = f"{job_label(job)}  {details}" if job else details
    line = f"{event.type:<19} {text}".rstrip()
    return f"{line}  ({shown})" if shown else line
