"""`jobs ls`: the jobs that were seen, and how each stands."""

import argparse
from typing import Final

from poller.cli import codes
from poller.cli.filters import filter_arguments, open_desk, wanted
from poller.cli.output import show
from poller.jobs import JobStatus

STATES: Final = (*(status.value for status in JobStatus), "MISSING")
COLUMNS: Final = (
    "job_id",
    "state",
    "changed_at",
    "model",
    "input_tokens",
    "output_tokens",
    "job_cost",
    "name",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `jobs` takes."""
    acts = parser.add_subparsers(required=True)
    ls = acts.add_parser("ls", help="list jobs, the one that changed last first")
    ls.add_argument(
        "--state", type=str.upper, choices=STATES, metavar="STATE", help=", ".join(STATES)
    )
    filter_arguments(ls, "job", "since", "limit")


def execute(arguments: argparse.Namespace) -> int:
    """List jobs."""
    rows = open_desk(arguments).jobs(wanted(arguments))
    show(rows, COLUMNS, arguments.output, empty="No such jobs have been seen.")
    return codes.OK
