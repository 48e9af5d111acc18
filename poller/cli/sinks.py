"""`sinks`: who gets the events, a test of one, and one switched on again."""

import argparse
import os
import sys
from typing import Final

import anyio

from poller.cli import exit_codes as codes
from poller.cli import print_error, print_output
from poller.cli.arguments import add_store_arguments, open_store
from poller.cli.output import AGAIN, as_json, format_time, print_rows
from poller.cli.output import COLUMNS as LETTERS
from poller.config import Config, SinkConfig, load
from poller.core.errors import NoMatch
from poller.core.outbox import Delivery
from poller.delivery.attempt import attempt, test_delivery
from poller.runtime import logging as logs
from poller.runtime.clock import Clock

COLUMNS: Final = ("sink", "state", "pending", "oldest_at", "dead", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `sinks` takes."""
    acts = parser.add_subparsers(required=True)
    for name, act, purpose in (
        ("ls", _list, "list the sinks and what waits for each"),
        ("test", _test, "send a test event at once, and say what came of it"),
        ("enable", _enable, "switch on what a 410 has switched off, with all that waited"),
    ):
        parser = acts.add_parser(name, help=purpose)
        if act is not _list:
            parser.add_argument("sink", metavar="NAME", help="such as webhook or webhook.audit")
        add_store_arguments(parser)
        parser.set_defaults(act=act)


def run(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    code: int = arguments.act(arguments)
    return code


def _list(arguments: argparse.Namespace) -> int:
    rows = open_store(arguments).sinks()
    print_rows(rows, COLUMNS, arguments.output, empty="No sinks: start `sutro-poller run` first.")
    return codes.OK


def _enable(arguments: argparse.Namespace) -> int:
    admin = open_store(arguments)
    rows = admin.enable_sink(arguments.sink)
    told = [row | {"result": AGAIN} for row in rows or ()]
    empty = "Nothing had been kept for it." if rows is not None else "Nothing was changed."
    print_rows(told, LETTERS, arguments.output, empty=empty)
    if rows is None:
        print_error(f"{arguments.sink} is enabled already")
    else:
        print_error(f"{arguments.sink} is enabled; {len(rows)} will be sent{format_time(admin)}")
    return codes.OK


def _test(arguments: argparse.Namespace) -> int:
    config = load(os.environ, arguments.env_file, for_run=False)
    logs.configure("warning", "auto", stream=sys.stderr, secrets=config.secrets)
    sink = _configured(config, arguments.sink)
    delivery = test_delivery(sink.name, config.origin, Clock())
    event, reason = delivery.event, anyio.run(_send, config, sink, delivery)
    if arguments.output == "json":
        print_output(as_json({"sink": sink.name, "event_id": event.id, "error": reason}))
    elif reason is None:
        print_output(f"{sink.name} took the test event {event.id}.")
    else:
        print_output(f"{sink.name} did not take the test event {event.id}: {reason}.")
    return codes.FAILURE if reason else codes.OK


def _configured(config: Config, name: str) -> SinkConfig:
    for sink in config.sinks:
        if sink.name == name:
            return sink
    known = ", ".join(sink.name for sink in config.sinks)
    raise NoMatch(f"POLLER_SINKS: {name!r} is not in it; it has: {known}")


async def _send(config: Config, sink: SinkConfig, delivery: Delivery) -> str | None:
    """Send a test event through the real sink; return the reason if it was not delivered."""
    async with sink.kind.open(sink.reloadable, config.outbound) as opened:
        error = await attempt(opened, delivery, secrets=config.secrets)
    return error.reason if error else None
