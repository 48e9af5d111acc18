"""The SQL of lists: with only the conditions that a filter has, each list is read by an index."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from poller.core.outbox import DeliveryStatus

_JOBS: Final = """
SELECT job_id, state, deployment, changed_at, job, changed_at AS cursor_time, job_id AS cursor_key
  FROM jobs
 WHERE changed_at >= :since
   AND (changed_at, job_id) < (:cursor_time, :cursor_key)
"""
_JOB_CONDITIONS: Final = {
    "state": "state = :state",
    "job": "job_id = :job AND deployment IN (SELECT deployment FROM deployments)",
}

_JOBS_IN_STATE: Final = """
SELECT job_id, state, changed_at, iif(json_valid(job), job, NULL) AS job,
       changed_at AS cursor_time, job_id AS cursor_key
  FROM jobs
 WHERE state = '{state}'
   AND (changed_at, job_id) < (:cursor_time, :cursor_key)
   AND (changed_at, job_id) >= (:last_time, :last_key)
"""
_LAST_JOB_IN_STATE: Final = """
SELECT changed_at AS cursor_time, job_id AS cursor_key
  FROM jobs
 WHERE state = '{state}'
   AND (changed_at, job_id) < (:cursor_time, :cursor_key)
"""
_OF_NAME_AND_MODEL: Final = """
   AND json_valid(job)
   AND (instr(lower(json_extract(job, '$.name')), :name) OR instr(lower(job_id), :name))
   AND instr(lower(coalesce(json_extract(job, '$.model'), '')), :model)
"""
_LAST_CHANGED_FIRST: Final = " ORDER BY cursor_time DESC, cursor_key DESC\n"

_EVENTS: Final = """
SELECT id, type, subject AS job_id, occurred_at, recorded_at,
       (SELECT json_group_array(json_object('sink', sink, 'status', status))
          FROM deliveries WHERE event_id = events.id) AS deliveries,
       recorded_at AS cursor_time, rowid AS cursor_key
  FROM events
 WHERE recorded_at >= :since
   AND (recorded_at, rowid) < (:cursor_time, :cursor_key)
   AND (recorded_at, rowid) >= (:last_time, :last_key)
"""
_LAST_EVENT: Final = """
SELECT recorded_at, rowid
  FROM events
 WHERE recorded_at >= :since
   AND (recorded_at, rowid) < (:cursor_time, :cursor_key)
"""
_EVENT_CONDITIONS: Final = {
    "job": "subject = :job",
    "type": "type = :type",
    "sink": "EXISTS (SELECT 1 FROM deliveries WHERE event_id = events.id AND sink = :sink)",
    "state": """EXISTS (
        SELECT 1
          FROM deliveries
         WHERE event_id = events.id AND status = :state AND sink = coalesce(:sink, sink)
       )""",
}
_IN_STATE: Final = """id IN (
        SELECT event_id
          FROM sinks
         CROSS JOIN deliveries ON sink = name AND {status}
         WHERE name = coalesce(:sink, name)
       )"""

_DELIVERIES: Final = """
SELECT event_id, events.type, events.subject AS job_id, sink, status, attempts AS failures,
       iif(status = 'pending', coalesce(digest_at, due), NULL) AS next_attempt_at,
       last_attempt_at, ended_at, reason, deliveries.id AS cursor_key
  FROM {tables}
 WHERE coalesce(ended_at, created_at) >= :since
"""
_DELIVERY_TABLES: Final = {
    "event_ids": """(SELECT value AS named FROM json_each(:event_ids))
 CROSS JOIN events ON events.id = named
 CROSS JOIN deliveries ON event_id = named""",
    "job": "events CROSS JOIN deliveries ON event_id = events.id",
}
_DELIVERY_CONDITIONS: Final = {
    "job": "events.subject = :job",
    "type": "events.type = :type",
    "sink": "sink = :sink",
}
_STATUS: Final = {status.value: f"status = '{status}'" for status in DeliveryStatus}
"""Written out, as the indexes of pending and dead deliveries demand it."""

LATEST_FIRST: Final = "   AND deliveries.id < :cursor_key\n ORDER BY deliveries.id DESC"
OLDEST_FIRST: Final = "   AND deliveries.id > :cursor_key\n ORDER BY deliveries.id"


def jobs(given: Collection[str]) -> str:
    """Return the query of recorded jobs, the last changed first; `given` names the conditions."""
    where = _where(_JOB_CONDITIONS, given)
    return f"{_JOBS}{where} ORDER BY changed_at DESC, job_id DESC\n LIMIT :limit"


def jobs_in(states: Sequence[str], *, is_filtered: bool) -> str:
    """Return the query of jobs in some states, the last changed first.

    The states, which are words of this program, are written out: SQLite merges what the index has
    of each, and reads no more than a page. With `is_filtered`, only those of a name and a model.
    """
    statement = _JOBS_IN_STATE + (_OF_NAME_AND_MODEL if is_filtered else "")
    return f"{_union(statement, states)}{_LAST_CHANGED_FIRST} LIMIT :limit"


def last_job_in(states: Sequence[str]) -> str:
    """Return the query of the last job to read for a page of filtered jobs."""
    return f"{_union(_LAST_JOB_IN_STATE, states)}{_LAST_CHANGED_FIRST} LIMIT 1 OFFSET :read - 1"


def events(given: Collection[str], few: str | None = None) -> str:
    """Return the query of events, the latest first.

    With `few`, a status that only few deliveries have, these are read to find the events.
    """
    if few is None:
        where = _where(_EVENT_CONDITIONS, given)
    else:
        where = _where(_EVENT_CONDITIONS, {*given} - {"sink", "state"})
        where += f"   AND {_IN_STATE.format(status=_STATUS[few])}\n"
    return f"{_EVENTS}{where} ORDER BY recorded_at DESC, rowid DESC\n LIMIT :limit"


def last_event(given: Collection[str]) -> str:
    """Return the query of the last event to read for a page of events."""
    where = _where(_EVENT_CONDITIONS, {"job", "type"} & {*given})
    order = " ORDER BY recorded_at DESC, rowid DESC\n LIMIT 1 OFFSET :read - 1"
    return f"{_LAST_EVENT}{where}{order}"


def deliveries(given: Collection[str], state: str | None, order: str = LATEST_FIRST) -> str:
    """Return the query of deliveries with their events."""
    source = next((name for name in _DELIVERY_TABLES if name in given), None)
    tables = _DELIVERY_TABLES.get(
        source or "", "deliveries CROSS JOIN events ON events.id = event_id"
    )
    where = _where(_DELIVERY_CONDITIONS, given)
    if state is not None:
        where += f"   AND {_STATUS[state]}\n"
    return f"{_DELIVERIES.format(tables=tables)}{where}{order}\n LIMIT :limit"


def _union(statement: str, states: Sequence[str]) -> str:
    return " UNION ALL ".join(statement.format(state=state) for state in states)


def _where(conditions: Mapping[str, str], given: Collection[str]) -> str:
    """Return the conditions that are given. A plus keeps SQLite from another index than a job's."""
    return "".join(
        f"   AND {'+' if 'job' in given and name != 'job' else ''}{text}\n"
        for name, text in conditions.items()
        if name in given
    )
