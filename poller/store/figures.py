"""The figures of the charts: what ended in the last days, its cost, its run time, its detection."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from poller.core.job_status import TERMINAL_STATUSES, JobStatus
from poller.store import admin_sql as sql

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin

DAYS: Final = 30
READ_JOBS: Final = 4_000
"""The newest ended jobs, of which the run time is read."""
JOBS_PER_MODEL: Final = 500
LAGS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of some days of UTC, the oldest first; the last one is today.

    `ends` and `costs`, in US dollars, have a number for each day, by status and by model.
    `run_times` of the newest jobs of each model and `lags` of the newest ends are seconds. A job
    without a model has an empty one. `daily_budget` is in US dollars.
    """

    days: Sequence[date]
    has_ends: bool
    ends: Mapping[JobStatus, Sequence[int]]
    costs: Mapping[str, Sequence[float]]
    unknown_costs: int
    run_times: Mapping[str, Sequence[float]]
    lags: Sequence[float]
    daily_budget: float | None = None


def read_figures(admin: "StoreAdmin", now: float) -> Figures:
    """Return the figures of the last days; `now` is seconds since 1970."""
    today = datetime.fromtimestamp(now, UTC).date()
    days = [today - timedelta(days=age) for age in reversed(range(DAYS))]
    return admin.read(lambda db: _read(db, days))


def _read(db: sqlite3.Connection, days: Sequence[date]) -> Figures:
    since, until = days[0].isoformat(), days[-1].isoformat()
    states = {row["state"] for row in db.execute(sql.JOBS_BY_STATE)}
    costs = db.execute(sql.DAILY_COSTS, {"since": since, "until": until}).fetchall()
    return Figures(
        days=days,
        has_ends=bool(states & TERMINAL_STATUSES),
        ends={status: _ends(db, status, days) for status in sorted(TERMINAL_STATUSES)},
        costs=_costs(costs, days),
        unknown_costs=sum(row["cost_unknown"] for row in costs),
        run_times=_run_times(db.execute(sql.RUN_TIMES, {"since": since, "limit": READ_JOBS})),
        lags=_seconds(db.execute(sql.DETECTION_LAGS, {"limit": LAGS})),
    )


def _ends(db: sqlite3.Connection, status: JobStatus, days: Sequence[date]) -> Sequence[int]:
    starts = (datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day in days)
    values = ({"state": status, "start": start} for start in starts)
    return [db.execute(sql.ENDS_OF_DAY, value).fetchone()[0] for value in values]


def _costs(rows: Iterable[sqlite3.Row], days: Sequence[date]) -> Mapping[str, Sequence[float]]:
    """Return the costs of each model, without those that are all unknown."""
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["cost_unknown"] < row["jobs"]:
            known[_name(row)][row["day"]] += row["cost_usd"]
    return {model: [costs[day.isoformat()] for day in days] for model, costs in known.items()}


def _run_times(rows: Iterable[sqlite3.Row]) -> Mapping[str, Sequence[float]]:
    found: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        found[_name(row)].append(row)
    return {model: times for model in found if (times := _seconds(found[model])[:JOBS_PER_MODEL])}


def _seconds(rows: Iterable[sqlite3.Row]) -> Sequence[float]:
    """Return the numbers of seconds that are known and possible."""
    values = (row["seconds"] for row in rows)
    return [value for value in values if value is not None and value >= 0.0]


def _name(row: sqlite3.Row) -> str:
    name: str = row["model"].decode(errors="replace")
    return name
