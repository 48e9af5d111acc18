"""The content of the daily report: what ended in a period, and what needs attention now.

A job counts in the period in which its end was recorded: so each end is in one report, however late
the API has shown it. Costs are those of now.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from heapq import nlargest
from operator import itemgetter
from typing import Any, Final

from poller.core.job_status import JobStatus
from poller.store.admin_sql import sums_by
from poller.store.costs import Sums, read_sums
from poller.store.schema_v5_costs import counted_jobs

ENDS: Final = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
MAX_MODELS: Final = 10
MAX_JOBS: Final = 5
MAX_SINKS: Final = 10
MAX_NAME_CHARS: Final = 80
"""So many, with names of so many characters, fit into the 20 kB of an event."""
MISSING: Final = "MISSING"
UNCHANGED_SECONDS: Final = 3_600.0
"""A job that has not changed for less time needs no attention."""

_IN_PERIOD: Final = """
       state = :state AND changed_at >= :since AND deployment = :deployment
   AND since >= :since AND since < :until
"""
"""By an index on the last change of a job: its end, or what came after that."""

COSTS_OF_PERIOD: Final = f"{sums_by('model', f'({counted_jobs(_IN_PERIOD)})')} GROUP BY model"

_NAMES: Final = """
       CAST(iif(json_valid(job), json_extract(job, '$.name'), NULL) AS BLOB) AS name,
       CAST(iif(json_valid(job), json_extract(job, '$.model'), NULL) AS BLOB) AS model
"""

SLOWEST: Final = f"""
SELECT job_id, state AS status, {_NAMES},
       round(86400.0 * (julianday(json_extract(job, '$.datetime_completed'))
                        - julianday(json_extract(job, '$.datetime_started'))), 3) AS seconds
  FROM jobs
 WHERE {_IN_PERIOD}
   AND NOT is_twin
   AND json_valid(job)
   AND seconds >= 0.0
 ORDER BY seconds DESC, job_id
 LIMIT :limit
"""  # noqa: S608 - a constant

UNFINISHED: Final = f"""
SELECT job_id, state AS status, {_NAMES}, round(:now - changed_at, 3) AS seconds
  FROM json_each(:watched)
 CROSS JOIN jobs ON deployment = :deployment AND job_id = value
 WHERE phase IN ('active', 'missing')
"""  # noqa: S608 - a constant

PROBLEM_SINKS: Final = """
SELECT name AS sink, pending, dead, disabled_reason IS NOT NULL AS is_disabled
  FROM sinks
 WHERE dead OR disabled_reason IS NOT NULL
 ORDER BY name
 LIMIT :limit
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """The report that is wanted: its period in seconds of `Clock.steady`, and the watched jobs."""

    since: float
    until: float
    watched: Collection[str]


def read_report(db: sqlite3.Connection, query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a report as JSON values. `query` has `deployment` and `now` too."""
    values = {**query, "watched": json.dumps([*query["watched"]]), "limit": MAX_JOBS}
    ended = [row for state in ENDS for row in db.execute(SLOWEST, values | {"state": state})]
    sinks = db.execute(PROBLEM_SINKS, {"limit": MAX_SINKS})
    return {
        **_costs(db, values),
        "slowest": _longest(ended),
        **_unfinished(db.execute(UNFINISHED, values).fetchall()),
        "sinks": [{**row, "is_disabled": bool(row["is_disabled"])} for row in map(dict, sinks)],
    }


def _costs(db: sqlite3.Connection, values: dict[str, Any]) -> dict[str, Any]:
    """Return the number of ends by status, and what they cost together and by model."""
    ended: Counter[JobStatus] = Counter()
    models: dict[bytes, Sums] = defaultdict(Sums)
    total = Sums()
    for status in ENDS:
        for row in db.execute(COSTS_OF_PERIOD, values | {"state": status}):
            sums = read_sums(row)
            ended[status] += sums.jobs
            models[row["key"]].add(sums)
            total.add(sums)
    ranked = sorted(models, key=lambda model: (-(models[model].cost_usd or Decimal()), model))
    return {
        **{status.value.lower(): ended[status] for status in ENDS},
        **_cost(total),
        "models": [
            {"model": _cut(model), "jobs": models[model].jobs, **_cost(models[model])}
            for model in ranked[:MAX_MODELS]
        ],
        "models_omitted": len(ranked[MAX_MODELS:]),
    }


def _cost(sums: Sums) -> dict[str, Any]:
    """Return a cost as text, which no reader of JSON rounds, and how many are unknown."""
    cost = None if sums.cost_usd is None else f"{sums.cost_usd:f}"
    return {"cost_usd": cost, "cost_unknown": sums.cost_unknown}


def _unfinished(rows: Sequence[sqlite3.Row]) -> dict[str, Any]:
    """Return which jobs have not changed for long, and which are missing."""
    missing = [row["job_id"] for row in rows if row["status"] == MISSING]
    unchanged = [
        row for row in rows if row["status"] != MISSING and row["seconds"] >= UNCHANGED_SECONDS
    ]
    return {
        "unchanged": _longest(unchanged),
        "missing": len(missing),
        "missing_ids": sorted(missing)[:MAX_JOBS],
    }


def _longest(rows: Sequence[sqlite3.Row]) -> list[dict[str, Any]]:
    """Return the jobs with the most seconds."""
    longest = nlargest(MAX_JOBS, map(dict, rows), key=itemgetter("seconds"))
    return [row | {name: _cut(row[name]) for name in ("name", "model")} for row in longest]


def _cut(name: bytes | None) -> str | None:
    """Return the name of a job or of a model, shortened if it is long; None if it is empty."""
    text = (name or b"").decode(errors="replace")
    return (text if len(text) <= MAX_NAME_CHARS else f"{text[: MAX_NAME_CHARS - 1]}…") or None
