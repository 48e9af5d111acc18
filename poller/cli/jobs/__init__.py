"""`jobs`: list and show jobs; add and remove those that the running daemon watches."""

import argparse

from poller.cli.arguments import (
    add_actions,
    add_filter_arguments,
    add_output_arguments,
    parse_job_id,
)
from poller.cli.jobs.change import add, remove
from poller.cli.jobs.ls import STATES, ls
from poller.cli.jobs.show import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `jobs`."""
    listing, showing, *changing = add_actions(
        parser,
        ("ls", ls, "list jobs, last changed first"),
        ("show", show, "show all fields of a job, its events and their deliveries"),
        ("add", add, "watch jobs with the running daemon, also after a restart"),
        ("rm", remove, "stop watching added jobs"),
    )
    listing.add_argument(
        "--state", type=str.upper, choices=STATES, metavar="STATE", help=", ".join(STATES)
    )
    listing.add_argument(
        "--watched", action="store_true", help="all jobs that the running daemon watches"
    )
    add_filter_arguments(listing, "job", "since", "limit")
    showing.add_argument("job_id", metavar="ID", help="a unique prefix is enough")
    add_output_arguments(showing)
    for action in changing:
        action.add_argument(
            "job_ids", metavar="ID", nargs="+", type=parse_job_id, help="the ID of a job"
        )
        add_output_arguments(action)
