"""`status`: show health, backlog and what needs attention."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Final

from poller.cli import exit_codes as codes
from poller.cli import print_output
from poller.cli.arguments import add_output_arguments, open_store
from poller.cli.output import as_json, as_table
from poller.core.formatting import format_duration
from poller.core.issues import REMEDIES, Issue
from poller.store.admin import StoreStatus

COLUMNS: Final = ("sink", "state", "pending", "oldest", "dead")
BYTES_PER_MB: Final = 1_000_000

add_arguments = add_output_arguments


def run(arguments: argparse.Namespace) -> int:
    """Print the status; exit 1 when something needs attention."""
    status = open_store(arguments).status()
    actions = list(_actions(status))
    print_output(
        as_json(asdict(status) | {"actions": actions})
        if arguments.output == "json"
        else _screen(status, actions)
    )
    return codes.FAILURE if actions else codes.OK


def _screen(status: StoreStatus, actions: list[str]) -> str:
    jobs = ", ".join(f"{count} {state}" for state, count in status.jobs.items())
    sinks = [row | {"oldest": _age(row["oldest_at"])} for row in status.sinks]
    lines = (
        f"daemon    {'running' if status.is_running else 'not running'}",
        f"database  {status.path} ({status.size / BYTES_PER_MB:.1f} MB)",
        f"API key   {'rejected' if status.is_key_rejected else 'no rejection recorded'}",
        f"jobs      {jobs or 'none recorded yet'}",
        "",
        as_table(sinks, COLUMNS),
        "",
        *(actions or ["No action needed."]),
    )
    return "\n".join(lines)


def _actions(status: StoreStatus) -> Iterator[str]:
    """Yield what an operator has to do, one sentence each."""
    if status.is_key_rejected:
        yield REMEDIES[Issue.API_KEY_REJECTED]
    waiting = sum(row["pending"] for row in status.sinks)
    if waiting and not status.is_running:
        yield f"{waiting} deliveries are pending but no daemon runs: start `sutro-poller run`."
    for row in status.sinks:
        sink = row["sink"]
        if row["state"] == "disabled":
            yield (
                f"{sink} is disabled ({row['reason']}): fix its receiver, then run"
                f" `sutro-poller sinks enable {sink}`."
            )
        elif row["dead"]:
            yield (
                f"{sink} has dead letters: see `sutro-poller dead-letters ls --sink {sink}`,"
                " then replay or drop them."
            )


def _age(moment: str | None) -> str | None:
    """Return how long ago a moment was."""
    if moment is None:
        return None
    return format_duration(max(int(time.time() - datetime.fromisoformat(moment).timestamp()), 0))
