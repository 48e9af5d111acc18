"""`dead`: what a sink did not take, listed, sent again, or dropped."""

import argparse
from typing import Final

from poller.cli import complain
from poller.cli import exit_codes as codes
from poller.cli.arguments import filter_arguments, open_desk, wanted
from poller.cli.output import COLUMNS, show, tell_resent
from poller.core.outbox import Fate
from poller.store.admin import Filter

DEAD: Final = ("event_id", "ended_at", "type", "job_id", "sink", "failures", "reason")
NONE: Final = "There are no such dead letters."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `dead` takes."""
    acts = parser.add_subparsers(required=True)
    ls = acts.add_parser("ls", help="list dead letters, the latest first")
    filter_arguments(ls, "job", "sink", "type", "since", "limit")
    ls.set_defaults(act=_list)
    for name, act, purpose in (
        ("replay", _replay, "send dead letters again: same id, same bytes"),
        ("drop", _drop, "forget dead letters for good; their events stay"),
    ):
        parser = acts.add_parser(name, help=purpose)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("event_ids", metavar="ID", nargs="*", default=[], help="of its event")
        which.add_argument("--all", action="store_true", help="all that the filters let through")
        filter_arguments(parser, "job", "sink", "type", "since")
        parser.set_defaults(act=act)


def execute(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    code: int = arguments.act(arguments)
    return code


def _list(arguments: argparse.Namespace) -> int:
    rows = open_desk(arguments).letters(wanted(arguments, state=Fate.DEAD))
    show(rows, DEAD, arguments.output, empty=NONE)
    return codes.OK


def _replay(arguments: argparse.Namespace) -> int:
    desk = open_desk(arguments)
    rows = desk.resend(_chosen(arguments))
    return tell_resent(desk, rows, arguments.output, empty=NONE)


def _drop(arguments: argparse.Namespace) -> int:
    rows = open_desk(arguments).drop(_chosen(arguments))
    show([row | {"result": "dropped"} for row in rows], COLUMNS, arguments.output, empty=NONE)
    if rows:
        complain(f"{len(rows)} dropped; `sutro-poller events replay` still sends their events")
    return codes.OK if rows else codes.TROUBLE


def _chosen(arguments: argparse.Namespace) -> Filter:
    ids = None if arguments.all else arguments.event_ids
    return wanted(arguments, state=Fate.DEAD, event_ids=ids)
