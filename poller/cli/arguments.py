"""Arguments that several verbs share: filters, the output format, and the settings' database."""

import argparse
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from poller.cli import add_env_file_argument, as_sentence
from poller.config import load
from poller.core.errors import StoreUnusable
from poller.core.events import RECORDED_TYPES
from poller.core.jobs import JOB_ID_RULE, aware, is_job_id
from poller.settings.daemon import Settings
from poller.settings.durations import parse_duration
from poller.settings.sources import MEMORY
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter

MAX_PORT: Final = 65_535

Run = Callable[[argparse.Namespace], int | None]


def add_actions(
    parser: argparse.ArgumentParser, *actions: tuple[str, Run, str]
) -> list[argparse.ArgumentParser]:
    """Add the actions of a verb: name, function to run, help. Return the parser of each."""
    subparsers = parser.add_subparsers(required=True)
    parsers = []
    for name, run, purpose in actions:
        action = subparsers.add_parser(name, help=purpose, description=as_sentence(purpose))
        action.set_defaults(run=run)
        parsers.append(action)
    return parsers


def parse_since(text: str) -> float:
    """Return a Unix time from a duration before now or an ISO date or time, by default in UTC."""
    try:
        return aware(datetime.fromisoformat(text)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):  # some dates of the years 1 and 9999 are of others in UTC
        pass
    try:
        return time.time() - float(str(parse_duration(text)))
    except ValueError as error:
        rule = f"{error}, or a date such as 2024-01-15"
        raise argparse.ArgumentTypeError(rule) from None


def parse_count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)


def parse_port(text: str) -> int:
    """Return the number of a TCP port; 0 stands for any."""
    if not text.isdecimal() or not 0 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_PORT}")
    return int(text)


def parse_job_id(text: str) -> str:
    """Return the text if it can be a job ID."""
    if not is_job_id(text):
        raise argparse.ArgumentTypeError(f"{text[:64]!r}: {JOB_ID_RULE}")
    return text


FILTERS: Final[dict[str, dict[str, Any]]] = {
    "job": {"metavar": "ID", "help": "only this job (a unique ID prefix is enough)"},
    "sink": {"metavar": "NAME", "help": "only this sink"},
    "type": {"choices": sorted(RECORDED_TYPES), "metavar": "TYPE", "help": "only this event type"},
    "since": {
        "type": parse_since,
        "metavar": "WHEN",
        "help": "only since then: a duration before now (2h, 7d) or a date",
    },
    "limit": {"type": parse_count, "metavar": "N", "help": "maximum number of rows"},
}


def add_filter_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add filters, and the arguments of every verb that reads the database."""
    for name in names:
        parser.add_argument(f"--{name}", **FILTERS[name])
    add_output_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser, *, formats: tuple[str, ...] = ()) -> None:
    """Add the output format and --env-file."""
    parser.add_argument("-o", "--output", choices=("table", "json", *formats), default="table")
    add_env_file_argument(parser)


def load_settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings of the daemon. Raises ConfigError."""
    return load(os.environ, arguments.env_file, for_run=False).settings


def open_store(settings: Settings) -> StoreAdmin:
    """Return the configured database, not opened yet. Raises StoreUnusable."""
    if settings.store == MEMORY:
        raise StoreUnusable(
            "POLLER_STORE: a store in memory cannot be read by another process;"
            " set it to a path, for the daemon too"
        )
    return StoreAdmin(Path(settings.store))


def build_filter(arguments: argparse.Namespace, **more: Any) -> EventFilter:
    """Return the filter that the command line describes."""
    names = ("job", "sink", "type", "state", "since", "limit")
    given = {name: getattr(arguments, name, None) for name in names} | more
    return EventFilter(**{name: value for name, value in given.items() if value is not None})
