"""Databases with millions of rows, made in seconds: `python -m tests.support.large_database -h`.

The tables are the program's own. The rows look as if it had written them.
"""

import argparse
import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from poller.core.detection_lag import Detection
from poller.core.events import DEFAULT_NAMESPACE, EventOrigin, checksum, event_id, job_event
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.parsing import parse_job
from poller.core.state import EventDraft, JobEventType
from poller.store import schema

DEPLOYMENT: Final = "api.sutro.sh"
FAILED_SHARE: Final = 10
"""One job in so many has failed; the others have succeeded."""

OBSERVED_AT: Final = datetime(2001, 1, 1, 0, 0, 4, tzinfo=UTC)
DETECTION: Final = Detection(
    detected_at=OBSERVED_AT.timestamp(),
    last_seen_at=OBSERVED_AT.timestamp() - 10.0,
    previous_poll_at=datetime(2001, 1, 1, 0, 0, 3, tzinfo=UTC),
)
TIME: Final = "strftime('%Y-%m-%dT%H:%M:%SZ', ended_at - {seconds}, 'unixepoch')"
JOB_ID: Final = "printf('job-%08d', number)"
PLACEHOLDERS: Final = {
    "JOB-ID": JOB_ID,
    "MODEL": "iif(number % 3, 'llama-3.3-70b', 'qwen-3-32b')",
    "0.0625": "printf('%.4f', (number % 9973 + 1) * 0.0001)",
    "2001-01-01T00:00:00Z": TIME.format(seconds=137),
    "2001-01-01T00:00:01Z": TIME.format(seconds=122),
    "2001-01-01T00:00:02Z": TIME.format(seconds=2),
    "2001-01-01T00:00:03Z": TIME.format(seconds=8),
    "2001-01-01T00:00:04Z": TIME.format(seconds=0),
}
"""What differs from row to row, as SQL: the job's ID, model, cost and times."""

NUMBERS: Final = """
WITH RECURSIVE
numbers (number) AS (
    SELECT :begin
     UNION ALL
    SELECT number + 1 FROM numbers WHERE number < min(:begin + :portion, :first + :count) - 1
),
ended (number, ended_at, has_failed) AS (
    SELECT number, :now - :days * 86400.0 * (:first + :count - 1 - number) / :count,
           number % :failed_share = 0
      FROM numbers
)
"""
"""A portion of the jobs with consecutive numbers that ended evenly over some days, until now."""

PORTION: Final = 50_000
"""The rows of one statement: because of the triggers SQLite first writes all of them elsewhere."""

INSERT_JOBS: Final = """
INSERT INTO jobs (deployment, job_id, phase, since, status, job, sequence, occurrence,
                  is_unrecognised, awaited_fields, changed_at)
{numbers}
SELECT :deployment, {job_id}, 'done', ended_at, iif(has_failed, 'FAILED', 'SUCCEEDED'),
       iif(has_failed, {failed}, {succeeded}), 2, 0, 0, '[]', ended_at
  FROM ended
"""
INSERT_EVENTS: Final = """
INSERT INTO events (id, type, subject, occurred_at, recorded_at, body, digest)
SELECT event_id(job_id, type), type, job_id, occurred_at, recorded_at, body, checksum(body)
  FROM (
{numbers}
SELECT {job_id} AS job_id, iif(has_failed, 'job.failed', 'job.succeeded') AS type,
       {occurred_at} AS occurred_at, ended_at AS recorded_at,
       CAST(iif(has_failed, {failed}, {succeeded}) AS BLOB) AS body
  FROM ended
  )
"""
INSERT_DELIVERIES: Final = """
INSERT INTO deliveries (event_id, sink, subject, created_at, due, status, attempts, reason,
                        last_attempt_at, ended_at)
SELECT events.id, sinks.value, subject, recorded_at,
       iif(:status = 'pending' AND has_failed, :now + 3600.0, recorded_at), :status,
       iif(has_failed, 3, 0), iif(has_failed, :reason, NULL),
       iif(:status = 'pending' AND NOT has_failed, NULL, recorded_at),
       iif(:status = 'pending', NULL, recorded_at)
  FROM (
        SELECT *, :status = 'dead'
                  OR (:status = 'pending' AND rowid % :attempted_share = 0) AS has_failed
          FROM events
         WHERE rowid > :before
         ORDER BY rowid
       ) AS events, json_each(:sinks) AS sinks
"""
ATTEMPTED_SHARE: Final = 10
"""One pending delivery in so many was tried, before its sink's circuit breaker opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The number of rows of each kind.

    All jobs have ended, evenly over `job_days`. Each event has one delivery to every sink, in the
    state by which it is counted here, and is at most `days` old.
    """

    jobs: int = 0
    delivered: int = 0
    dead: int = 0
    pending: int = 0
    sinks: Sequence[str] = ("webhook",)
    days: float = 6.0
    job_days: float = 399.0


def make_large_database(
    path: Path,
    contents: Contents,
    *,
    deployment: str = DEPLOYMENT,
    now: float | None = None,
    version: int = len(schema.MIGRATIONS),
) -> None:
    """Create a database with these contents and schema version, as a daemon that was killed."""
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.create_function("event_id", 2, _event_id)
        db.create_function("checksum", 1, checksum)
        db.execute("PRAGMA temp_store = MEMORY")  # tests run in a read-only root too
        for setting in ("journal_mode", "synchronous"):
            db.execute(f"PRAGMA {setting} = OFF").fetchone()
        db.execute("PRAGMA cache_size = -1000000")
        db.executescript(f"{''.join(schema.MIGRATIONS[:version])}; PRAGMA user_version = {version}")
        db.executemany("INSERT INTO sinks (name) VALUES (?)", [(name,) for name in contents.sinks])
        db.execute("BEGIN")
        _fill(db, contents, {"deployment": deployment, "now": time.time() if now is None else now})
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL").fetchone()


