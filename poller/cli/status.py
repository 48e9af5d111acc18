"""`status`: how the daemon and its database stand, and what needs a person."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from poller.cli import exit_codes as codes
from poller.cli import print_output
from poller.cli.arguments import add_store_arguments, open_store
from poller.cli.output import as_json, as_table
from poller.core.formatting import format_duration
from poller.core.issues import REMEDIES, Issue
from poller.store.admin import Row, StoreStatus

COLUMNS: Final = ("sink", "state", "pending", "oldest", "dead")
MEGABYTE: Final = 1_000_000

add_arguments = add_store_arguments


def run(arguments: argparse.Namespace) -> int:
    """Show all; exit 1 when something needs a person."""
    status = open_store(arguments).status()
    needs = list(_needs(status))
    print_output(
        as_json(_plain(status, needs)) if arguments.output == "json" else _screen(status, needs)
    )
    return codes.FAILURE if needs else codes.OK


def _plain(status: StoreStatus, needs: list[str]) -> dict[str, Any]:
    return asdict(status) | {"needs": needs}


def _screen(status: StoreStatus, needs: list[str]) -> str:
    jobs = ", ".join(f"{count} {state}" for state, count in status.jobs.items())
    sinks = [row | {"oldest": _age(row["oldest_at"])} for row in status.sinks]
    lines = (
        f"daemon    {'running' if status.is_running else 'not running'}",
        f"database  {status.path} ({status.size / MEGABYTE:.1f} MB)",
        f"API key   {'refused' if status.is_key_rejected else 'not refused'}",
        f"jobs      {jobs or 'none seen yet'}",
        "",
        as_table(sinks, COLUMNS),
        "",
        *(needs or ["Nothing needs a person."]),
    )
    return "\n".join(lines)


def _needs(status: StoreStatus) -> Iterator[str]:
    """Say what does not mend itself, and what to do about each."""
    if status.is_key_rejected:
        yield REMEDIES[Issue.API_KEY_REJECTED]
    waiting = sum(row["pending"] for row in status.sinks)
    if waiting and not status.is_running:
        yield f"{waiting} deliveries wait and no daemon runs: start it with `sutro-poller run`."
    for row in status.sinks:
        yield from _needs_of(row)


def _needs_of(row: Row) -> Iterator[str]:
    sink = row["sink"]
    if row["state"] == "disabled":
        yield (
            f"{sink} is disabled ({row['reason']}): put its receiver right, then"
            f" `sutro-poller sinks enable {sink}`."
        )
    elif row["dead"]:
        yield f"{sink} has dead letters: `sutro-poller dead ls --sink {sink}`, then replay or drop."


def _age(moment: str | None) -> str | None:
    """Return how long ago a moment was."""
    if moment is None:
        return None
    return format_duration(max(int(time.time() - datetime.fromisoformat(moment).timestamp()), 0))
