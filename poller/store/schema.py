"""The tables of the SQLite store and their migrations."""

import sqlite3
from typing import Final

from poller.store.schema_v5 import VERSION_5
from poller.store.schema_v6 import VERSION_6
from poller.store.schema_v7 import VERSION_7

VERSION_1: Final = """
CREATE TABLE identity (instance TEXT NOT NULL) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(8))));

CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    deployment      TEXT NOT NULL,
    job_id          TEXT NOT NULL,
    phase           TEXT NOT NULL,
    since           REAL NOT NULL,
    status          TEXT NOT NULL,
    job             TEXT,
    sequence        INTEGER NOT NULL,
    occurrence      INTEGER NOT NULL,
    is_unrecognised INTEGER NOT NULL,
    awaits_cost     INTEGER NOT NULL,
    changed_at      REAL NOT NULL,
    PRIMARY KEY (deployment, job_id)
) STRICT;
CREATE INDEX jobs_settling ON jobs (deployment) WHERE phase = 'settling';
CREATE INDEX jobs_awaiting_cost ON jobs (deployment, since) WHERE awaits_cost;

CREATE TABLE events (
    id          TEXT PRIMARY KEY NOT NULL,
    type        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    occurred_at TEXT NOT NULL,
    recorded_at REAL NOT NULL,
    body        BLOB NOT NULL,
    digest      BLOB NOT NULL,
    follows     TEXT
) STRICT;
CREATE INDEX events_by_age ON events (recorded_at);

CREATE TABLE sinks (
    name            TEXT PRIMARY KEY NOT NULL,
    left_at         REAL,
    disabled_reason TEXT,
    times_disabled  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE deliveries (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id        TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    sink            TEXT NOT NULL REFERENCES sinks (name),
    subject         TEXT NOT NULL,
    created_at      REAL NOT NULL,
    due             REAL NOT NULL,
    fate            TEXT NOT NULL DEFAULT 'pending',
    attempts        INTEGER NOT NULL DEFAULT 0,
    reason          TEXT,
    last_attempt_at REAL,
    ended_at        REAL,
    is_replay       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (event_id, sink),
    CHECK (fate IN ('pending', 'delivered', 'dead'))
) STRICT;
CREATE INDEX deliveries_by_due ON deliveries (sink, due) WHERE fate = 'pending';
CREATE INDEX deliveries_in_line ON deliveries (sink, subject) WHERE fate = 'pending';
CREATE INDEX deliveries_dead ON deliveries (sink) WHERE fate = 'dead';

-- Ids start at a random number: the outcome of an attempt that was in progress when a damaged
-- database was replaced must not be recorded for another delivery in the new one.
INSERT INTO sqlite_sequence (name, seq) VALUES ('deliveries', random() & 0xFFFFFFFFFFFF);

CREATE VIEW heads AS
SELECT *
  FROM deliveries
 WHERE fate = 'pending'
   AND NOT EXISTS (
        SELECT 1
          FROM deliveries AS earlier
         WHERE earlier.sink = deliveries.sink
           AND earlier.subject = deliveries.subject
           AND earlier.fate = 'pending'
           AND earlier.id < deliveries.id
       );
"""

VERSION_2: Final = """
CREATE TABLE additions (
    number     INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    added_at   REAL NOT NULL,
    UNIQUE (deployment, job_id)
) STRICT;
"""

VERSION_3: Final = """
ALTER TABLE deliveries RENAME COLUMN fate TO status;
ALTER TABLE sinks RENAME COLUMN left_at TO unconfigured_at;
ALTER TABLE identity RENAME COLUMN instance TO database_id;
UPDATE marks SET text = replace(text, 'refused', 'rejected') WHERE name = 'auth';
ALTER TABLE marks RENAME TO flags;
"""

# An event that said so promised that the missing fields follow; an older version watched for the
# cost alone.
VERSION_4: Final = """
ALTER TABLE jobs ADD COLUMN awaited_fields TEXT NOT NULL DEFAULT '[]';
UPDATE jobs
   SET awaited_fields = (
        SELECT json_group_array(value)
          FROM json_each(
            '["datetime_completed", "job_cost", "input_tokens", "output_tokens", "failure_reason"]'
          )
         WHERE json_extract(job, '$.' || value) IS NULL
           AND (value <> 'failure_reason' OR status = 'FAILED')
       )
 WHERE phase = 'done'
   AND iif(json_valid(job),
           json_extract(job, '$.job_cost') IS NULL
           OR json_extract(job, '$.datetime_completed') IS NULL,
           0);
DROP INDEX jobs_awaiting_cost;
ALTER TABLE jobs DROP COLUMN awaits_cost;
CREATE INDEX jobs_awaiting_fields ON jobs (deployment, since) WHERE awaited_fields <> '[]';
"""

VERSION_8: Final = """
ALTER TABLE jobs ADD COLUMN overdue_stages TEXT NOT NULL DEFAULT '[]';
"""

MIGRATIONS: Final = (
    *(VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8),
)
"""The script at index n migrates version n to n + 1. A released script never changes."""


def version(db: sqlite3.Connection) -> int:
    """Return the schema version of a database; 0 if it is empty."""
    number: int = db.execute("PRAGMA user_version").fetchone()[0]
    return number


def is_own_database(db: sqlite3.Connection) -> bool:
    """Return whether a database is empty or was made by this program."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return not tables or "identity" in tables


def migrate(db: sqlite3.Connection) -> None:
    """Migrate a database to the newest version, each step in its own transaction."""
    for number, script in enumerate(MIGRATIONS[version(db) :], version(db) + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT")
