"""The SQL of the SQLite store. Lists are passed as JSON, so that every statement is constant."""

from typing import Final

WRITE_STATE: Final = """
INSERT INTO jobs (
    deployment, job_id, phase, since, status, job,
    sequence, occurrence, is_unrecognised, awaited_fields, overdue_stages, changed_at
) VALUES (
    :deployment, :job_id, :phase, :since, :status, :job,
    :sequence, :occurrence, :is_unrecognised, :awaited_fields, :overdue_stages, :now
) ON CONFLICT (deployment, job_id) DO UPDATE
   SET phase = excluded.phase, since = excluded.since, status = excluded.status, job = excluded.job,
       sequence = excluded.sequence, occurrence = excluded.occurrence,
       is_unrecognised = excluded.is_unrecognised, awaited_fields = excluded.awaited_fields,
       overdue_stages = excluded.overdue_stages, changed_at = excluded.changed_at
"""
"""Not REPLACE, which deletes a row without its trigger."""

WRITE_EVENT: Final = """
INSERT INTO events (id, type, subject, occurred_at, recorded_at, body, digest, follows)
VALUES (:id, :type, :subject, :occurred_at, :now, :body, :digest, :follows)
ON CONFLICT (id) DO NOTHING
"""

EVENT_BODY: Final = "SELECT body FROM events WHERE id = :id"

WRITE_FLAG: Final = """
INSERT INTO flags (name, text) VALUES (:name, :text)
ON CONFLICT (name) DO UPDATE SET text = excluded.text
"""

LOAD_STATES: Final = """
SELECT job_id, phase, min(since, :now) AS since, status, job,
       sequence, occurrence, is_unrecognised, awaited_fields, overdue_stages
  FROM jobs
 WHERE deployment = :deployment
   AND job_id IN (
        SELECT value FROM json_each(:job_ids)
         UNION ALL
        SELECT job_id FROM jobs WHERE deployment = :deployment AND phase = 'settling'
         UNION ALL
        SELECT job_id FROM jobs
         WHERE deployment = :deployment AND awaited_fields <> '[]'
           AND since > :now - :late_watch
       )
"""

UNFINISHED_IDS: Final = """
SELECT job_id
  FROM jobs
 WHERE deployment = :deployment
   AND phase <> 'done'
   AND NOT (phase = 'missing' AND since <= :now - :missing_for)
"""

ADDED_IDS: Final = "SELECT job_id FROM additions WHERE deployment = :deployment ORDER BY number"

ADD_IDS: Final = """
INSERT INTO additions (deployment, job_id, added_at)
SELECT :deployment, value, :now FROM json_each(:job_ids) WHERE true
ON CONFLICT DO UPDATE SET added_at = excluded.added_at
"""

REMOVE_IDS: Final = """
DELETE FROM additions
 WHERE deployment = :deployment AND job_id IN (SELECT value FROM json_each(:job_ids))
"""

FLAGS: Final = "SELECT name, text FROM flags"

_FAILING_SECONDS: Final = (
    "failing_seconds + iif(:now - last_attempt_at BETWEEN 0.0 AND :max_gap,"
    " :now - last_attempt_at, 0.0)"
)
"""How long a delivery fails: a longer gap between two attempts does not count."""

_HEADS: Final = """
SELECT deliveries.id, sink, created_at, attempts, rejections, is_replay,
       {failing_seconds} AS failing_seconds,
       event_id, type, events.subject, occurred_at, body, digest, follows
  FROM deliveries
  JOIN events ON events.id = event_id
 WHERE sink = :sink
   AND status = 'pending'
   AND is_head
   AND deliveries.subject NOT IN (SELECT value FROM json_each(:busy))
   AND NOT EXISTS (SELECT 1 FROM sinks WHERE name = :sink AND disabled_reason IS NOT NULL)
"""

_READY: Final = _HEADS.format(failing_seconds=_FAILING_SECONDS)

DUE: Final = f"{_READY} AND due <= :now ORDER BY due, deliveries.id LIMIT :limit"

EARLY: Final = f"{_READY} ORDER BY last_attempt_at, deliveries.id LIMIT :limit"
"""Deliveries without an attempt come first: SQLite sorts NULL before every number."""

COUNT_LATE_FAILURE: Final = """
UPDATE deliveries
   SET attempts = attempts + 1, last_attempt_at = :now
 WHERE id = :delivery_id AND status = 'dead' AND :status <> 'delivered'
"""
"""An attempt that failed after its delivery became dead, as does the one that disables a sink."""

_SETTLE: Final = """
UPDATE deliveries
   SET status = :status,
       due = :due,
       attempts = attempts + (:status <> 'delivered'),
       rejections = min(rejections + 1, max(rejections, :rejections)),
       failing_seconds = {failing_seconds},
       reason = coalesce(:reason, reason),
       last_attempt_at = :now,
       ended_at = iif(:status = 'pending', NULL, :now)
 WHERE id = :delivery_id
   AND (status = 'pending' OR :status = 'delivered')
"""

SETTLE: Final = _SETTLE.format(failing_seconds=_FAILING_SECONDS)
"""A delivery that became dead during its attempt stays so, unless the attempt succeeded.

An outcome that is written twice counts as one rejection.
"""

_RECORD_FAILURE: Final = """
UPDATE sinks
   SET failing_seconds = iif(:now - last_failure_at BETWEEN 0.0 AND :max_absence,
                             failing_seconds + iif(:now - last_failure_at <= :max_gap,
                                                   :now - last_failure_at, 0.0), 0.0),
       failing_since = min(coalesce(failing_since, :now), :now),
       last_failure_at = :now,
       last_failure = :reason
 WHERE name = {sink}
"""

RECORD_HANG: Final = _RECORD_FAILURE.format(sink=":sink")

