"""`sinks`: who gets the events, a test of one, and one switched on again."""

import argparse
import os
import sys
from typing import Final

import anyio

from poller.cli import complain, say
from poller.cli import exit_codes as codes
from poller.cli.arguments import desk_arguments, open_desk
from poller.cli.output import AGAIN, as_json, show, when
from poller.cli.output import COLUMNS as LETTERS
from poller.config import Config, SinkConfig, load
from poller.core.errors import Unmatched
from poller.core.events import Event
from poller.delivery.attempt import a_test_event, try_once
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.wiring import egress, origin

COLUMNS: Final = ("sink", "state", "pending", "oldest_at", "dead", "reason")


def arguments(parser: argparse.ArgumentParser) -> None:
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
        desk_arguments(parser)
        parser.set_defaults(act=act)


def execute(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    code: int = arguments.act(arguments)
    return code


def _list(arguments: argparse.Namespace) -> int:
    rows = open_desk(arguments).sinks()
    show(rows, COLUMNS, arguments.output, empty="No sinks: start `sutro-poller run` first.")
    return codes.OK


def _enable(arguments: argparse.Namespace) -> int:
    desk = open_desk(arguments)
    rows = desk.enable(arguments.sink)
    told = [row | {"result": AGAIN} for row in rows or ()]
    empty = "Nothing had been kept for it." if rows is not None else "Nothing was changed."
    show(told, LETTERS, arguments.output, empty=empty)
    if rows is None:
        complain(f"{arguments.sink} is enabled already")
    else:
        complain(f"{arguments.sink} is enabled; {len(rows)} will be sent{when(desk)}")
    return codes.OK


def _test(arguments: argparse.Namespace) -> int:
    config = load(os.environ, arguments.env_file, for_run=False)
    logs.configure("warning", "auto", stream=sys.stderr, secrets=config.secrets)
    sink = _configured(config, arguments.sink)
    event = a_test_event(origin(config), Clock(), sink=sink.name)
    reason = anyio.run(_send, config, sink, event)
    if arguments.output == "json":
        say(as_json({"sink": sink.name, "event_id": event.id, "error": reason}))
    elif reason is None:
        say(f"{sink.name} took the test event {event.id}.")
    else:
        say(f"{sink.name} did not take the test event {event.id}: {reason}.")
    return codes.TROUBLE if reason else codes.OK


def _configured(config: Config, name: str) -> SinkConfig:
    for sink in config.sinks:
        if sink.name == name:
            return sink
    known = ", ".join(sink.name for sink in config.sinks)
    raise Unmatched(f"POLLER_SINKS: {name!r} is not in it; it has: {known}")


async def _send(config: Config, sink: SinkConfig, event: Event) -> str | None:
    """Send once through the real sink; give the reason when it was not taken."""
    async with sink.kind.connect(sink.live, egress(config)) as opened:
        return await try_once(opened, sink.name, event, Clock())
