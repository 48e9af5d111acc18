"""`jobs ls`: list the recorded jobs and the named ones; or those that the daemon watches."""

import argparse
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from poller.cli import CommandError
from poller.cli import exit_codes as codes
from poller.cli.arguments import build_filter, load_settings, open_store
from poller.cli.client import DaemonClient, DaemonError, connect, connect_briefly
from poller.cli.expectation import ENDED, Expectations, expectations, whole_text
from poller.cli.output import print_rows
from poller.core.formatting import failure_message
from poller.core.job_status import TERMINAL_STATUSES, JobStatus
from poller.polling.jobs_text import read_ids
from poller.settings.daemon import Settings
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter, Row

STATES: Final = (*(status.value for status in JobStatus), "MISSING")
COLUMNS: Final = (
    "job_id",
    "state",
    "changed_at",
    "run_seconds",
    "expected_end",
    "job_cost",
    "name",
    "reason",
)
WATCHED: Final = ("job_id", "state", "changed_at", "watched_by")
NOT_FOUND: Final = "not found yet"
"""The state of a job that the daemon has polled, and that the API did not know."""


def ls(arguments: argparse.Namespace) -> None:
    """Print the jobs."""
    if arguments.watched:
        _list_watched(arguments)
        return
    settings = load_settings(arguments)
    admin = open_store(settings)
    found = admin.jobs(build_filter(arguments), named=named_ids(settings))
    rows = _mark_not_found(settings, admin, found)
    rows = _add_expected(rows, expectations(settings, admin), arguments.output)
    if arguments.output == "table":
        rows = map(_readable, rows)
    has_active = arguments.state not in ENDED
    columns = [name for name in COLUMNS if has_active or name != "expected_end"]
    print_rows(rows, columns, arguments.output, empty="No jobs recorded.")


def _add_expected(rows: Iterable[Row], expected: Expectations, style: str) -> Iterator[Row]:
    """Yield rows with when the jobs may be expected to end."""
    for row in rows:
        found = expected.of(row)
        shown = found and (whole_text(found.p50) if style == "table" else found.as_dict())
        yield row | {"expected_end": shown}


def _mark_not_found(settings: Settings, admin: StoreAdmin, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows with `not_found`, which the daemon knows of a job without a record."""
    not_found: frozenset[str] | None = None
    for row in rows:
        if row["changed_at"] is None and not_found is None:
            not_found = _not_found_ids(settings) if admin.is_running else frozenset()
        row["not_found"] = row["state"] == "MISSING" or row["job_id"] in (not_found or ())
        yield row


def count_unseen(settings: Settings, admin: StoreAdmin) -> int:
    """Return how many named jobs have no status yet."""
    rows = admin.jobs(EventFilter(state=JobStatus.UNKNOWN), named=named_ids(settings))
    return sum(row["changed_at"] is None for row in rows)


def named_ids(settings: Settings) -> tuple[str, ...]:
    """Return the IDs in the settings and in the jobs file, as far as it can be read."""
    if settings.jobs_file is None:
        return settings.job_ids
    try:
        return settings.job_ids + read_ids(settings.jobs_file)[0]
    except OSError:
        return settings.job_ids  # the daemon reports it


def _readable(row: Row) -> Row:
    """Return a row with what a table shows."""
    if "status" not in row:  # no response has shown the job, or its row is damaged
        return dict.fromkeys(COLUMNS) | row | _shown_state(row)
    reason = row.get("failure_reason")
    row["reason"] = failure_message(reason) if isinstance(reason, dict) else None
    row["run_seconds"] = _run_seconds(row)
    return {name: row.get(name) for name in COLUMNS}


def _run_seconds(row: Row) -> float | None:
    """Return how long a job ran; a job that runs has run until now."""
    try:
        started = datetime.fromisoformat(row["datetime_started"])
        if row["datetime_completed"]:
            ran = (datetime.fromisoformat(row["datetime_completed"]) - started).total_seconds()
            return ran if ran >= 0.0 else None
        if row["state"] in TERMINAL_STATUSES:
            return None
        return max((datetime.now(UTC) - started).total_seconds(), 0.0) // 1
    except (KeyError, TypeError, ValueError):  # an older version may have recorded anything
        return None


def _shown_state(row: Row) -> Row:
    is_expected = row["not_found"] and row["state"] == JobStatus.UNKNOWN
    return {"state": NOT_FOUND if is_expected else row["state"]}


def _list_watched(arguments: argparse.Namespace) -> None:
    if arguments.job or arguments.since or arguments.limit or arguments.state:
        rule = "--watched cannot be combined with other filters"
        raise CommandError(rule, code=codes.USAGE)
    rows = _watched(connect(load_settings(arguments)))
    if arguments.output == "table":
        rows = (
            row | _shown_state(row) | {"watched_by": ", ".join(row["watched_by"])} for row in rows
        )
    print_rows(rows, WATCHED, arguments.output, empty="No watched jobs.")


def _not_found_ids(settings: Settings) -> frozenset[str]:
    """Return the jobs that the API did not know when the daemon polled them, if it says so."""
    if settings.listen.is_off:
        return frozenset()
    try:
        rows = _watched(connect_briefly(settings), "&state=UNKNOWN")
        return frozenset(row["job_id"] for row in rows if row["not_found"])
    except DaemonError:
        return frozenset()


def _watched(client: DaemonClient, wanted: str = "") -> Iterator[dict[str, Any]]:
    """Yield the jobs that the daemon watches, from all pages. Raises DaemonError."""
    cursor = ""
    while cursor is not None:
        page = client.request("GET", f"/v1/jobs?watched=true&limit=100{wanted}{cursor}")
        yield from page["jobs"]
        cursor = page["next_cursor"] and f"&cursor={quote(page['next_cursor'], safe='')}"