RECORD_SINK_FAULT: Final = _RECORD_FAILURE.format(
    sink="(SELECT sink FROM deliveries WHERE id = :delivery_id)"
)

END_OUTAGE: Final = """
UPDATE sinks
   SET failing_since = NULL, failing_seconds = 0.0, last_failure_at = NULL
 WHERE name = (SELECT sink FROM deliveries WHERE id = :delivery_id) AND failing_since IS NOT NULL
"""

DEAD_LETTER_EXPIRED: Final = """
UPDATE deliveries
   SET status = 'dead', ended_at = :now, reason = :reason || ': ' || coalesce(
        reason, (SELECT last_failure FROM sinks WHERE name = sink), 'never sent')
 WHERE id IN (
        SELECT deliveries.id
          FROM sinks
         CROSS JOIN deliveries ON sink = name AND status = 'pending'
         WHERE name = :sink
           AND sinks.failing_seconds >= :max_age
           AND created_at <= :now - :max_age
           AND (digest_id IS NULL OR digest_id = event_id)
         ORDER BY created_at
         LIMIT :portion
       )
"""
"""Those of a sink that has failed for so long, the oldest first. A digest ends what it is of."""

EXPEDITE: Final = """
UPDATE deliveries SET due = :now
 WHERE id IN (
        SELECT id
          FROM deliveries
         WHERE sink = :sink AND status = 'pending' AND is_head AND due > :now
         LIMIT :portion
       )
"""

DISABLE_SINK: Final = """
INSERT INTO sinks (name, disabled_reason, times_disabled) VALUES (:sink, :reason, 1)
ON CONFLICT (name) DO UPDATE
   SET times_disabled = times_disabled + (disabled_reason IS NULL),
       disabled_reason = excluded.disabled_reason
RETURNING times_disabled
"""

_DEAD_LETTER: Final = """
UPDATE deliveries
   SET status = 'dead', reason = :reason, ended_at = :now
 WHERE id IN (
        SELECT deliveries.id
          FROM sinks
         CROSS JOIN deliveries ON sink = name AND status = 'pending'
"""

DEAD_LETTER_DISABLED: Final = f"""{_DEAD_LETTER}
         WHERE disabled_reason IS NOT NULL
         LIMIT :portion
       )
"""

BACKLOGS: Final = """
SELECT name, pending, dead,
       (SELECT max(due) FROM deliveries WHERE sink = name AND status = 'pending' AND is_head)
       AS last_due,
       (SELECT min(created_at) FROM deliveries
         WHERE sink = name AND status = 'pending' AND digest_at IS NULL) AS oldest_pending_at,
       failing_since,
       coalesce(iif(failing_since, last_failure, NULL), (
           SELECT reason FROM deliveries WHERE sink = name AND status = 'pending' AND is_head
            ORDER BY last_attempt_at DESC LIMIT 1)) AS reason,
       disabled_reason IS NOT NULL AS is_disabled,
       unconfigured_at IS NULL AS is_configured
  FROM sinks
 WHERE is_configured OR pending OR dead
 ORDER BY name
"""

DEAD_LETTER_UNCONFIGURED: Final = f"""{_DEAD_LETTER}
         WHERE unconfigured_at <= :now - :unconfigured_for
         LIMIT :portion
       )
"""

OLD_EVENTS: Final = """
SELECT recorded_at, rowid AS number
  FROM events
 WHERE recorded_at <= :now - :delivered_for
   AND (recorded_at, rowid) > (:recorded_at, :number)
 ORDER BY recorded_at, rowid
 LIMIT :portion
"""

PRUNE_EVENTS: Final = """
DELETE FROM events
 WHERE rowid IN (SELECT value FROM json_each(:numbers))
   AND NOT EXISTS (
        SELECT 1
          FROM deliveries
         WHERE event_id = events.id
           AND (status = 'pending'
                OR ended_at > :now - iif(status = 'dead', :dead_for, :delivered_for))
       )
   AND NOT EXISTS (
        SELECT 1
          FROM deployments
          JOIN jobs USING (deployment)
         WHERE job_id = subject AND awaited_fields <> '[]' AND since > :now - :late_watch
       )
"""
"""The end of a job that job.settled may follow stays: its deliveries say which sinks get that."""

PRUNE_JOBS: Final = """
DELETE FROM jobs
 WHERE rowid IN (
        SELECT rowid
          FROM jobs
         WHERE changed_at <= :now - :jobs_for
           AND job_id NOT IN (SELECT value FROM json_each(:watched))
         LIMIT :portion
       )
"""

PRUNE_SUMS: Final = "DELETE FROM job_sums WHERE jobs = 0"

PRUNE_ADDITIONS: Final = """
DELETE FROM additions
 WHERE added_at <= :now - :added_for
   AND EXISTS (
        SELECT 1
          FROM jobs
         WHERE jobs.deployment = additions.deployment
           AND jobs.job_id = additions.job_id
           AND phase IN ('done', 'missing')
           AND changed_at <= :now - :added_for
       )
"""

COUNT_DEAD: Final = "SELECT coalesce(sum(dead), 0) FROM sinks"

DATABASE_ID: Final = "SELECT database_id FROM identity"

ADD_SINKS: Final = """
INSERT INTO sinks (name) SELECT value FROM json_each(:sinks) WHERE true
ON CONFLICT (name) DO UPDATE SET unconfigured_at = NULL WHERE unconfigured_at IS NOT NULL
"""

MARK_UNCONFIGURED: Final = """
UPDATE sinks SET unconfigured_at = :now
 WHERE unconfigured_at IS NULL AND name NOT IN (SELECT value FROM json_each(:sinks))
"""

ON_OPEN: Final = (ADD_SINKS, MARK_UNCONFIGURED)
