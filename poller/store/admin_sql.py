"""The SQL of the operator's queries and repairs; `list_sql` has that of the lists."""

from typing import Final

from poller.core.events import TERMINAL_EVENTS
from poller.store.schema_v5_costs import ENDED_AT

EVENT: Final = """
SELECT id, type, subject AS job_id, occurred_at, recorded_at, follows, body, digest
  FROM events
 WHERE id IN (SELECT value FROM json_each(:event_ids))
"""

UNSEEN_JOBS: Final = """
SELECT value AS job_id, 'UNKNOWN' AS state, NULL AS deployment, NULL AS changed_at, NULL AS job,
       0.0 AS cursor_time, value AS cursor_key
  FROM json_each(:ids)
 WHERE NOT EXISTS (SELECT 1 FROM deployments JOIN jobs USING (deployment) WHERE job_id = value)
 LIMIT :limit
"""

WATCHED_JOBS: Final = """
SELECT value AS job_id, coalesce(state, 'UNKNOWN') AS state, deployment, changed_at, job,
       0.0 AS cursor_time, value AS cursor_key
  FROM json_each(:ids)
  LEFT JOIN jobs ON jobs.rowid = (
        SELECT latest.rowid
          FROM deployments
          JOIN jobs AS latest USING (deployment)
         WHERE latest.job_id = value
         ORDER BY latest.changed_at DESC
         LIMIT 1
       )
 WHERE coalesce(changed_at, 0.0) >= :since
   AND coalesce(state, 'UNKNOWN') = coalesce(:state, state, 'UNKNOWN')
 LIMIT :limit
"""

ADDED_IDS: Final = "SELECT job_id FROM additions"

COUNT_IN_STATE: Final = """
SELECT sum(CASE :state WHEN 'pending' THEN pending WHEN 'dead' THEN dead END)
  FROM sinks
 WHERE name = coalesce(:sink, name)
"""
"""NULL for delivered ones, which are not counted."""

EVENT_SINK_PAIRS: Final = """
SELECT events.id AS event_id, events.type, events.subject AS job_id, name AS sink, status,
       attempts AS failures,
       iif(status = 'pending', coalesce(digest_at, due), NULL) AS next_attempt_at,
       last_attempt_at, ended_at, reason
  FROM (SELECT value AS named FROM json_each(:event_ids))
 CROSS JOIN events ON events.id = named
 CROSS JOIN sinks ON name = :sink
  LEFT JOIN deliveries ON event_id = named AND sink = name
"""
"""With a NULL status where an event has no delivery to the sink."""

_GATHER_AGAIN: Final = """digest_id = NULL,
       digest_at = iif((SELECT digest_window FROM sinks WHERE name = :sink) > 0.0, digest_at, NULL)
"""

REPLAY: Final = f"""
INSERT INTO deliveries (event_id, sink, subject, created_at, due, is_replay)
SELECT id, :sink, subject, :now, min(:now, (SELECT max(recorded_at) FROM events)), 1
  FROM events
 WHERE id = :event_id
ON CONFLICT (event_id, sink) DO UPDATE
   SET status = 'pending', created_at = excluded.created_at, due = excluded.due, is_replay = 1,
       attempts = 0, rejections = 0, failing_seconds = 0.0,
       reason = NULL, last_attempt_at = NULL, ended_at = NULL, {_GATHER_AGAIN}"""  # noqa: S608 - constants
"""What was gathered in a digest is in the next one. A replay gets all seven days again.

It is due at once by the clock of the daemon too, which has recorded the last event. That clock may
be behind the one of a command: it stands still while the machine sleeps, and is never set.
"""

DELETE_DEAD_LETTER: Final = """
DELETE FROM deliveries WHERE event_id = :event_id AND sink = :sink AND status = 'dead'
"""

RESTORE: Final = f"""
UPDATE deliveries
   SET status = 'pending', failing_seconds = 0.0, reason = NULL, ended_at = NULL,
       due = min(:now, (SELECT max(recorded_at) FROM events)), {_GATHER_AGAIN}
 WHERE event_id = :event_id AND sink = :sink AND status = 'dead'
"""  # noqa: S608 - constants

RESTORE_AGAIN: Final = RESTORE.replace("event_id = :event_id", "reason = :reason")
"""What a sweep has made dead again while the sink was being enabled."""

ENABLE_SINK: Final = """
UPDATE sinks
   SET disabled_reason = NULL, failing_since = NULL, failing_seconds = 0.0, last_failure_at = NULL
 WHERE name = :sink AND disabled_reason IS NOT NULL
"""

SINK_NAMES: Final = "SELECT name FROM sinks ORDER BY name"

SINKS: Final = """
SELECT name AS sink,
       CASE WHEN unconfigured_at IS NOT NULL THEN 'not configured'
            WHEN disabled_reason IS NOT NULL THEN 'disabled' ELSE 'enabled' END AS state,
       pending,
       (SELECT min(created_at) FROM deliveries
         WHERE sink = name AND status = 'pending' AND digest_at IS NULL) AS oldest_at,
       dead,
       failing_since,
       coalesce(disabled_reason, iif(failing_since, last_failure, NULL), (
           SELECT reason FROM deliveries WHERE sink = name AND status = 'pending' AND is_head
            ORDER BY last_attempt_at DESC LIMIT 1)) AS reason
  FROM sinks
 WHERE unconfigured_at IS NULL OR pending OR dead
 ORDER BY name
"""

