"""The figures of the charts, of small databases, damaged ones and large ones."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from poller.core.events import Event
from poller.core.job_status import JobStatus
from poller.core.outbox import DAY, WriteBatch
from poller.core.state import JobState, Phase
from poller.store import figures as figures_module
from poller.store.admin import StoreAdmin
from poller.store.figures import DAYS, LAGS, Figures, read_figures
from poller.store.sqlite import SqliteStore
from tests.support.builders import a_job
from tests.support.large_database import Contents, make_large_database
from tests.support.store_builders import NOON, ManualClock, a_state, an_event

TODAY: Final = date(2024, 1, 15)


def an_end(job_id: str, ended_at: datetime, status: str = "SUCCEEDED", **fields: Any) -> JobState:
    """Return the state of a job that ran for a minute and a half."""
    times = {"datetime_started": ended_at - timedelta(seconds=90), "datetime_completed": ended_at}
    job = replace(a_job(status), job_id=job_id, **(times | fields))
    return a_state(job_id, phase=Phase.DONE, status=job.status, job=job)


def a_detection(name: str, kind: str, lag: float | None) -> Event:
    """Return the event of an end that was detected with this lag."""
    body = json.dumps({"data": {"detection": {"lag_seconds": lag}}}).encode()
    return an_event(name, type=kind, body=body)


async def write(store: SqliteStore, *states: JobState) -> None:
    """Write states."""
    await store.write(WriteBatch(states=states))


def figures_of(path: Path, now: float = NOON) -> Figures:
    """Return the figures of a database."""
    return read_figures(StoreAdmin(path), now)


async def test_figures_of_an_empty_database(disk: SqliteStore, path: Path) -> None:
    """Without ended jobs there are 30 days of no ends, and nothing else."""
    await write(disk, a_state(status=JobStatus.RUNNING, job=a_job()))

    found = figures_of(path)

    assert (found.days[0], found.days[-1], len(found.days)) == (date(2023, 12, 17), TODAY, DAYS)
    assert found.ends == dict.fromkeys(("CANCELLED", "FAILED", "SUCCEEDED"), [0] * DAYS)
    assert not found.has_ends
    assert not [*found.costs, *found.run_times, *found.lags]
    assert found.unknown_costs == 0


async def test_ends_count_on_their_day(disk: SqliteStore, path: Path, now: ManualClock) -> None:
    """An end counts by its status on the day of UTC that recorded it; before 30 days on none."""
    ended_at = datetime(2024, 1, 1, tzinfo=UTC)
    for number, (age, status) in enumerate(
        [(30, "FAILED"), (29, "FAILED"), (1, "FAILED"), (0, "SUCCEEDED"), (0, "CANCELLED")]
    ):
        now.now = NOON - age * DAY
        await write(disk, an_end(f"job-{number}", ended_at, status))

    found = figures_of(path)

    assert found.has_ends
    assert found.ends["FAILED"] == [1, *[0] * 27, 1, 0]
    assert found.ends["SUCCEEDED"] == found.ends["CANCELLED"] == [*[0] * 29, 1]


async def test_costs_are_those_of_each_day_and_model(disk: SqliteStore, path: Path) -> None:
    """Costs are summed by model and the day of the end; unknown ones are counted apart."""
    noon = datetime.fromtimestamp(NOON, UTC)
    await write(
        disk,
        an_end("job-1", noon, model="m", job_cost=0.5),
        an_end("job-2", noon, model="m", job_cost=0.25),
        an_end("job-3", noon - timedelta(days=1), job_cost=1e-9),
        an_end("job-4", noon, model="unknown", job_cost=None),
        an_end("job-5", noon + timedelta(days=1), model="tomorrow", job_cost=1.0),
        an_end("job-6", noon - timedelta(days=30), model="before", job_cost=1.0),
    )

    found = figures_of(path)

    assert found.costs == {"m": [*[0] * 29, 0.75], "": [*[0] * 28, 1e-9, 0]}
    assert found.unknown_costs == 1


async def test_run_times_are_those_of_newest_jobs(
    disk: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each model has the run times of its newest jobs, without the unknown and impossible ones."""
    monkeypatch.setattr(figures_module, "JOBS_PER_MODEL", 2)
    noon = datetime.fromtimestamp(NOON, UTC)
    ages = enumerate([86_400.25, 0.001, 0.0])
    await write(
        disk,
        *(
            an_end(f"job-{n}", noon, model="m", datetime_started=noon - timedelta(seconds=age))
            for n, age in ages
        ),
        an_end("old", noon - timedelta(days=2), model="m"),
        an_end("no-start", noon, model="n", datetime_started=None),
        an_end("backwards", noon, model="o", datetime_started=noon + timedelta(seconds=1)),
        an_end("no-model", noon - timedelta(days=1)),
    )

    found = figures_of(path)

    assert {model: len(times) for model, times in found.run_times.items()} == {"m": 2, "": 1}
    assert set(found.run_times["m"]) < {86_400.25, 0.001, 0.0}
    assert found.run_times[""] == [90.0]


