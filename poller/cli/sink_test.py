"""`sinks test`: only it needs the whole configuration, which is slow to import."""

import argparse
import os
import sys
from contextlib import AsyncExitStack

import anyio

from poller.cli import exit_codes as codes
from poller.cli import print_output
from poller.cli.output import as_json
from poller.config import Config, SinkConfig, load
from poller.core.errors import NoMatch
from poller.core.outbox import Delivery
from poller.delivery.attempt import attempt_test, test_delivery
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.wiring import open_sink


def send_test_event(arguments: argparse.Namespace) -> int:
    """Send a test event to a sink and print the result."""
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
        error = await attempt_test(opened, delivery, secrets=config.secrets)
    return error.reason if error else None
