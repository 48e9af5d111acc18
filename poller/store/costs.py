"""Sums of the costs of ended jobs by model, name or day."""

import math
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from poller.store import admin_sql as sql

DAY: Final = "day"
GROUPS: Final = ("model", "name", DAY)
MIDNIGHT: Final = "T00:00:00"
AFTER_ALL_TIMES: Final = "~"


@dataclass(slots=True)
class Sums:
    """The sums of some jobs. Unknown costs are counted apart, not as 0."""

    jobs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_unknown: int = 0
    cost_usd: Decimal | None = None

    def add(self, other: "Sums") -> None:
        """Add the sums of other jobs."""
        self.jobs += other.jobs
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_unknown += other.cost_unknown
        if other.cost_usd is not None:
            self.cost_usd = (self.cost_usd or Decimal(0)) + other.cost_usd


def read_costs(db: sqlite3.Connection, by: str, since: float) -> dict[str, Sums]:
    """Return the sums of the jobs that ended since then, by model, name or day of UTC.

    The key of a job without a model or a name is empty. The sums of whole days are kept, and the
    jobs of the first day are read if it is not a whole one.
    """
    moment = datetime.fromtimestamp(math.floor(since), UTC)
    day = moment.date().isoformat()
    start = moment.isoformat().removesuffix("+00:00").removesuffix(MIDNIGHT)
    until = day if start == day else day + AFTER_ALL_TIMES
    values = {"by": by, "since": start, "until": until}
    groups: dict[str, Sums] = defaultdict(Sums)
    for statement in (sql.COSTS_BY_DAY if by == DAY else sql.COSTS, sql.COSTS_OF_FIRST_DAY):
        for row in db.execute(statement, values):
            if row["jobs"]:
                groups[row["key"].decode(errors="replace")].add(read_sums(row))
    return groups


def read_sums(row: sqlite3.Row) -> Sums:
    """Return the sums in a row."""
    cost = Decimal(row["dollars"]) + Decimal(row["trillionths"]).scaleb(-12)
    return Sums(
        jobs=row["jobs"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_unknown=row["cost_unknown"],
        cost_usd=None if row["cost_unknown"] == row["jobs"] else cost.normalize(),
    )
