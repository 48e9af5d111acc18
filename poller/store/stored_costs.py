"""The costs that budgets are about, as they are in one transaction."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from poller.core.budgets import Budget, Period, Spent
from poller.core.events import Event
from poller.core.jobs import format_rfc3339
from poller.core.outbox import WriteBatch
from poller.core.over_estimate import exact
from poller.store.schema_v5_costs import TRILLIONTHS

ENDS: Final = """
SELECT ended_at
  FROM jobs
 WHERE deployment = :deployment
   AND job_id IN (SELECT value FROM json_each(:job_ids))
   AND ended_at IS NOT NULL
"""

MODELS: Final = """
WITH RECURSIVE models (model) AS (
    SELECT min(model) FROM jobs WHERE deployment = :deployment AND ended_at IS NOT NULL
     UNION ALL
    SELECT (SELECT min(model)
              FROM jobs
             WHERE deployment = :deployment AND ended_at IS NOT NULL AND model > models.model)
      FROM models
     WHERE model IS NOT NULL
  )
SELECT CAST(model AS BLOB) AS model FROM models WHERE model IS NOT NULL
"""
"""One step for each model, and not for each job."""

SPENT: Final = f"""
SELECT count(*) AS jobs, count(*) - count(cost) AS unknown,
       coalesce(sum(CAST(cost AS INTEGER)), 0) AS dollars,
       coalesce(sum({TRILLIONTHS}), 0) AS trillionths
  FROM jobs
 WHERE deployment = :deployment
   AND model = CAST(:model AS TEXT)
   AND ended_at >= :start
   AND ended_at < :end
"""  # noqa: S608 - constants

ESTIMATES: Final = """
SELECT CAST(model AS BLOB) AS model,
       iif(json_valid(job), json_extract(job, '$.cost_estimate'), NULL) AS estimate
  FROM jobs
 WHERE deployment = :deployment AND phase <> 'done' AND phase <> 'missing'
"""

IS_CROSSED: Final = "SELECT 1 FROM crossings WHERE event_id = :event_id"

RECORD_CROSSING: Final = """
INSERT INTO crossings (event_id, crossed_at) VALUES (:event_id, :now) ON CONFLICT DO NOTHING
"""

PRUNE_CROSSINGS: Final = "DELETE FROM crossings WHERE crossed_at <= :now - :crossings_for"


class StoredCosts:
    """The costs of one deployment; see `CostReader`. `now` is seconds of `Clock.steady`."""

    def __init__(self, db: sqlite3.Connection, deployment: str, now: float = 0.0) -> None:
        self._db = db
        self._values = {"deployment": deployment, "now": now}

    def ends(self, job_ids: Sequence[str]) -> list[datetime]:
        """Return when those of these jobs ended that count in sums."""
        rows = self._rows(ENDS, job_ids=json.dumps(list(job_ids)))
        return [moment for row in rows if (moment := _parse_time(row["ended_at"]))]

    def spent(self, budget: Budget, period: Period) -> Spent:
        """Return what the jobs of a budget cost that ended in a period."""
        bounds = {"start": _bound(period.start), "end": _bound(period.end)}
        models = [row["model"] for row in self._rows(MODELS)]
        selected = [model for model in models if budget.selects(model.decode(errors="replace"))]
        rows = [self._rows(SPENT, model=model, **bounds)[0] for model in selected]
        return sum(map(_read_spent, rows), Spent())

    def committed(self, budget: Budget) -> Spent:
        """Return the estimates of the jobs of a budget that have not ended."""
        rows = self._rows(ESTIMATES)
        selected = [row for row in rows if budget.selects(_model(row))]
        known = [exact(row["estimate"]) for row in selected if row["estimate"] is not None]
        return Spent(sum(known, Decimal(0)), len(selected), len(selected) - len(known))

    def is_crossed(self, event: str) -> bool:
        """Return whether the crossing with this event id is recorded."""
        return bool(self._rows(IS_CROSSED, event_id=event))

    def record_crossing(self, event: str) -> None:
        """Record that the crossing with this event id is announced."""
        self._rows(RECORD_CROSSING, event_id=event)

    def _rows(self, statement: str, **values: Any) -> list[sqlite3.Row]:
        return self._db.execute(statement, self._values | values).fetchall()


def announced(
    db: sqlite3.Connection, batch: WriteBatch, values: Mapping[str, Any]
) -> Sequence[Event]:
    """Return the events that follow from the costs with the states of a batch."""
    costs = StoredCosts(db, values["deployment"], values["now"])
    return batch.announce(costs) if batch.announce else ()


def prune_crossings(db: sqlite3.Connection, values: Mapping[str, Any]) -> int:
    """Delete crossings of periods that are long over; return how many."""
    return db.execute(PRUNE_CROSSINGS, values).rowcount


def _bound(moment: datetime) -> str:
    """Return a whole second as it begins in a time of the API, with or without a fraction."""
    return format_rfc3339(moment).removesuffix("Z")


def _parse_time(text: str) -> datetime | None:
    """Return a time; None if the row is damaged."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _read_spent(row: sqlite3.Row) -> Spent:
    dollars = Decimal(row["dollars"]) + Decimal(row["trillionths"]).scaleb(-12)
    return Spent(dollars, row["jobs"], row["unknown"])


def _model(row: sqlite3.Row) -> str:
    return (row["model"] or b"").decode(errors="replace")
