"""Digests in the SQLite store: which deliveries wait for one, and which are gathered in one."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from poller.core.routing import Routes
from poller.store import MakeDigest, sql
from poller.store.rows import event_row, read_delivery

DIGEST_EVENTS: Final = 2_000
"""The most events of one digest; those that are left are the next one."""

_WAITING: Final = "status = 'pending' AND digest_at IS NOT NULL AND digest_id IS NULL"

SET_WINDOWS: Final = """
UPDATE sinks SET digest_window = coalesce(:windows ->> ('$."' || name || '"'), 0.0)
"""

RELEASE_ALL: Final = f"""
UPDATE deliveries SET digest_at = NULL, due = :now
 WHERE sink IN (SELECT name FROM sinks WHERE digest_window = 0.0) AND {_WAITING}
"""  # noqa: S608 - constants
"""What waits for a digest of a sink that sends none any more."""

CLAMP: Final = f"""
UPDATE deliveries
   SET digest_at = :now + (SELECT digest_window FROM sinks WHERE name = sink)
 WHERE id IN (
        SELECT id
          FROM sinks
         CROSS JOIN deliveries ON sink = name AND {_WAITING} AND digest_at > :now + digest_window
       )
"""  # noqa: S608 - constants
"""What is due later was written by a wrong clock, or with a longer window."""

ON_OPEN: Final = (SET_WINDOWS, RELEASE_ALL, CLAMP)

RELEASE_JOB: Final = f"""
UPDATE deliveries SET digest_at = NULL, due = :now
 WHERE sink = :sink AND subject = :subject AND {_WAITING}
"""  # noqa: S608 - constants
"""What precedes an urgent event of a job is sent before it, one by one."""

DIGEST_AT: Final = f"""
coalesce((SELECT min(digest_at) FROM deliveries
           WHERE sink = :sink AND {_WAITING} AND digest_at >= :now), :now + digest_window)
"""  # noqa: S608 - constants
"""When the digest is due that an event of now belongs to."""

DUE: Final = f"""
SELECT deliveries.id, sink, deliveries.created_at, attempts, rejections, is_replay,
       deliveries.failing_seconds,
       event_id, type, events.subject, occurred_at, body, digest, follows
  FROM sinks
 CROSS JOIN deliveries ON sink = name
  JOIN events ON events.id = event_id
 WHERE name = :sink AND disabled_reason IS NULL AND {_WAITING} AND digest_at <= :until
   AND NOT EXISTS (
        SELECT 1 FROM deliveries WHERE sink = :sink AND status = 'pending' AND digest_id IS NOT NULL
       )
 ORDER BY digest_at, deliveries.id
 LIMIT :portion
"""  # noqa: S608 - constants
"""None while a digest is pending: nothing is added to what may have been sent."""

RELEASE: Final = "UPDATE deliveries SET digest_at = NULL, due = :now WHERE id = :delivery_id"

JOIN: Final = "UPDATE deliveries SET digest_id = :id WHERE id = :delivery_id"

SEND: Final = """
INSERT INTO deliveries (event_id, digest_id, sink, subject, created_at, due)
VALUES (:id, :id, :sink, :subject, :now, :now)
ON CONFLICT (event_id, sink) DO UPDATE
   SET status = 'pending', created_at = excluded.created_at, due = excluded.due,
       digest_id = excluded.digest_id, attempts = 0, rejections = 0, failing_seconds = 0.0,
       reason = NULL, last_attempt_at = NULL, ended_at = NULL
"""
"""The same events have the same digest, which may have been delivered before they are replayed."""


def windows(routes: Routes) -> str:
    """Return the seconds of each sink that SET_WINDOWS reads."""
    return json.dumps({name: route.digest for name, route in routes.items()})


def gather(
    db: sqlite3.Connection, values: Mapping[str, Any], make: MakeDigest, *, until: float
) -> bool:
    """Write the digest of a sink of what is due by `until`; return whether anything was due.

    An event that is alone, or whose body is damaged, is sent by itself.
    """
    found = db.execute(DUE, {**values, "until": until, "portion": DIGEST_EVENTS})
    due = [read_delivery(row) for row in found]
    gathered = [delivery for delivery in due if delivery.is_intact]
    if len(gathered) == 1:
        gathered = []
    alone = {delivery.id for delivery in due} - {delivery.id for delivery in gathered}
    db.executemany(RELEASE, [{**values, "delivery_id": number} for number in alone])
    if gathered:
        row = {**values, **event_row(make([delivery.event for delivery in gathered]))}
        db.execute(sql.WRITE_EVENT, row)
        db.executemany(JOIN, [{**row, "delivery_id": delivery.id} for delivery in gathered])
        db.execute(SEND, row)
    return bool(due)
