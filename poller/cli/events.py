"""`events`: list, show and replay recorded events."""

import argparse
import json
from typing import Final

from poller.cli import print_output
from poller.cli.arguments import (
    add_actions,
    add_filter_arguments,
    add_output_arguments,
    build_filter,
    load_settings,
    open_store,
)
from poller.cli.output import as_json, print_replayed, print_rows
from poller.cli.table import as_table
from poller.core.events import checksum
from poller.core.outbox import DeliveryStatus
from poller.store.filters import Row

COLUMNS: Final = ("id", "recorded_at", "type", "job_id", "deliveries")
DELIVERIES: Final = ("sink", "status", "failures", "last_attempt_at", "next_attempt_at", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `events`."""
    ls, show, replay = add_actions(
        parser,
        ("ls", _list, "list events, latest first"),
        ("show", _show, "show the body of an event and its deliveries"),
        ("replay", _replay, "send events again, with the same ID and the same bytes"),
    )
    states = [status.value for status in DeliveryStatus]
    ls.add_argument("--state", choices=states, help="only events with a delivery in this state")
    add_filter_arguments(ls, "job", "sink", "type", "since", "limit")
    show.add_argument("event_id", metavar="ID", help="a unique prefix is enough")
    add_output_arguments(show)
    replay.add_argument("event_ids", metavar="ID", nargs="+", help="a unique prefix is enough")
    replay.add_argument(
        "--sink",
        metavar="NAME",
        help="only to this sink (default: to every sink that was to get it)",
    )
    add_output_arguments(replay)


def _list(arguments: argparse.Namespace) -> None:
    rows = open_store(load_settings(arguments)).events(build_filter(arguments))
    if arguments.output == "table":
        rows = (row | {"deliveries": _delivery_summary(row)} for row in rows)
    print_rows(rows, COLUMNS, arguments.output, empty="No events recorded.")


def _delivery_summary(row: Row) -> str | None:
    """Return the status at each sink; the delivered ones come last, where a line may be cut."""
    deliveries = sorted(row["deliveries"], key=lambda one: one["status"] == "delivered")
    return ", ".join(f"{one['sink']} {one['status']}" for one in deliveries) or None


def _show(arguments: argparse.Namespace) -> None:
    event = open_store(load_settings(arguments)).event(arguments.event_id)
    body, digest, deliveries = event.pop("body"), event.pop("digest"), event.pop("deliveries")
    is_intact = checksum(body) == digest
    event |= {"checksum_ok": is_intact, "body": json.loads(body) if is_intact else None}
    if arguments.output == "json":
        print_output(as_json(event | {"deliveries": deliveries}))
        return
    for name, value in event.items():
        print_output(
            f"{name:12} {as_json(value) if name == 'body' else '-' if value is None else value}"
        )
    print_output(
        "\n"
        + (as_table(deliveries, DELIVERIES) if deliveries else "No sink was configured for it.")
    )


def _replay(arguments: argparse.Namespace) -> int:
    admin = open_store(load_settings(arguments))
    rows = admin.replay(build_filter(arguments, event_ids=arguments.event_ids))
    return print_replayed(
        admin,
        rows,
        arguments.output,
        empty="No sink was configured for it: choose one with --sink.",
    )
