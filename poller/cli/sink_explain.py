"""`sinks explain`: which sinks get which events of one job, and why not."""

import argparse
import os
from typing import Final

from poller.cli.arguments import open_store
from poller.cli.jobs.ls import named_ids
from poller.cli.output import print_rows
from poller.config import load
from poller.explanation import explain
from poller.store.filters import EventFilter

COLUMNS: Final = ("type", "sink", "routed", "delivery", "reason")


def explain_job(arguments: argparse.Namespace) -> None:
    """Print a row for each event of a job and each sink. Raises NoMatch."""
    config = load(os.environ, arguments.env_file, for_run=False)
    admin, named = open_store(config.settings), named_ids(config.settings)
    job, *_ = admin.jobs(EventFilter(job=arguments.job_id), named=named)
    rows = explain(admin, job["job_id"], config.routes, unseen=named) or []
    if arguments.output == "table":
        rows = [row | {"routed": "yes" if row["routed"] else "no"} for row in rows]
    print_rows(rows, COLUMNS, arguments.output, empty="No sinks configured.")
