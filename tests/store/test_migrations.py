"""Databases of older versions."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from poller.core.auth_notice import AuthNotice
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.state import Phase
from poller.store import schema, sql
from poller.store.rows import event_row, state_row
from tests.support.builders import FINAL, a_job
from tests.support.store_builders import (
    NOON,
    ManualClock,
    a_state,
    a_store,
    an_event,
    event_ids,
)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
async def test_migration_keeps_everything(path: Path, now: ManualClock, version: int) -> None:
    """A database of an older version is migrated when it is opened, with everything in it."""
    with sqlite3.connect(path) as db:
        db.executescript("".join(schema.MIGRATIONS[:version]))
        db.execute(f"PRAGMA user_version = {version}")
        flags, word = ("flags", "rejected") if version >= 3 else ("marks", "refused")
        db.execute(f"INSERT INTO {flags} VALUES ('born', 'then'), ('auth', '{word} 3')")
        db.execute("INSERT INTO sinks (name) VALUES ('webhook')")
        status = "status" if version >= 3 else "fate"
        for name, ends_as in (("1", "dead"), ("2", "pending"), ("3", "pending")):
            db.execute(sql.WRITE_EVENT, event_row(an_event(name)) | {"now": NOON})
            db.execute(
                "INSERT INTO deliveries (event_id, sink, subject, created_at, due, reason,"
                f" {status}) VALUES (?, 'webhook', 'job-1', ?, ?, 'no', ?)",
                (f"evt_{name}", NOON, NOON, ends_as),
            )
        for job_id, phase in (("job-1", "done"), ("job-2", "done"), ("job-3", "missing")):
            db.execute(
                "INSERT INTO jobs (deployment, job_id, phase, since, status, sequence, occurrence,"
                f" is_unrecognised, {'awaits_cost' if version < 4 else 'awaited_fields'},"
                " changed_at) VALUES ('api.sutro.sh', ?, ?, 0.0, 'SUCCEEDED', 0, 0, 0, ?, 0.0)",
                (job_id, phase, 0 if version < 4 else "[]"),
            )
    db.close()

    async with a_store(path, now) as store:
        await store.add_ids(["job-1"])
        assert await store.added_ids() == ["job-1"]
        flags = await store.get_flags()
        assert flags["born"] == "then"
        assert AuthNotice.parse(flags["auth"]) == AuthNotice(is_rejected=True, occurrence=3)
        assert await event_ids(store, NOON) == ["evt_2"]
        status = store.admin().status()
    assert status.jobs == {"MISSING": 1, "SUCCEEDED": 2}
    assert [(sink["pending"], sink["dead"]) for sink in status.sinks] == [(0, 0), (2, 1)]


SUCCEEDED = a_job("SUCCEEDED", **FINAL)
AWAITED = [
    (SUCCEEDED, []),
    (replace(SUCCEEDED, job_cost=None), ["job_cost"]),
    (replace(SUCCEEDED, job_cost=None, input_tokens=None), ["job_cost", "input_tokens"]),
    (replace(SUCCEEDED, datetime_completed=None), ["datetime_completed"]),
    (replace(SUCCEEDED, input_tokens=None), []),
    (a_job("FAILED", **FINAL), []),
    (a_job("FAILED"), [*FINAL, "failure_reason"]),
    (None, []),
]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(("job", "awaited"), AWAITED, ids=range(len(AWAITED)))
async def test_migration_of_awaited_fields(
    path: Path, now: ManualClock, version: int, job: Job | None, awaited: list[str]
) -> None:
    """An end that an older version announced without cost or completion time is watched on."""
    state = a_state(phase=Phase.DONE, job=job, status=job.status if job else JobStatus.FAILED)
    row = state_row(state) | {"deployment": "api.sutro.sh", "now": NOON}
    columns = [name for name in row if name not in {"awaited_fields", "overdue_stages", "now"}]
    with sqlite3.connect(path) as db:
        db.executescript("".join(schema.MIGRATIONS[:version]))
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(
            f"INSERT INTO jobs ({', '.join(columns)}, awaits_cost, changed_at)"
            f" VALUES (:{', :'.join(columns)}, :awaits_cost, :now)",
            row | {"awaits_cost": bool(job and job.job_cost is None)},
        )
    db.close()

    async with a_store(path, now) as store:
        (loaded,) = await store.load_states(["job-1"])
        assert sorted(loaded.awaited_fields) == sorted(awaited)
        assert replace(loaded, awaited_fields=()) == state
        assert [state.job_id for state in await store.load_states([])] == ["job-1"] * bool(awaited)


@pytest.mark.parametrize(("version", "expected"), [(7, "files"), (8, "memory")])
async def test_migration_sorts_in_files(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch, version: int, expected: str
) -> None:
    """The indexes of an old database are sorted in files beside it, and all else in memory."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("".join(schema.MIGRATIONS[:version]))
        db.execute(f"PRAGMA user_version = {version}")
    places = []

    def place(db: sqlite3.Connection) -> str:
        folder = db.execute("PRAGMA temp_store_directory").fetchone()
        kind = {1: "files", 2: "memory"}[db.execute("PRAGMA temp_store").fetchone()[0]]
        assert (folder and folder[0]) == (str(path.parent) if kind == "files" else None)
        return kind

    def migrate(db: sqlite3.Connection) -> None:
        places.append(place(db))
        real_migrate(db)

    real_migrate = schema.migrate
    monkeypatch.setattr(schema, "migrate", migrate)
    async with a_store(path, now, in_thread=False) as store:
        await store.get_flags()
        connection = store._database._connection
        assert connection is not None
        places.append(place(connection))

    assert places == [expected, "memory"]
