"""Verify the values that triggers keep, and count them again from the rows that they are about.

No program that changes rows can leave them wrong, but damage can, and a bug. Wrong counts mislead
only people; without `is_head` a delivery is never sent.

SQLite keeps in memory what it sorts, so no statement sorts all jobs: they are counted in the order
of an index, and the sums of one day at a time.
"""

import sqlite3
from typing import Final

from poller.store.schema_v5_costs import ADD_ALL_JOBS

_PENDING: Final = "(SELECT count(*) FROM deliveries WHERE sink = name AND status = 'pending')"
_DEAD: Final = "(SELECT count(*) FROM deliveries WHERE sink = name AND status = 'dead')"

WRONG_BACKLOG: Final = f"""
SELECT 1 FROM sinks WHERE pending <> {_PENDING} OR dead <> {_DEAD}
"""  # noqa: S608 - constants

_IS_WRONG_HEAD: Final = """
       status = 'pending'
   AND is_head <> (digest_at IS NULL AND id = (
        SELECT min(id)
          FROM deliveries AS others
         WHERE others.sink = deliveries.sink
           AND others.subject = deliveries.subject
           AND others.status = 'pending'
           AND others.digest_at IS NULL
       ))
"""
WRONG_HEADS: Final = f"SELECT 1 FROM deliveries WHERE {_IS_WRONG_HEAD}"  # noqa: S608 - constants

WRONG_STATES: Final = """
SELECT 1
  FROM (SELECT iif(phase = 'missing', 'MISSING', status) AS state, jobs FROM job_counts
         UNION ALL
        SELECT state, -count(*) FROM jobs GROUP BY state)
 GROUP BY state
HAVING sum(jobs)
"""
WRONG_UNFINISHED: Final = """
SELECT 1
  FROM (SELECT phase, status, jobs FROM job_counts WHERE phase <> 'done'
         UNION ALL
        SELECT phase, status, -count(*) FROM jobs WHERE phase <> 'done' GROUP BY phase, status)
 GROUP BY phase, status
HAVING sum(jobs)
"""
"""Where this and WRONG_STATES have no row, the counts of jobs that are done are right too."""

NEXT_DAY: Final = """
SELECT day FROM counted_jobs WHERE ended_at >= :start ORDER BY ended_at LIMIT 1
"""
WRONG_SUMS_OF_DAY: Final = """
SELECT count(*) AS groups,
       coalesce(sum(
           (kept.jobs, kept.input_tokens, kept.output_tokens, kept.cost_unknown, kept.dollars,
            kept.trillionths)
           IS NOT
           (counted.jobs, counted.input_tokens, counted.output_tokens, counted.cost_unknown,
            counted.dollars, counted.trillionths)
       ), 0) AS wrong
  FROM (SELECT kind, iif(kind = 'model', model, name) AS key, sum(jobs) AS jobs,
               sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
               sum(cost_unknown) AS cost_unknown, sum(dollars) AS dollars,
               sum(trillionths) AS trillionths
          FROM (SELECT * FROM counted_jobs
                 WHERE ended_at >= :day AND ended_at < :end AND day = :day LIMIT -1)
         CROSS JOIN (SELECT 'model' AS kind UNION ALL SELECT 'name')
         GROUP BY 1, 2) AS counted
  LEFT JOIN job_sums AS kept
    ON kept.kind = counted.kind AND kept.key = counted.key AND kept.day = :day
"""
"""The sums that one day must have, and how many of them it has not."""

KEPT_SUMS: Final = """
SELECT count(*) FROM job_sums
 WHERE jobs OR input_tokens OR output_tokens OR cost_unknown OR dollars OR trillionths
"""

DAY_CHARS: Final = len("2024-01-15")
AFTER_DAY: Final = "\U0010ffff"
"""A character after those that follow a day in a time."""

WRONG: Final = {
    "pending and dead deliveries": (WRONG_BACKLOG,),
    "first deliveries": (WRONG_HEADS,),
    "jobs by state": (WRONG_STATES, WRONG_UNFINISHED),
}
"""The queries of which one has a row if a kind of values is wrong."""

COUNT_ALL_JOBS: Final = """
INSERT INTO job_counts SELECT phase, status, 1 FROM jobs WHERE true
    ON CONFLICT DO UPDATE SET jobs = jobs + 1
"""
COUNT_AGAIN: Final = (
    f"UPDATE sinks SET pending = {_PENDING}, dead = {_DEAD}",  # noqa: S608 - constants
    f"UPDATE deliveries SET is_head = NOT is_head WHERE {_IS_WRONG_HEAD}",  # noqa: S608 - constants
    "DELETE FROM job_counts",
    COUNT_ALL_JOBS,
    "DELETE FROM job_sums",
    ADD_ALL_JOBS,
)


def find_wrong(db: sqlite3.Connection) -> list[str]:
    """Return the kinds of values that are not what their rows add up to, at one moment."""
    db.execute("BEGIN")
    try:
        wrong = [
            kind
            for kind, queries in WRONG.items()
            if any(db.execute(f"{query} LIMIT 1").fetchone() for query in queries)
        ]
        return [*wrong, "costs"] if _has_wrong_sums(db) else wrong
    finally:
        db.rollback()  # unless an error has ended the transaction


def _has_wrong_sums(db: sqlite3.Connection) -> bool:
    groups, start = 0, ""
    while first := db.execute(NEXT_DAY, {"start": start}).fetchone():
        day = first["day"]
        # A time that is shorter than a day is all that its day has.
        start = day + (AFTER_DAY if len(day) == DAY_CHARS else "\x01")
        found = db.execute(WRONG_SUMS_OF_DAY, {"day": day, "end": start}).fetchone()
        if found["wrong"]:
            return True
        groups += found["groups"]
    kept: int = db.execute(KEPT_SUMS).fetchone()[0]
    return kept != groups


def count_again(db: sqlite3.Connection) -> None:
    """Correct all of them, in the transaction of the connection."""
    for statement in COUNT_AGAIN:
        db.execute(statement)
