"""`dead`: what a sink did not take, listed, sent again, or dropped."""

import argparse
from typing import Final

from poller.cli import exit_codes as codes
from poller.cli import print_error
from poller.cli.arguments import add_filter_arguments, build_filter, open_store
from poller.cli.output import COLUMNS, print_replayed, print_rows
from poller.core.outbox import DeliveryStatus
from poller.store.admin import EventFilter

DEAD: Final = ("event_id", "ended_at", "type", "job_id", "sink", "failures", "reason")
NONE: Final = "There are no such dead letters."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `dead` takes."""
    acts = parser.add_subparsers(required=True)
    ls = acts.add_parser("ls", help="list dead letters, the latest first")
    add_filter_arguments(ls, "job", "sink", "type", "since", "limit")
    ls.set_defaults(act=_list)
    for name, act, purpose in (
        ("replay", _replay, "send dead letters again: same id, same bytes"),
        ("drop", _drop, "forget dead letters for good; their events stay"),
    ):
        parser = acts.add_parser(name, help=purpose)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("event_ids", metavar="ID", nargs="*", default=[], help="of its event")
        which.add_argument("--all", action="store_true", help="all that the filters let through")
        add_filter_arguments(parser, "job", "sink", "type", "since")
        parser.set_defaults(act=act)


def run(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    code: int = arguments.act(arguments)
    return code


def _list(arguments: argparse.Namespace) -> int:
    rows = open_store(arguments).deliveries(build_filter(arguments, state=DeliveryStatus.DEAD))
    print_rows(rows, DEAD, arguments.output, empty=NONE)
    return codes.OK


def _replay(arguments: argparse.Namespace) -> int:
    admin = open_store(arguments)
    rows = admin.replay(_chosen(arguments))
    return print_replayed(admin, rows, arguments.output, empty=NONE)


def _drop(arguments: argparse.Namespace) -> int:
    rows = open_store(arguments).delete_dead_letters(_chosen(arguments))
    print_rows([row | {"result": "dropped"} for row in rows], COLUMNS, arguments.output, empty=NONE)
    if rows:
        print_error(f"{len(rows)} dropped; `sutro-poller events replay` still sends their events")
    return codes.OK if rows else codes.FAILURE


def _chosen(arguments: argparse.Namespace) -> EventFilter:
    ids = None if arguments.all else arguments.event_ids
    return build_filter(arguments, state=DeliveryStatus.DEAD, event_ids=ids)
