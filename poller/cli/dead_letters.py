"""`dead-letters`: list, replay or drop undelivered events."""

import argparse
from typing import Final

from poller.cli import exit_codes as codes
from poller.cli import print_error
from poller.cli.arguments import (
    add_actions,
    add_filter_arguments,
    build_filter,
    load_settings,
    open_store,
)
from poller.cli.output import REPLAY_COLUMNS, print_all, print_replayed, print_rows
from poller.core.formatting import format_count
from poller.core.outbox import DeliveryStatus
from poller.store.filters import EventFilter

COLUMNS: Final = ("event_id", "ended_at", "type", "job_id", "sink", "failures", "reason")
NONE: Final = "No dead letters."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `dead-letters`."""
    ls, *others = add_actions(
        parser,
        ("ls", _list, "list dead letters, latest first"),
        ("replay", _replay, "send dead letters again, with the same ID and the same bytes"),
        ("drop", _drop, "drop dead letters; their events stay"),
    )
    add_filter_arguments(ls, "job", "sink", "type", "since", "limit")
    for action in others:
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "event_ids", metavar="ID", nargs="*", default=[], help="the ID of the event"
        )
        which.add_argument("--all", action="store_true", help="all that match the filters")
        add_filter_arguments(action, "job", "sink", "type", "since")


def _list(arguments: argparse.Namespace) -> None:
    rows = open_store(load_settings(arguments)).deliveries(
        build_filter(arguments, state=DeliveryStatus.DEAD)
    )
    print_rows(rows, COLUMNS, arguments.output, empty=NONE)


def _replay(arguments: argparse.Namespace) -> int:
    admin = open_store(load_settings(arguments))
    rows = admin.replay(_chosen(arguments))
    return print_replayed(admin, rows, arguments.output, empty=NONE)


def _drop(arguments: argparse.Namespace) -> int:
    rows = open_store(load_settings(arguments)).delete_dead_letters(_chosen(arguments))
    dropped = (row | {"result": "dropped"} for row in rows)
    count = print_all(dropped, REPLAY_COLUMNS, arguments.output, empty=NONE)
    if count:
        letters = format_count(count, "dead letter")
        print_error(f"{letters} dropped; `sutro-poller events replay` can still send the events")
    return codes.OK if count else codes.FAILURE


def _chosen(arguments: argparse.Namespace) -> EventFilter:
    event_ids = None if arguments.all else arguments.event_ids
    return build_filter(arguments, state=DeliveryStatus.DEAD, event_ids=event_ids)
