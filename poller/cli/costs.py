"""`costs`: sum the costs of ended jobs by model, name or day."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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
    groups: dict[str | None, Sums] = defaultdict(Sums)
    total = Sums()
    for job in open_store(load_settings(arguments)).ended_jobs(arguments.since or 0.0):
        for sums in (groups[GROUPS[arguments.by](job)], total):
            sums.add(job)
    ordered = sorted(groups.items(), key=lambda item: item[0] or "")
    rows = [{arguments.by: key} | asdict(sums) for key, sums in ordered]
    if arguments.output == "table" and rows:
        rows = [_readable(row) for row in (*rows, {arguments.by: "total"} | asdict(total))]
    print_rows(rows, (arguments.by, *SUMS), arguments.output, empty="No ended jobs.")


@dataclass(slots=True)
class Sums:
    """The sums of some jobs. Unknown costs are counted apart, not as 0."""

    jobs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_unknown: int = 0
    cost_usd: Decimal | None = None

    def add(self, job: Row) -> None:
        """Add a job."""
        self.jobs += 1
        self.input_tokens += job["input_tokens"] or 0
        self.output_tokens += job["output_tokens"] or 0
        if job["job_cost"] is None:
            self.cost_unknown += 1
        else:
            self.cost_usd = (self.cost_usd or Decimal(0)) + Decimal(job["job_cost"])


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"cost_usd": "unknown" if row["cost_usd"] is None else row["cost_usd"]}
