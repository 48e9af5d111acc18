"""Version 7 of the schema: what budgets are summed from, and which crossings are announced.

A sum must be exact for any period in any time zone, so it is not kept: an index has all that it is
made of. It has only the jobs that have ended.
"""

from typing import Final

from poller.store.schema_v5_costs import COST, ENDED_AT, view_of_jobs

_COLUMNS: Final = """,
           deployment, status, json_extract(jobs.job, '$.num_rows') AS num_rows,
           json_extract(jobs.job, '$.job_priority') AS priority,
           CASE WHEN json_extract(jobs.job, '$.cost_estimate') BETWEEN 0 AND 1e9
                THEN CAST(json_extract(jobs.job, '$.cost_estimate') AS REAL)
           END AS estimate
    """

VERSION_7: Final = f"""
DROP VIEW counted_jobs;
{view_of_jobs(_COLUMNS)}
ALTER TABLE jobs ADD COLUMN ended_at TEXT AS (CAST({ENDED_AT.replace("{row}.", "")} AS TEXT));
ALTER TABLE jobs ADD COLUMN model TEXT AS (
    CASE WHEN json_valid(job) THEN CAST(coalesce(json_extract(job, '$.model'), '') AS TEXT) END
);
ALTER TABLE jobs ADD COLUMN cost REAL AS (
    CASE WHEN json_valid(job) THEN {COST.replace("{row}.", "")} END
);
CREATE INDEX jobs_by_spending ON jobs (deployment, model, ended_at, cost)
 WHERE ended_at IS NOT NULL;

CREATE TABLE crossings (
    event_id   TEXT PRIMARY KEY NOT NULL,
    crossed_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
