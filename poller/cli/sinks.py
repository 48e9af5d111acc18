"""`sinks`: list, test and enable sinks."""

import argparse
import os
import sys
from contextlib import AsyncExitStack
from typing import Final

import anyio

from poller.cli import exit_codes as codes
from poller.cli import print_error, print_output
from poller.cli.arguments import add_actions, add_output_arguments, load_settings, open_store
from poller.cli.output import REPLAY_COLUMNS, REPLAYED, as_json, print_all, print_rows, when_sent
from poller.config import Config, SinkConfig, load
from poller.core.errors import NoMatch
from poller.core.events import EVENT_TYPES, DaemonEventType
from poller.core.formatting import format_count
from poller.core.outbox import Delivery
from poller.delivery.attempt import attempt, test_delivery
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.wiring import open_sink

COLUMNS: Final = ("sink", "state", "pending", "oldest_at", "dead", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `sinks`."""
    ls, *others = add_actions(
        parser,
        ("ls", _list, "list sinks and their backlogs"),
        ("test", _test, "send a test event and report the result"),
        ("enable", _enable, "enable a sink that a 410 response disabled; its events are sent"),
    )
    add_output_arguments(ls)
    others[0].add_argument(
        "--type",
        choices=sorted(EVENT_TYPES),
        default=DaemonEventType.TEST.value,
        metavar="TYPE",
        help="send a sample of this event type, marked with data.test (default: poller.test)",
    )
    for action in others:
        action.add_argument("sink", metavar="NAME", help="such as webhook or webhook.audit")
        add_output_arguments(action)


def _list(arguments: argparse.Namespace) -> None:
    rows = open_store(load_settings(arguments)).sinks()
    print_rows(
        rows, COLUMNS, arguments.output, empty="No sinks recorded: start `sutro-poller run` first."
    )


def _enable(arguments: argparse.Namespace) -> None:
    admin = open_store(load_settings(arguments))
    rows = admin.enable_sink(arguments.sink)
    results = (row | {"result": REPLAYED} for row in rows or ())
    empty = "No events were waiting for it." if rows is not None else "No change."
    count = print_all(results, REPLAY_COLUMNS, arguments.output, empty=empty)
    if rows is None:
        print_error(f"{arguments.sink} was not disabled")
    else:
        print_error(
            f"{arguments.sink} is enabled;"
            f" {format_count(count, 'event')} will be sent{when_sent(admin)}"
        )


def _test(arguments: argparse.Namespace) -> int:
    config = load(os.environ, arguments.env_file, for_run=False)
    logs.configure("warning", "auto", stream=sys.stderr, secrets=config.secrets)
    sink = _configured(config, arguments.sink)
    delivery = test_delivery(sink.name, config.origin, Clock(), arguments.type)
    event, reason = delivery.event, anyio.run(_send, config, sink, delivery)
    if arguments.output == "json":
        print_output(as_json({"sink": sink.name, "event_id": event.id, "error": reason}))
    elif reason is None:
        print_output(f"Test event {event.id} delivered to {sink.name}.")
    else:
        print_output(f"Test event {event.id} was not delivered to {sink.name}: {reason}.")
    return codes.FAILURE if reason else codes.OK


def _configured(config: Config, name: str) -> SinkConfig:
    sinks = {sink.name: sink for sink in config.sinks}
    if name not in sinks:
        raise NoMatch(
            f"POLLER_SINKS: no sink {name!r}; configured: {', '.join(sinks)};"
            " set the variables of the daemon, or give its --env-file"
        )
    return sinks[name]


async def _send(config: Config, sink: SinkConfig, delivery: Delivery) -> str | None:
    """Send a test event through the real sink; return the reason if it was not delivered."""
    async with AsyncExitStack() as stack:
        opened = await open_sink(config, sink, stack)
        error = await attempt(opened, delivery, secrets=config.secrets)
    return error.reason if error else None