def _fill(db: sqlite3.Connection, contents: Contents, values: Mapping[str, object]) -> None:
    values = {"failed_share": FAILED_SHARE, "attempted_share": ATTEMPTED_SHARE, **values}
    if contents.jobs:
        rows = {"first": 1, "count": contents.jobs, "days": contents.job_days}
        _insert(db, _with_texts(INSERT_JOBS, _job_text), {**values, **rows})
    counts = {status: getattr(contents, status) for status in ("delivered", "dead", "pending")}
    first = max(contents.jobs - sum(counts.values()), 0) + 1
    for status, count in counts.items():
        if count:
            _add_events(db, values, first=first, count=count, status=status, contents=contents)
        first += count


def _add_events(
    db: sqlite3.Connection,
    values: Mapping[str, object],
    *,
    first: int,
    count: int,
    status: str,
    contents: Contents,
) -> None:
    """Add the events of so many jobs, and their deliveries."""
    before = db.execute("SELECT coalesce(max(rowid), 0) FROM events").fetchone()[0]
    rows = {"first": first, "count": count, "days": contents.days}
    _insert(db, _with_texts(INSERT_EVENTS, _event_text), {**values, **rows})
    reason = "the receiver returned 400" if status == "dead" else "cannot connect"
    rows = {"status": status, "before": before, "sinks": json.dumps([*contents.sinks])}
    db.execute(INSERT_DELIVERIES, {**values, **rows, "reason": reason})


def _insert(db: sqlite3.Connection, statement: str, values: Mapping[str, Any]) -> None:
    """Insert rows of consecutive jobs, in portions."""
    end = values["first"] + values["count"]
    for begin in range(values["first"], end, PORTION):
        db.execute(statement, {**values, "begin": begin, "portion": PORTION})


def _with_texts(statement: str, text: Callable[[Job], str]) -> str:
    """Return a statement with the texts of a succeeded and of a failed job as SQL."""
    return statement.format(
        numbers=NUMBERS,
        job_id=JOB_ID,
        occurred_at=PLACEHOLDERS["2001-01-01T00:00:02Z"],
        succeeded=_concatenation(text(_job("SUCCEEDED", None))),
        failed=_concatenation(text(_job("FAILED", {"message": "3 rows have no output."}))),
    )


def _job(status: str, reason: Mapping[str, str] | None) -> Job:
    """Return a job with a placeholder for everything that differs between jobs."""
    return parse_job(
        {
            "job_id": "JOB-ID",
            "name": "Nightly labels of support tickets",
            "model": "MODEL",
            "status": status,
            "job_priority": 0,
            "dataset_id": "dataset-78406",
            "num_rows": 500,
            "input_tokens": 199_000,
            "output_tokens": 94_500,
            "job_cost": 0.0625,
            "cost_estimate": 0.5,
            "failure_reason": reason,
            "datetime_created": "2001-01-01T00:00:00Z",
            "datetime_started": "2001-01-01T00:00:01Z",
            "datetime_completed": "2001-01-01T00:00:02Z",
        }
    )


def _job_text(job: Job) -> str:
    return json.dumps(job.as_dict(), ensure_ascii=False)


def _event_text(job: Job) -> str:
    draft = EventDraft(
        type=JobEventType(f"job.{job.status.lower()}"),
        job_id=job.job_id,
        job=job,
        previous_status=JobStatus.RUNNING,
        sequence=2,
    )
    return job_event(
        draft, EventOrigin(deployment=DEPLOYMENT), OBSERVED_AT, DETECTION
    ).body.decode()


def _concatenation(text: str) -> str:
    """Return a text whose placeholders are filled in, as an SQL expression."""
    parts = re.split(f"({'|'.join(map(re.escape, PLACEHOLDERS))})", text)
    return " || ".join(PLACEHOLDERS.get(part) or f"'{part}'" for part in parts)


def _event_id(job_id: str, kind: str) -> str:
    return event_id(DEFAULT_NAMESPACE, job_id, kind)


def main() -> None:
    """Create the database of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.large_database")
    parser.add_argument("path", type=Path, help="the file, which does not exist yet")
    for name in ("jobs", "delivered", "dead", "pending"):
        parser.add_argument(f"--{name}", type=int, default=0, help="number of rows")
    parser.add_argument("--sinks", type=int, default=1, help="number of sinks of each event")
    parser.add_argument(
        "--days", type=float, default=Contents().days, help="age of the first event"
    )
    parser.add_argument("--deployment", default=DEPLOYMENT, help="host and port of the API")
    newest = len(schema.MIGRATIONS)
    parser.add_argument("--version", type=int, default=newest, help="schema version, 4 or later")
    wanted = vars(parser.parse_args())
    path, deployment, version = (wanted.pop(name) for name in ("path", "deployment", "version"))
    others = (f"webhook.n{number}" for number in range(1, wanted.pop("sinks")))
    contents = Contents(sinks=("webhook", *others), **wanted)
    make_large_database(path, contents, deployment=deployment, version=version)


if __name__ == "__main__":
    main()
