"""Verify the values that triggers keep, and count them again from the rows that they are about.

No program that changes rows can leave them wrong, but damage can, and a bug. Wrong counts mislead
only people; without `is_head` a delivery is never sent.
"""

import sqlite3
from typing import Final

from poller.store.schema_v5_costs import ADD_ALL_JOBS

_PENDING: Final = "(SELECT count(*) FROM deliveries WHERE sink = name AND status = 'pending')"
_DEAD: Final = "(SELECT count(*) FROM deliveries WHERE sink = name AND status = 'dead')"

_WRONG_HEAD: Final = """
       status = 'pending'
   AND is_head <> (id = (
        SELECT min(id)
          FROM deliveries AS others
         WHERE others.sink = deliveries.sink
           AND others.subject = deliveries.subject
           AND others.status = 'pending'
       ))
"""

_WRONG_JOBS: Final = """
SELECT 1
  FROM (SELECT phase, status, jobs FROM job_counts
         UNION ALL
        SELECT phase, status, -count(*) FROM jobs GROUP BY phase, status)
 GROUP BY phase, status
HAVING sum(jobs)
"""

_WRONG_COSTS: Final = """
SELECT 1
  FROM (SELECT * FROM job_sums
         UNION ALL
        SELECT kind, iif(kind = 'model', model, name), day, -jobs, -input_tokens, -output_tokens,
               -cost_unknown, -dollars, -trillionths
          FROM counted_jobs
         CROSS JOIN (SELECT 'model' AS kind UNION ALL SELECT 'name'))
 GROUP BY kind, key, day
HAVING sum(jobs) OR sum(input_tokens) OR sum(output_tokens)
    OR sum(cost_unknown) OR sum(dollars) OR sum(trillionths)
"""

WRONG: Final = {
    "pending and dead deliveries": (
        f"SELECT 1 FROM sinks WHERE pending <> {_PENDING} OR dead <> {_DEAD}"  # noqa: S608
    ),
    "first deliveries": f"SELECT 1 FROM deliveries WHERE {_WRONG_HEAD}",  # noqa: S608 - constants
    "jobs by state": _WRONG_JOBS,
    "costs": _WRONG_COSTS,
}
"""The query that has a row if a kind of values is wrong."""

COUNT_AGAIN: Final = (
    f"UPDATE sinks SET pending = {_PENDING}, dead = {_DEAD}",  # noqa: S608 - constants
    f"UPDATE deliveries SET is_head = NOT is_head WHERE {_WRONG_HEAD}",  # noqa: S608 - constants
    "DELETE FROM job_counts",
    "INSERT INTO job_counts SELECT phase, status, count(*) FROM jobs GROUP BY phase, status",
    "DELETE FROM job_sums",
    ADD_ALL_JOBS,
)


def find_wrong(db: sqlite3.Connection) -> list[str]:
    """Return the kinds of values that are not what their rows add up to."""
    return [kind for kind, query in WRONG.items() if db.execute(f"{query} LIMIT 1").fetchone()]


def count_again(db: sqlite3.Connection) -> None:
    """Correct all of them, in the transaction of the connection."""
    for statement in COUNT_AGAIN:
        db.execute(statement)
