"""No row that a database may hold is a traceback of a command."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from poller.cli import exit_codes as codes
from tests.cli.conftest import RunCli
from tests.support.store_builders import HOOK, an_event

JOBS = {
    "never-seen": ("missing", "UNKNOWN", None),
    "unknown-word": ("active", "PAUSED", '{"job_id": "unknown-word", "status": "PAUSED"}'),
    "no-fields": ("done", "SUCCEEDED", "{}"),
    "not-json": ("done", "FAILED", "{"),
    "a-list": ("done", "FAILED", "[]"),
    "a-number": ("active", "RUNNING", "1"),
    "null": ("done", "CANCELLED", "null"),
    "wrong-types": (
        "active",
        "RUNNING",
        """{"job_id": 7, "status": [], "name": {"a": 1}, "model": 3, "job_cost": "free",
        "input_tokens": "many", "datetime_completed": "yesterday", "failure_reason": 1}""",
    ),
    "absurd-values": (
        "done",
        "FAILED",
        """{"job_id": "absurd-values", "status": "FAILED", "name": "a\\u0000\\n\\u001b[31m\\ud800",
        "model": "", "job_cost": 1e300, "input_tokens": 9223372036854775807,
        "datetime_started": "0001-01-01T00:00:00Z", "datetime_completed": "9999-12-31T23:59:59Z",
        "failure_reason": {"message": {"a": []}}}""",
    ),
    "-\u202e\u00a0\u4e2d" * 80: ("missing", "UNKNOWN", None),
}
"""The phase, the status and the job of a row, by the ID of the job."""

EVENTS = {
    "evt_odd": ("job.exploded", "never-seen", "yesterday", b"\xff{"),
    "evt_null": ("job.succeeded", "no-fields", "0001-01-01T00:00:00Z", b"null"),
}

VERBS = (
    "status",
    "jobs ls",
    "jobs ls --state missing",
    *(f"jobs show {job_id}" for job_id in JOBS),
    "events ls",
    *(f"events show {event_id}" for event_id in EVENTS),
    "events replay evt_odd evt_null",
    "dead ls",
    "dead replay --all",
    "dead drop --all",
    "sinks ls",
    f"sinks enable {HOOK}",
    "costs",
    "costs --by name",
    "costs --by day",
)


@pytest.fixture
def odd_rows(path: Path, seed_store) -> None:
    """Fill a database with rows that no daemon of this version writes."""
    seed_store(events=[an_event("1")], disable=HOOK)
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(
            "INSERT INTO jobs (deployment, job_id, phase, since, status, job, sequence, occurrence,"
            " is_unrecognised, awaited_fields, changed_at)"
            " VALUES ('', ?, ?, -1, ?, ?, 0, 0, 0, '[]', 253402300799)",
            [(job_id, *row) for job_id, row in JOBS.items()],
        )
        db.executemany(
            "INSERT INTO events (id, type, subject, occurred_at, recorded_at, body, digest)"
            " VALUES (?, ?, ?, ?, 0.0, ?, x'00')",
            [(event_id, *row) for event_id, row in EVENTS.items()],
        )
        db.executemany(
            "INSERT INTO deliveries (event_id, sink, subject, created_at, due, status, reason)"
            " VALUES (?, ?, '', -1, 0, 'dead', ?)",
            [(event_id, HOOK, "\u202e\n\x1b[31m" * 500) for event_id in EVENTS],
        )


@pytest.mark.parametrize("output", [(), ("-o", "json")], ids=["table", "json"])
def test_odd_rows_are_no_bug(run_cli: RunCli, odd_rows, output: tuple[str, ...]):
    """Whatever its rows hold, each command shows the database or says what it cannot do."""
    ended = {verb: run_cli(*verb.split(), *output) for verb in VERBS}

    assert {
        verb: result.err for verb, result in ended.items() if result.code == codes.CRASHED
    } == {}
    assert ended["jobs ls"].out.count("\n") >= len(JOBS)