JOBS_BY_STATE: Final = """
SELECT iif(phase = 'missing', 'MISSING', status) AS state, sum(jobs)
  FROM job_counts
 WHERE jobs > 0
 GROUP BY 1
 ORDER BY 1
"""

COUNT_UNFINISHED: Final = """
SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE phase NOT IN ('done', 'missing')
"""

_SUMS: Final = """
SELECT CAST({key} AS BLOB) AS key, sum(jobs) AS jobs,
       sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(cost_unknown) AS cost_unknown,
       sum(dollars + trillionths / 1000000000000) AS dollars,
       sum(trillionths % 1000000000000) AS trillionths
  FROM {table}
"""


def sums_by(key: str, table: str) -> str:
    """Return the start of a query that sums the jobs of a table; it has no group yet."""
    return _SUMS.format(key=key, table=table)


COSTS: Final = f"""{sums_by("key", "job_sums")}
 WHERE kind = :by AND day >= :since
 GROUP BY key
"""

COSTS_BY_DAY: Final = f"""{sums_by("day", "job_sums")}
 WHERE kind = 'model' AND day >= :since
 GROUP BY day
"""

_KEY: Final = (
    "CASE :by WHEN 'model' THEN model WHEN 'name' THEN name WHEN 'status' THEN status ELSE day END"
)
COSTS_OF_FIRST_DAY: Final = f"""{sums_by(_KEY, "counted_jobs")}
 WHERE ended_at >= :since AND ended_at < :until
   AND deployment = coalesce(:deployment, deployment)
 GROUP BY 1
"""
"""The jobs that ended on a part of a day: those of a whole one are summed already.

But not by status or for one deployment: then these are all jobs.
"""

COSTS_AND_ESTIMATES: Final = """
SELECT CAST(model AS BLOB) AS model, num_rows, priority, cost, estimate
  FROM counted_jobs
 WHERE ended_at >= :since AND deployment = coalesce(:deployment, deployment)
"""

ENDS_OF_DAY: Final = """
SELECT count(*)
  FROM jobs
 WHERE state = :state AND changed_at >= :start AND changed_at < :start + 86400.0
"""
"""By the last change of a job, which is its end or soon after: the index has all that is read."""

DAILY_COSTS: Final = """
SELECT CAST(key AS BLOB) AS model, day, jobs, cost_unknown,
       dollars + trillionths / 1e12 AS cost_usd
  FROM job_sums
 WHERE kind = 'model' AND day BETWEEN :since AND :until AND jobs > 0
"""

_RUN_TIMES: Final = """
SELECT CAST(coalesce(json_extract(job, '$.model'), '') AS BLOB) AS model,
       round(86400.0 * (julianday(json_extract(job, '$.datetime_completed'))
                        - julianday(json_extract(job, '$.datetime_started'))), 3) AS seconds
  FROM jobs
 WHERE {ended_at} >= :since
 ORDER BY {ended_at} DESC
 LIMIT :limit
"""
RUN_TIMES: Final = _RUN_TIMES.format(ended_at=ENDED_AT.replace("{row}.", ""))

_NEWEST_EVENTS: Final = """
SELECT number, recorded_at
  FROM (SELECT rowid AS number, recorded_at
          FROM events
         WHERE type = '{type}'
         ORDER BY recorded_at DESC
         LIMIT :limit)
"""
_NEWEST_ENDS: Final = " UNION ALL ".join(
    _NEWEST_EVENTS.format(type=kind) for kind in sorted(TERMINAL_EVENTS)
)
_DETECTION_LAGS: Final = """
SELECT iif(json_valid(CAST(body AS TEXT)),
           round(json_extract(CAST(body AS TEXT), '$.data.detection.lag_seconds'), 3), NULL)
       AS seconds
  FROM ({newest} ORDER BY recorded_at DESC LIMIT :limit) AS newest
 CROSS JOIN events ON events.rowid = number
"""
DETECTION_LAGS: Final = _DETECTION_LAGS.format(newest=_NEWEST_ENDS)

JOB_IDS: Final = """
SELECT id
  FROM (SELECT job_id AS id
          FROM deployments
          JOIN jobs USING (deployment)
         WHERE job_id BETWEEN :first AND :last
         LIMIT :many)
 UNION
SELECT id
  FROM (SELECT DISTINCT subject AS id
          FROM events
         WHERE subject BETWEEN :first AND :last
         LIMIT :many)
 UNION
SELECT job_id FROM additions WHERE job_id BETWEEN :first AND :last
 UNION
SELECT value FROM json_each(:unseen) WHERE value BETWEEN :first AND :last
 ORDER BY 1
 LIMIT :many
"""

EVENT_IDS: Final = """
SELECT id FROM events WHERE id BETWEEN :first AND :last ORDER BY 1 LIMIT :many
"""

LAST_POSITION: Final = "SELECT rowid, id FROM events WHERE rowid = (SELECT max(rowid) FROM events)"

POSITION: Final = "SELECT rowid, id FROM events WHERE id = :id"

EVENTS_AFTER: Final = """
SELECT rowid AS number, id, type, subject, body
  FROM events
 WHERE rowid > CASE
         WHEN :number > (SELECT coalesce(max(rowid), 0) FROM events) THEN 0
         WHEN EXISTS (SELECT 1 FROM events WHERE rowid = :number AND id <> :id) THEN 0
         ELSE :number
       END
 ORDER BY rowid
 LIMIT :limit
"""
"""A position that cannot be of this database stands before all its events."""
