"""`status`: show health, backlog and what needs attention."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

from poller.cli import exit_codes as codes
from poller.cli import print_output
from poller.cli.arguments import add_output_arguments, load_settings, open_store
from poller.cli.client import DaemonReport, read_status
from poller.cli.jobs.ls import count_unseen
from poller.cli.output import as_json, format_age
from poller.cli.table import as_table
from poller.core.formatting import fix_receiver, format_count
from poller.core.issues import REMEDIES, Issue, delayed_delivery
from poller.core.outbox import SinkBacklog
from poller.store.admin import StoreStatus
from poller.store.filters import Row

COLUMNS: Final = ("sink", "state", "pending", "oldest", "dead")
BYTES_PER_MB: Final = 1_000_000

add_arguments = add_output_arguments


def run(arguments: argparse.Namespace) -> int:
    """Print the status; exit 1 when something needs attention."""
    settings = load_settings(arguments)
    admin = open_store(settings)
    status = admin.status()
    if not status.is_running:
        unfinished = status.unfinished + count_unseen(settings, admin)
        status = replace(status, unfinished=unfinished)
    report = read_status(settings, status)
    required = (*_daemon_actions(report), *_store_actions(status, discovers=settings.discover))
    actions = list(dict.fromkeys(required))
    print_output(
        as_json(asdict(status) | {"daemon": asdict(report), "actions": actions})
        if arguments.output == "json"
        else _screen(status, report, actions)
    )
    return codes.FAILURE if actions else codes.OK


def _screen(status: StoreStatus, report: DaemonReport, actions: list[str]) -> str:
    jobs = ", ".join(f"{count} {state}" for state, count in status.jobs.items())
    sinks = [row | {"oldest": format_age(row["oldest_at"])} for row in status.sinks]
    lines = (
        f"daemon    {'running' if status.is_running else 'not running'}",
        f"database  {status.path} ({status.size / BYTES_PER_MB:.1f} MB)",
        f"API       {_api(report)}",
        f"API key   {'rejected' if status.is_key_rejected else 'no rejection recorded'}",
        f"jobs      {jobs or 'none recorded yet'}",
        "",
        as_table(sinks, COLUMNS),
        "",
        *(actions or ["No action needed."]),
    )
    return "\n".join(lines)


def _api(report: DaemonReport) -> str:
    """Return how the daemon reaches the API, as far as it is known."""
    if report.status is None:
        return f"not known: {report.problem}"
    api = report.status["api"]
    last = api["last_response_at"]
    reached = f"last response {format_age(last)} ago" if last else "no response yet"
    failing = f"; {api['error']}" if api["error"] else ""
    return f"{api['url']}: {reached}{failing}"


def _daemon_actions(report: DaemonReport) -> Iterator[str]:
    """Yield what the running daemon reports, with the remedy of each issue."""
    if report.is_expected:
        yield f"The daemon runs, but its HTTP API cannot be read: {report.problem}"
    if report.status is None:
        return
    issues: list[dict[str, Any]] = report.status["issues"]
    # That of a sink is in the database, which is read without the daemon, too.
    yield from (issue["remedy"] for issue in issues if issue["name"] != Issue.DELIVERY_DELAYED)
    api = report.status["api"]
    if api["error"] and not api["last_response_at"] and not issues:
        yield f"The API has never responded ({api['error']}): check SUTRO_API_URL."


def _delayed(row: Row) -> str | None:
    """Return the sentence about a sink whose oldest delivery waits for over an hour, or None."""
    oldest_at = row["oldest_at"] and datetime.fromisoformat(row["oldest_at"]).timestamp()
    backlog = SinkBacklog(
        name=row["sink"],
        pending=row["pending"],
        oldest_pending_at=oldest_at,
        reason=row["reason"],
        is_configured=row["state"] != "not configured",
    )
    return delayed_delivery(backlog, time.time())


def _store_actions(status: StoreStatus, *, discovers: bool) -> Iterator[str]:
    """Yield what the database shows, one sentence each."""
    if status.is_key_rejected:
        yield REMEDIES[Issue.API_KEY_REJECTED]
    waiting = sum(row["pending"] for row in status.sinks)
    if not status.is_running and (waiting or status.unfinished or discovers):
        jobs = format_count(status.unfinished, "unfinished job")
        deliveries = format_count(waiting, "pending delivery", "pending deliveries")
        what = f"{jobs} and {deliveries}{', and discovers no jobs' if discovers else ''}"
        yield f"The daemon is not running, with {what}: start `sutro-poller run`."
    for row in status.sinks:
        sink = row["sink"]
        if status.is_running and (delayed := _delayed(row)):
            yield delayed
        if row["state"] == "disabled":
            advice = fix_receiver(f"sinks enable {sink}")
            yield f"{sink} is disabled ({row['reason']}): {advice}."
        elif row["dead"]:
            yield (
                f"{sink} has {format_count(row['dead'], 'dead letter')}: see"
                f" `sutro-poller dead-letters ls --sink {sink}`, then replay or drop them."
            )
