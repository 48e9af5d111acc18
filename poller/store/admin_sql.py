"""The SQL of the operator's queries and repairs. A NULL in a filter matches everything."""

from typing import Final

JOBS: Final = """
WITH known AS (
    SELECT job_id, iif(phase = 'missing', 'MISSING', status) AS state, deployment, changed_at,
           iif(json_valid(job), job, NULL) AS job
      FROM jobs
     UNION ALL
    SELECT id, 'UNKNOWN', NULL, 0.0, NULL
      FROM (SELECT value AS id FROM json_each(:unseen) UNION SELECT job_id FROM additions)
     WHERE id NOT IN (SELECT job_id FROM jobs)
)
SELECT job_id, state, deployment, nullif(changed_at, 0.0) AS changed_at, job,
       changed_at AS cursor_time, job_id AS cursor_key
  FROM known
 WHERE job_id = coalesce(:job, job_id)
   AND state = coalesce(:state, state)
   AND changed_at >= :since
   AND (:watched IS NULL OR job_id IN (SELECT value FROM json_each(:watched)))
   AND (:cursor_time IS NULL
        OR changed_at < :cursor_time
        OR (changed_at = :cursor_time AND job_id > :cursor_key))
 ORDER BY cursor_time DESC, cursor_key
 LIMIT :limit
"""
"""Recorded jobs, and added ones and those in `unseen`, which have no status yet, at the end."""

EVENTS: Final = """
SELECT id, type, subject AS job_id, occurred_at, recorded_at,
       (SELECT json_group_array(json_object('sink', sink, 'status', status))
          FROM deliveries WHERE event_id = events.id) AS deliveries,
       recorded_at AS cursor_time, rowid AS cursor_key
  FROM events
 WHERE subject = coalesce(:job, subject)
   AND type = coalesce(:type, type)
   AND recorded_at >= :since
   AND (coalesce(:sink, :state) IS NULL OR EXISTS (
        SELECT 1
          FROM deliveries
         WHERE event_id = events.id
           AND sink = coalesce(:sink, sink)
           AND status = coalesce(:state, status)
       ))
   AND (:cursor_time IS NULL
        OR recorded_at < :cursor_time
        OR (recorded_at = :cursor_time AND rowid < :cursor_key))
 ORDER BY cursor_time DESC, cursor_key DESC
 LIMIT :limit
"""

EVENT: Final = """
SELECT id, type, subject AS job_id, occurred_at, recorded_at, follows, body, digest
  FROM events
 WHERE id IN (SELECT value FROM json_each(:event_ids))
"""

_DELIVERY: Final = """
SELECT events.id AS event_id, type, events.subject AS job_id, sinks.name AS sink, status,
       attempts AS failures,
       iif(status = 'pending', due, NULL) AS next_attempt_at, last_attempt_at, ended_at, reason
"""

_DELIVERY_FILTER: Final = """
 WHERE events.subject = coalesce(:job, events.subject)
   AND type = coalesce(:type, type)
   AND sinks.name = coalesce(:sink, sinks.name)
   AND status IS coalesce(:state, status)
   AND coalesce(ended_at, created_at, :since) >= :since
   AND (:event_ids IS NULL OR events.id IN (SELECT value FROM json_each(:event_ids)))
 ORDER BY deliveries.id DESC
 LIMIT :limit
"""

DELIVERIES: Final = f"""{_DELIVERY}
  FROM deliveries
  JOIN events ON events.id = event_id
  JOIN sinks ON sinks.name = sink
{_DELIVERY_FILTER}"""

EVENT_SINK_PAIRS: Final = f"""{_DELIVERY}
  FROM events
  JOIN sinks
  LEFT JOIN deliveries ON event_id = events.id AND sink = sinks.name
{_DELIVERY_FILTER}"""
"""Like DELIVERIES, with a NULL status where an event has no delivery to a sink."""

REPLAY: Final = """
INSERT INTO deliveries (event_id, sink, subject, created_at, due, is_replay)
VALUES (:event_id, :sink, :job_id, :now, :now, 1)
ON CONFLICT (event_id, sink) DO UPDATE
   SET status = 'pending', created_at = excluded.created_at, due = excluded.due, is_replay = 1,
       attempts = 0, rejections = 0, failing_seconds = 0.0,
       reason = NULL, last_attempt_at = NULL, ended_at = NULL
"""
"""A replay gets the full seven days of attempts again."""

DELETE_DELIVERY: Final = "DELETE FROM deliveries WHERE event_id = :event_id AND sink = :sink"

ENABLE_SINK: Final = """
UPDATE sinks SET disabled_reason = NULL WHERE name = :sink AND disabled_reason IS NOT NULL
"""

SINK_NAMES: Final = "SELECT name FROM sinks ORDER BY name"

SINKS: Final = """
SELECT name AS sink,
       CASE WHEN unconfigured_at IS NOT NULL THEN 'not configured'
            WHEN disabled_reason IS NOT NULL THEN 'disabled' ELSE 'enabled' END AS state,
       pending,
       (SELECT min(created_at) FROM deliveries WHERE sink = name AND status = 'pending')
       AS oldest_at,
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

ENDED_JOBS: Final = """
SELECT job, max(changed_at) AS changed_at
  FROM jobs
 WHERE json_valid(job) AND status IN (SELECT value FROM json_each(:statuses))
 GROUP BY job_id,
          coalesce(json_extract(job, '$.datetime_created'), deployment),
          json_extract(job, '$.datetime_completed')
"""
"""A job that was polled at two names of one deployment is one job: its times are the same."""

JOB_IDS: Final = """
SELECT job_id AS id FROM jobs WHERE :prefix <> '' AND substr(job_id, 1, length(:prefix)) = :prefix
 UNION
SELECT subject FROM events WHERE :prefix <> '' AND substr(subject, 1, length(:prefix)) = :prefix
 UNION
SELECT job_id
  FROM additions
 WHERE :prefix <> '' AND substr(job_id, 1, length(:prefix)) = :prefix
 UNION
SELECT value
  FROM json_each(:unseen)
 WHERE :prefix <> '' AND substr(value, 1, length(:prefix)) = :prefix
 ORDER BY 1
"""

EVENT_IDS: Final = """
SELECT id FROM events WHERE :prefix <> '' AND substr(id, 1, length(:prefix)) = :prefix ORDER BY 1
"""

LAST_POSITION: Final = "SELECT rowid, id FROM events ORDER BY rowid DESC LIMIT 1"

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
