"""`costs`: sum the costs of ended jobs, or compare them with their estimates."""

import argparse
from dataclasses import asdict
from typing import Any, Final

from poller.cli.arguments import FILTERS, add_output_arguments, load_settings, open_store
from poller.cli.output import print_rows
from poller.store.costs import GROUPS, Sums, read_comparison

COLUMNS: Final = ("jobs", "input_tokens", "output_tokens", "cost_unknown", "cost_usd")
COMPARED: Final = (
    *("model", "rows", "priority", "jobs", "compared", "estimate_usd", "cost_usd", "ratio"),
)
NO_JOBS: Final = "No ended jobs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `costs`."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--by", choices=GROUPS, default="model", help="group by (default: model)")
    kind.add_argument(
        "--compare",
        action="store_true",
        help="show costs beside estimates, by model, number of rows and priority",
    )
    parser.add_argument("--since", **FILTERS["since"])
    parser.add_argument("--deployment", metavar="HOST", help="only jobs of the API at this host")
    add_output_arguments(parser, formats=("csv",))


def run(arguments: argparse.Namespace) -> None:
    """Print the sums; a job counts when it ends."""
    if arguments.compare:
        _compare(arguments)
        return
    admin = open_store(load_settings(arguments))
    groups = admin.costs(arguments.by, arguments.since or 0.0, arguments.deployment)
    rows = [{arguments.by: key or None} | asdict(groups[key]) for key in sorted(groups)]
    if arguments.output == "table" and rows:
        total = Sums()
        for sums in groups.values():
            total.add(sums)
        rows = [_readable(row) for row in (*rows, {arguments.by: "total"} | asdict(total))]
    print_rows(rows, (arguments.by, *COLUMNS), arguments.output, empty=NO_JOBS)


def _compare(arguments: argparse.Namespace) -> None:
    """Print estimates and costs; jobs that lack one of them are counted, not compared."""
    since, deployment = arguments.since or 0.0, arguments.deployment
    admin = open_store(load_settings(arguments))
    found = admin.read(lambda db: read_comparison(db, since, deployment))
    rows = [
        {"model": key.model, "rows": key.range, "priority": key.priority}
        | asdict(each)
        | {"ratio": each.ratio}
        for key, each in found.items()
    ]
    print_rows(rows, COMPARED, arguments.output, empty=NO_JOBS)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"cost_usd": "unknown" if row["cost_usd"] is None else row["cost_usd"]}
