"""`jobs add` and `jobs rm`: change what the running daemon watches."""

import argparse
import time
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import quote

from poller.cli import exit_codes as codes
from poller.cli.arguments import load_settings
from poller.cli.client import DaemonClient, DaemonError, connect
from poller.cli.output import print_rows

COLUMNS: Final = ("job_id", "result")
ADDED: Final = "now watched"
ADDED_NOT_FOUND: Final = "now watched; not found yet (404): check the ID"
KNOWN: Final = "already watched (now persistent)"
REMOVED: Final = "no longer watched"
IDS_PER_REQUEST: Final = 1_000
CHECKED_IDS: Final = 10
"""Most added jobs whose first response of the API is awaited; more would take too long."""
CHECK_SECONDS: Final = 2.0
CHECK_INTERVAL: Final = 0.1


def add(arguments: argparse.Namespace) -> None:
    """Watch jobs, and print the result for each."""
    client, rows = connect(load_settings(arguments)), []
    for start in range(0, len(arguments.job_ids), IDS_PER_REQUEST):
        job_ids = arguments.job_ids[start : start + IDS_PER_REQUEST]
        rows += client.request("POST", "/v1/jobs", {"job_ids": job_ids})["jobs"]
    not_found = _not_found(client, [row["job_id"] for row in rows if row["is_new"]])
    results = [{"job_id": row["job_id"], "result": _result(row, not_found)} for row in rows]
    print_rows(results, COLUMNS, arguments.output, empty="")


def _result(row: dict[str, Any], not_found: Collection[str]) -> str:
    if not row["is_new"]:
        return KNOWN
    return ADDED_NOT_FOUND if row["job_id"] in not_found else ADDED


def _not_found(client: DaemonClient, job_ids: Collection[str]) -> set[str]:
    """Return those of a few new jobs that the API turns out not to know within two seconds."""
    pending = set(job_ids) if len(job_ids) <= CHECKED_IDS else set()
    not_found: set[str] = set()
    until = time.monotonic() + CHECK_SECONDS
    while pending and time.monotonic() < until:
        shown = [client.request("GET", _path(job_id)) for job_id in pending]
        not_found |= {job["job_id"] for job in shown if job["not_found"]}
        pending = {job["job_id"] for job in shown if job["state"] == "UNKNOWN"} - not_found
        if pending:
            time.sleep(CHECK_INTERVAL)
    return not_found


def remove(arguments: argparse.Namespace) -> int:
    """Stop watching jobs, and print the result for each; return 1 unless all were removed."""
    client = connect(load_settings(arguments))
    results = [
        {"job_id": job_id, "result": _remove_one(client, job_id)} for job_id in arguments.job_ids
    ]
    print_rows(results, COLUMNS, arguments.output, empty="")
    return codes.OK if all(row["result"] == REMOVED for row in results) else codes.FAILURE


def _remove_one(client: DaemonClient, job_id: str) -> str:
    try:
        client.request("DELETE", _path(job_id))
    except DaemonError as error:
        if error.status not in {404, 409}:
            raise
        return str(error)
    return REMOVED


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"
