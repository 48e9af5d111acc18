"""How long the newest ended jobs took, read in portions."""

import math
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from poller.core.duration_history import HISTORY_ENDS, DurationHistory
from poller.core.durations import JobClass, PastJob
from poller.store.schema_v5_costs import ENDED_AT

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin

PORTION_ROWS: Final = 250
"""Rows that are read at once: a few milliseconds."""

_SECONDS: Final = """round(86400.0 * (julianday(json_extract(job, '$.datetime_{until}'))
                       - julianday(json_extract(job, '$.datetime_{since}'))), 3)"""
_ENDED: Final = """
SELECT job_id, deployment, {ended_at} AS ended_at, rowid AS number,
       json_extract(job, '$.model') AS model,
       json_extract(job, '$.num_rows') AS num_rows,
       json_extract(job, '$.job_priority') AS priority,
       {queue} AS queue_seconds,
       {run} AS run_seconds
  FROM jobs
 WHERE {ended_at} <= :ended_at
   AND ({ended_at} < :ended_at OR rowid < :number)
 ORDER BY {ended_at} DESC, rowid DESC
 LIMIT :limit
"""
ENDED_JOBS: Final = _ENDED.format(
    ended_at=ENDED_AT.replace("{row}.", ""),
    queue=_SECONDS.format(since="created", until="started"),
    run=_SECONDS.format(since="started", until="completed"),
)


class EndCursor(NamedTuple):
    """A place among the ended jobs, from the newest to the oldest; `rows` are before it."""

    ended_at: str = "~"
    number: float = math.inf
    rows: int = 0


class PastJobs(NamedTuple):
    """A portion of ended jobs, the newest first, and where the next one begins, if there is one."""

    jobs: list[PastJob]
    after: EndCursor | None


def read_past_jobs(db: sqlite3.Connection, deployment: str, after: EndCursor) -> PastJobs:
    """Return the next of the newest ended jobs of a deployment, of which the times are known."""
    rows = db.execute(ENDED_JOBS, {**after._asdict(), "limit": PORTION_ROWS}).fetchall()
    jobs = [past for row in rows if row["deployment"] == deployment and (past := _past(row))]
    count = after.rows + len(rows)
    if len(rows) < PORTION_ROWS or count >= HISTORY_ENDS:
        return PastJobs(jobs, None)
    return PastJobs(jobs, EndCursor(rows[-1]["ended_at"], rows[-1]["number"], count))


def read_history(admin: "StoreAdmin", deployment: str) -> DurationHistory:
    """Return how long the newest ended jobs of a deployment took. Raises StoreError."""
    history, older = DurationHistory(), list[PastJob]()
    portion = PastJobs([], EndCursor())
    while portion.after is not None:
        portion = admin.read(partial(read_past_jobs, deployment=deployment, after=portion.after))
        older += portion.jobs
    history.add_older(older)
    return history


def _past(row: sqlite3.Row) -> PastJob | None:
    """Return how long a job took; None where its times are not known, or impossible."""
    waited, ran = row["queue_seconds"], row["run_seconds"]
    if waited is None or ran is None or min(waited, ran) < 0.0:
        return None
    known: dict[str, Any] = {name: row[name] for name in ("model", "num_rows", "priority")}
    return PastJob(row["job_id"], JobClass.of_values(**known), waited, ran)
