"""`jobs`: list recorded jobs; list, add and remove those that the running daemon watches."""

import argparse
from typing import Final
from urllib.parse import quote

from poller.cli import CommandError
from poller.cli import exit_codes as codes
from poller.cli.arguments import (
    add_actions,
    add_filter_arguments,
    add_output_arguments,
    build_filter,
    open_store,
    parse_job_id,
)
from poller.cli.client import DaemonClient, DaemonError, connect
from poller.cli.output import print_rows
from poller.core.job_status import JobStatus

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
WATCHED: Final = ("job_id", "state", "changed_at", "watched_by")
CHANGED: Final = ("job_id", "result")
ADDED: Final = "now watched"
KNOWN: Final = "already watched (now persistent)"
REMOVED: Final = "no longer watched"
IDS_PER_REQUEST: Final = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `jobs`."""
    ls, *others = add_actions(
        parser,
        ("ls", _list, "list jobs, last changed first"),
        ("add", _add, "watch jobs with the running daemon, also after a restart"),
        ("rm", _remove, "stop watching added jobs"),
    )
    ls.add_argument(
        "--state", type=str.upper, choices=STATES, metavar="STATE", help=", ".join(STATES)
    )
    ls.add_argument(
        "--watched", action="store_true", help="all jobs that the running daemon watches"
    )
    add_filter_arguments(ls, "job", "since", "limit")
    for action in others:
        action.add_argument(
            "job_ids", metavar="ID", nargs="+", type=parse_job_id, help="the ID of a job"
        )
        add_output_arguments(action)


def _list(arguments: argparse.Namespace) -> None:
    if arguments.watched:
        _list_watched(arguments)
        return
    rows = open_store(arguments).jobs(build_filter(arguments))
    print_rows(rows, COLUMNS, arguments.output, empty="No jobs recorded.")


def _list_watched(arguments: argparse.Namespace) -> None:
    if arguments.job or arguments.since or arguments.limit or arguments.state:
        rule = "--watched cannot be combined with other filters"
        raise CommandError(rule, code=codes.USAGE)
    client, rows, cursor = connect(arguments.env_file), [], ""
    while cursor is not None:
        page = client.request("GET", f"/v1/jobs?watched=true&limit=100{cursor}")
        rows += page["jobs"]
        cursor = page["next_cursor"] and f"&cursor={quote(page['next_cursor'], safe='')}"
    if arguments.output == "table":
        rows = [row | {"watched_by": ", ".join(row["watched_by"])} for row in rows]
    print_rows(rows, WATCHED, arguments.output, empty="No watched jobs.")


def _add(arguments: argparse.Namespace) -> None:
    client, rows = connect(arguments.env_file), []
    for start in range(0, len(arguments.job_ids), IDS_PER_REQUEST):
        job_ids = arguments.job_ids[start : start + IDS_PER_REQUEST]
        rows += client.request("POST", "/v1/jobs", {"job_ids": job_ids})["jobs"]
    results = [
        {"job_id": row["job_id"], "result": ADDED if row["is_new"] else KNOWN} for row in rows
    ]
    print_rows(results, CHANGED, arguments.output, empty="")


def _remove(arguments: argparse.Namespace) -> int:
    client = connect(arguments.env_file)
    results = [
        {"job_id": job_id, "result": _remove_one(client, job_id)} for job_id in arguments.job_ids
    ]
    print_rows(results, CHANGED, arguments.output, empty="")
    return codes.OK if all(row["result"] == REMOVED for row in results) else codes.FAILURE


def _remove_one(client: DaemonClient, job_id: str) -> str:
    try:
        client.request("DELETE", f"/v1/jobs/{job_id}")
    except DaemonError as error:
        if error.status not in {404, 409}:
            raise
        return str(error)
    return REMOVED
