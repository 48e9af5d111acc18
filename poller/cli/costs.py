"""`costs`: sum the costs of ended jobs by model, name or day."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from poller.cli.arguments import FILTERS, add_output_arguments, load_settings, open_store
from poller.cli.output import print_rows
from poller.store.filters import Row

GROUPS: Final[Mapping[str, Callable[[Row], str | None]]] = {
    "model": lambda job: job["model"],
    "name": lambda job: job["name"],
    "day": lambda job: str(job["ended_at"])[:10],
}
SUMS: Final = ("jobs", "input_tokens", "output_tokens", "cost_unknown", "cost_usd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `costs`."""
    parser.add_argument("--by", choices=GROUPS, default="model", help="group by (default: model)")
    parser.add_argument("--since", **FILTERS["since"])
    add_output_arguments(parser, formats=("csv",))


def run(arguments: argparse.Namespace) -> None:
    """Print the sums; a job counts when it ends."""
    jobs = open_store(load_settings(arguments)).ended_jobs(arguments.since or 0.0)
    rows = [{arguments.by: key} | _sum(group) for key, group in _grouped(jobs, arguments.by)]
    if arguments.output == "table" and rows:
        rows = [_readable(row) for row in (*rows, {arguments.by: "total"} | _sum(jobs))]
    print_rows(rows, (arguments.by, *SUMS), arguments.output, empty="No ended jobs.")


def _grouped(jobs: Iterable[Row], by: str) -> list[tuple[str | None, list[Row]]]:
    groups: dict[str | None, list[Row]] = defaultdict(list)
    for job in jobs:
        groups[GROUPS[by](job)].append(job)
    return sorted(groups.items(), key=lambda item: item[0] or "")


def _sum(jobs: Sequence[Row]) -> dict[str, Any]:
    """Return the sums of some jobs. Unknown costs are counted apart, not as 0."""
    costs = [job["job_cost"] for job in jobs]
    known = [Decimal(cost) for cost in costs if cost is not None]
    return {
        "jobs": len(costs),
        "input_tokens": sum(job["input_tokens"] or 0 for job in jobs),
        "output_tokens": sum(job["output_tokens"] or 0 for job in jobs),
        "cost_unknown": len(costs) - len(known),
        "cost_usd": sum(known, Decimal(0)) if known else None,
    }


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"cost_usd": "unknown" if row["cost_usd"] is None else row["cost_usd"]}
