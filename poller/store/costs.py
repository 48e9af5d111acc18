"""Sums of the costs of ended jobs, and of their estimates."""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from poller.core.durations import JobClass
from poller.core.over_estimate import exact
from poller.store import admin_sql as sql

DAY: Final = "day"
MONTH: Final = "month"
STATUS: Final = "status"
GROUPS: Final = ("model", "name", DAY, MONTH, STATUS)
MONTH_CHARS: Final = len("2024-01")
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


@dataclass(slots=True)
class Comparison:
    """Estimates and costs of some jobs, of which `compared` have both."""

    jobs: int = 0
    compared: int = 0
    estimate_usd: Decimal = Decimal(0)
    cost_usd: Decimal = Decimal(0)

    def add(self, cost: float | None, estimate: float | None) -> None:
        """Add a job."""
        self.jobs += 1
        if cost is not None and estimate is not None:
            self.compared += 1
            self.cost_usd += exact(cost)
            self.estimate_usd += exact(estimate)

    @property
    def ratio(self) -> float | None:
        """The cost as a multiple of the estimate; None without an estimate."""
        return round(float(self.cost_usd / self.estimate_usd), 3) if self.estimate_usd else None


def read_costs(
    db: sqlite3.Connection, by: str, since: float, deployment: str | None = None
) -> dict[str, Sums]:
    """Return the sums of the jobs that ended since then, by one of GROUPS; days are those of UTC.

    The key of a job without a model or a name is empty. The sums of whole days are kept, and the
    jobs of the first day are read if it is not a whole one. By status, and for one deployment,
    nothing is kept.
    """
    start, day = _start(since)
    until = day if start == day else day + AFTER_ALL_TIMES
    values = {"by": by, "since": start, "until": until, "deployment": deployment}
    kept = sql.COSTS_BY_DAY if by in {DAY, MONTH} else sql.COSTS
    statements: Sequence[str] = (kept, sql.COSTS_OF_FIRST_DAY)
    if by == STATUS or deployment:
        values["until"], statements = AFTER_ALL_TIMES, (sql.COSTS_OF_FIRST_DAY,)
    groups: dict[str, Sums] = defaultdict(Sums)
    for statement in statements:
        for row in db.execute(statement, values):
            if row["jobs"]:
                key = row["key"].decode(errors="replace")
                groups[key[:MONTH_CHARS] if by == MONTH else key].add(read_sums(row))
    return groups


def read_comparison(
    db: sqlite3.Connection, since: float, deployment: str | None = None
) -> dict[JobClass, Comparison]:
    """Return estimates and costs of the jobs that ended since then, by class."""
    values = {"since": _start(since)[0], "deployment": deployment}
    found: dict[JobClass, Comparison] = defaultdict(Comparison)
    for row in db.execute(sql.COSTS_AND_ESTIMATES, values):
        model = row["model"].decode(errors="replace") or None
        key = JobClass.of_values(model, row["num_rows"], row["priority"])
        found[key].add(row["cost"], row["estimate"])
    return {key: found[key] for key in sorted(found, key=_order)}


def _order(key: JobClass) -> tuple[str, int, int]:
    return key.model or "", key.size or 0, key.priority or 0


def _start(since: float) -> tuple[str, str]:
    """Return a time as the costs have it, and its day."""
    moment = datetime.fromtimestamp(math.floor(since), UTC)
    day = moment.date().isoformat()
    return moment.isoformat().removesuffix("+00:00").removesuffix(MIDNIGHT), day


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