async def test_lags_are_those_of_ends(disk: SqliteStore, path: Path, now: ManualClock) -> None:
    """The lags of all kinds of ends are read, but those that are unknown."""
    lags = [("job.succeeded", 2.5), ("job.failed", 0), ("job.cancelled", 9.0), ("job.failed", None)]
    events = [a_detection(str(n), kind, lag) for n, (kind, lag) in enumerate(lags)]
    await disk.write(WriteBatch(events=[*events, a_detection("start", "job.started", 7.0)]))

    assert sorted(figures_of(path).lags) == [0, 2.5, 9.0]


async def test_newest_lags_are_read(
    disk: SqliteStore, path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more ends than are read, the last recorded ones of any kind count."""
    monkeypatch.setattr(figures_module, "LAGS", 2)
    for lag, kind in enumerate(["job.failed", "job.succeeded", "job.succeeded", "job.cancelled"]):
        now.advance(1.0)
        await disk.write(WriteBatch(events=[a_detection(str(lag), kind, lag)]))

    assert sorted(figures_of(path).lags) == [2, 3]


async def test_damaged_rows_are_left_out(disk: SqliteStore, path: Path) -> None:
    """Rows with any contents neither raise an error nor hide the others."""
    noon = datetime.fromtimestamp(NOON, UTC)
    await write(disk, *(an_end(f"job-{n}", noon, model="m", job_cost=1.0) for n in range(4)))
    kinds = ["job.failed"] * 4
    await disk.write(WriteBatch(events=[a_detection(str(n), k, 1.0) for n, k in enumerate(kinds)]))
    jobs = ["{", '{"model": "\\ud800", "datetime_completed": "soon"}', "[]"]
    bodies = [b"\xff\x00", b'{"data": {"detection": {"lag_seconds": "\\ud800"}}}', b"[]"]
    with closing(sqlite3.connect(path)) as db, db:
        for number, (job, body) in enumerate(zip(jobs, bodies, strict=True)):
            db.execute("UPDATE jobs SET job = ? WHERE job_id = ?", (job, f"job-{number}"))
            db.execute("UPDATE events SET body = ? WHERE id = ?", (body, f"evt_{number}"))

    found = figures_of(path)

    assert found.costs == {"m": [*[0] * 29, 1.0]}
    assert found.run_times == {"m": [90.0]}
    assert 1.0 in found.lags


def test_large_database_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many jobs the newest have their run times and lags read, and all ends are counted."""
    monkeypatch.setattr(figures_module, "READ_JOBS", 30)
    path, now = tmp_path / "large.db", NOON + 0.5 * DAY - 1.0
    jobs = 2 * LAGS
    make_large_database(path, Contents(jobs=jobs, delivered=jobs, job_days=29.0), now=now)

    found = figures_of(path, now)

    assert sum(map(sum, found.ends.values())) == jobs
    assert found.run_times == {"llama-3.3-70b": [120.0] * 20, "qwen-3-32b": [120.0] * 10}
    assert found.lags == [2.0] * LAGS
