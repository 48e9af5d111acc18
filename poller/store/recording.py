"""Batches are recorded: their states, and each event with a delivery for each sink that gets it."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from poller.core.events import Event
from poller.core.outbox import WriteBatch
from poller.core.routing import Routes
from poller.store import SINK_DISABLED, sql
from poller.store.digests import DIGEST_AT, RELEASE_JOB
from poller.store.rows import event_row, state_row
from poller.store.stored_costs import announced

ADD_DELIVERY: Final = f"""
INSERT INTO deliveries (
    event_id, sink, subject, created_at, due, digest_at, status, reason, ended_at
)
SELECT :id, name, :subject, :now, :now,
       iif(:is_digested AND digest_window > 0.0, {DIGEST_AT}, NULL),
       iif(disabled_reason IS NULL, 'pending', 'dead'),
       iif(disabled_reason IS NULL, NULL, :reason),
       iif(disabled_reason IS NULL, NULL, :now)
  FROM sinks
 WHERE name = :sink
"""  # noqa: S608 - constants
"""One to a disabled sink is dead."""

SINKS_OF_EVENT: Final = "SELECT sink FROM deliveries WHERE event_id = :follows"


def record_batch(
    db: sqlite3.Connection, batch: WriteBatch, routes: Routes, values: Mapping[str, Any]
) -> list[Event]:
    """Write a batch; return the events whose ids other events have."""
    for state in batch.states:
        db.execute(sql.WRITE_STATE, {**values, **state_row(state)})
    events = (*batch.events, *announced(db, batch, values))
    collisions = [event for event in events if not record(db, event, routes, values)]
    for name, text in batch.flags.items():
        db.execute(sql.WRITE_FLAG, {"name": name, "text": text})
    return collisions


def record(db: sqlite3.Connection, event: Event, routes: Routes, values: Mapping[str, Any]) -> bool:
    """Write an event and its deliveries; return False if another event has its id."""
    row = {**values, **event_row(event), "reason": SINK_DISABLED}
    if not db.execute(sql.WRITE_EVENT, row).rowcount:
        return event.repeats(db.execute(sql.EVENT_BODY, row).fetchone()["body"])
    if event.same_sinks_as:
        sinks = [found["sink"] for found in db.execute(SINKS_OF_EVENT, row)]
    else:
        sinks = [name for name, route in routes.items() if not route.rejection(event)]
    for sink in sinks:
        route = routes.get(sink)  # a sink that is not configured any more has none
        is_digested = route is not None and route.is_digested(event.type)
        values = {**row, "sink": sink, "is_digested": is_digested}
        if route and route.digest and not is_digested:
            db.execute(RELEASE_JOB, values)
        db.execute(ADD_DELIVERY, values)
    return True
