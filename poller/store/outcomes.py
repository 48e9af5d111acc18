"""The outcomes of attempts are recorded, with what they show of their sinks."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from poller.store import sql


def record_outcomes(db: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record outcomes, which are the fields of `Outcome`."""
    db.executemany(sql.COUNT_LATE_FAILURE, rows)
    for row in rows:  # while the delivery of a digest that is dead now is still there
        if row["is_sink_fault"] is not None:
            fails = row["is_sink_fault"]
            db.execute(sql.RECORD_SINK_FAULT if fails else sql.END_OUTAGE, row)
    db.executemany(sql.SETTLE, rows)
