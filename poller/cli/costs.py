"""`costs`: sum the costs of ended jobs by model, name or day."""

import argparse
from dataclasses import asdict
from typing import Any, Final

from poller.cli.arguments import FILTERS, add_output_arguments, load_settings, open_store
from poller.cli.output import print_rows
from poller.store.costs import GROUPS, Sums

COLUMNS: Final = ("jobs", "input_tokens", "output_tokens", "cost_unknown", "cost_usd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `costs`."""
    parser.add_argument("--by", choices=GROUPS, default="model", help="group by (default: model)")
    parser.add_argument("--since", **FILTERS["since"])
    add_output_arguments(parser, formats=("csv",))


def run(arguments: argparse.Namespace) -> None:
    """Print the sums; a job counts when it ends."""
    groups = open_store(load_settings(arguments)).costs(arguments.by, arguments.since or 0.0)
    rows = [{arguments.by: key or None} | asdict(groups[key]) for key in sorted(groups)]
    if arguments.output == "table" and rows:
        total = Sums()
        for sums in groups.values():
            total.add(sums)
        rows = [_readable(row) for row in (*rows, {arguments.by: "total"} | asdict(total))]
    print_rows(rows, (arguments.by, *COLUMNS), arguments.output, empty="No ended jobs.")


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"cost_usd": "unknown" if row["cost_usd"] is None else row["cost_usd"]}
