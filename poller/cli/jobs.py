"""`jobs`: those that were seen, and those that the running daemon watches."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from poller.cli import exit_codes as codes
from poller.cli import print_error
from poller.cli.arguments import add_filter_arguments, add_store_arguments, build_filter, open_store
from poller.cli.client import DaemonClient, DaemonError, connect
from poller.cli.output import print_rows
from poller.core.errors import ConfigError
from poller.core.jobs import JobStatus, is_job_id
from poller.polling.watchlist import JOB_ID_RULE

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
NEW: Final = "is watched from now on"
KNOWN: Final = "was watched already, and is kept as added"
REMOVED: Final = "is not watched any more"
AT_ONCE: Final = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `jobs` takes."""
    acts = parser.add_subparsers(required=True)
    ls = acts.add_parser("ls", help="list jobs, the one that changed last first")
    ls.add_argument(
        "--state", type=str.upper, choices=STATES, metavar="STATE", help=", ".join(STATES)
    )
    ls.add_argument(
        "--watched", action="store_true", help="all that the running daemon watches, seen or not"
    )
    add_filter_arguments(ls, "job", "since", "limit")
    ls.set_defaults(act=_list)
    for name, act, purpose in (
        ("add", _add, "have the running daemon watch jobs, after a restart too"),
        ("rm", _remove, "have it watch jobs no more that were added"),
    ):
        parser = acts.add_parser(name, help=purpose)
        parser.add_argument("job_ids", metavar="ID", nargs="+", type=_job_id)
        add_store_arguments(parser)
        parser.set_defaults(act=act)


def run(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    act: Callable[[argparse.Namespace], int] = arguments.act
    try:
        return act(arguments)
    except DaemonError as error:
        print_error(str(error))
        return error.code


def _list(arguments: argparse.Namespace) -> int:
    if arguments.watched:
        return _list_watched(arguments)
    rows = open_store(arguments).jobs(build_filter(arguments))
    print_rows(rows, COLUMNS, arguments.output, empty="No such jobs have been seen.")
    return codes.OK


def _list_watched(arguments: argparse.Namespace) -> int:
    if arguments.job or arguments.since or arguments.limit or arguments.state:
        raise ConfigError("--watched: lists all, without any other filter")
    door, rows, cursor = connect(arguments.env_file), [], ""
    while cursor is not None:
        page = door.request("GET", f"/v1/jobs?watched=true&limit=100{cursor}")
        rows += page["jobs"]
        cursor = page["next_cursor"] and f"&cursor={quote(page['next_cursor'], safe='')}"
    if arguments.output == "table":
        rows = [row | {"watched_by": ", ".join(row["watched_by"])} for row in rows]
    print_rows(rows, WATCHED, arguments.output, empty="No job is watched.")
    return codes.OK


def _add(arguments: argparse.Namespace) -> int:
    door, rows = connect(arguments.env_file), []
    for job_ids in _in_portions(arguments.job_ids):
        rows += door.request("POST", "/v1/jobs", {"job_ids": job_ids})["jobs"]
    told = [{"job_id": it["job_id"], "result": NEW if it["is_new"] else KNOWN} for it in rows]
    print_rows(told, CHANGED, arguments.output, empty="")
    return codes.OK


def _remove(arguments: argparse.Namespace) -> int:
    door = connect(arguments.env_file)
    told = [{"job_id": it, "result": _removed(door, it)} for it in arguments.job_ids]
    print_rows(told, CHANGED, arguments.output, empty="")
    return codes.OK if all(it["result"] == REMOVED for it in told) else codes.FAILURE


def _removed(door: DaemonClient, job_id: str) -> str:
    try:
        door.request("DELETE", f"/v1/jobs/{job_id}")
    except DaemonError as refusal:
        if refusal.status not in {404, 409}:
            raise
        return str(refusal)
    return REMOVED


def _in_portions(job_ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(job_ids), AT_ONCE):
        yield job_ids[start : start + AT_ONCE]


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise argparse.ArgumentTypeError(f"{text[:64]!r}: {JOB_ID_RULE}")
    return text
