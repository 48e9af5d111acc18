"""What the operator's verbs take: filters, the form of the output, and whose database."""

import argparse
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from poller.cli import add_env_file_argument
from poller.config import load
from poller.core.errors import StoreUnusable
from poller.core.events import EVENT_TYPES
from poller.settings.types import MEMORY, parse_duration
from poller.store.admin import EventFilter, StoreAdmin

IN_MEMORY: Final = (
    "POLLER_STORE: what is in memory is not seen from outside of its daemon; set both to a path"
)


def parse_since(text: str) -> float:
    """Read a duration before now, or an ISO date or time, in UTC unless it says otherwise."""
    try:
        return time.time() - float(str(parse_duration(text)))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        rule = "must be a duration such as 2h or 7d, or a date such as 2024-01-15"
        raise argparse.ArgumentTypeError(rule) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


FILTERS: Final[dict[str, dict[str, Any]]] = {
    "job": {"metavar": "ID", "help": "only of this job; the beginning of its id is enough"},
    "sink": {"metavar": "NAME", "help": "only for this sink"},
    "type": {"choices": sorted(EVENT_TYPES), "metavar": "TYPE", "help": "only events of this type"},
    "since": {
        "type": parse_since,
        "metavar": "WHEN",
        "help": "not before 2h or 7d ago, or a date",
    },
    "limit": {"type": _count, "metavar": "N", "help": "at most so many"},
}


def add_filter_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Let a verb take some filters, and what every verb that reads the database takes."""
    for name in names:
        parser.add_argument(f"--{name}", **FILTERS[name])
    add_store_arguments(parser)


def add_store_arguments(parser: argparse.ArgumentParser, *, styles: tuple[str, ...] = ()) -> None:
    """Let a verb be told the form of its output, and where the settings are."""
    parser.add_argument("-o", "--output", choices=("table", "json", *styles), default="table")
    add_env_file_argument(parser)


def open_store(arguments: argparse.Namespace) -> StoreAdmin:
    """Find the database of the settings. Raises ConfigError and StoreRefused."""
    store = load(os.environ, arguments.env_file, for_run=False).settings.store
    if store == MEMORY:
        raise StoreUnusable(IN_MEMORY)
    return StoreAdmin(Path(store))


def build_filter(arguments: argparse.Namespace, **more: Any) -> EventFilter:
    """Give what the filters on the command line say."""
    names = ("job", "sink", "type", "state", "since", "limit")
    given = {name: getattr(arguments, name, None) for name in names} | more
    return EventFilter(**{name: it for name, it in given.items() if it is not None})
