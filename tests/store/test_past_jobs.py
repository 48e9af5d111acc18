"""How long the newest ended jobs took, read from a database in portions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from poller.core.durations import JobClass
from poller.core.outbox import WriteBatch
from poller.core.state import JobState, Phase
from poller.store import past_jobs
from poller.store.admin import StoreAdmin
from poller.store.past_jobs import EndCursor, read_history
from poller.store.sqlite import SqliteStore
from tests.support.builders import a_job
from tests.support.store_builders import AnyStore, ManualClock, a_state, a_store

ENDED = datetime(2024, 1, 15, 10, tzinfo=UTC)


def an_end(number: int, **fields: object) -> JobState:
    """Return the state of a job that waited for 10 s, ran for its number, and ended in order."""
    ended = ENDED + timedelta(minutes=number)
    started = ended - timedelta(seconds=number)
    times = {
        "datetime_created": started - timedelta(seconds=10),
        "datetime_started": started,
        "datetime_completed": ended,
    }
    job = replace(
        a_job("SUCCEEDED", model="m", num_rows=5, job_priority=1),
        job_id=f"job-{number}",
        **(times | fields),
    )
    return a_state(job.job_id, phase=Phase.DONE, status=job.status, job=job)


async def all_past(store: AnyStore) -> list[list[float]]:
    """Return the run times of each portion."""
    portions, after = [], EndCursor()
    while after is not None:
        found = await store.past_jobs(after)
        portions.append([past.run_seconds for past in found.jobs])
        after = found.after
    return portions


async def test_past_jobs_are_read_in_portions(store: AnyStore, monkeypatch: pytest.MonkeyPatch):
    """The newest ends come first, no more than a portion at once, and each of them once."""
    monkeypatch.setattr(past_jobs, "PORTION_ROWS", 2)
    same = {"datetime_completed": ENDED + timedelta(hours=1)}
    ends = [an_end(number, **same if number < 4 else {}) for number in range(1, 7)]
    await store.write(WriteBatch(states=ends))

    portions = await all_past(store)

    assert [len(portion) for portion in portions] == [2, 2, 2, 0]
    assert len({run for portion in portions for run in portion}) == 6
    assert portions[2] == [5.0, 4.0]


async def test_past_jobs_are_bounded(store: AnyStore, monkeypatch: pytest.MonkeyPatch):
    """No more of the newest ends are read than a history keeps."""
    monkeypatch.setattr(past_jobs, "PORTION_ROWS", 2)
    monkeypatch.setattr(past_jobs, "HISTORY_ENDS", 4)
    await store.write(WriteBatch(states=[an_end(number) for number in range(1, 10)]))

    assert await all_past(store) == [[9.0, 8.0], [7.0, 6.0]]


async def test_past_jobs_have_their_class(store: AnyStore):
    """A job has its model, the size of its rows, its priority, and both of its times."""
    await store.write(WriteBatch(states=[an_end(7)]))

    (past,) = (await store.past_jobs(EndCursor())).jobs

    assert past == ("job-7", JobClass("m", 3, 1), 10.0, 7.0)


async def test_past_jobs_have_ended_and_have_their_times(store: AnyStore):
    """A job that runs is left out, as is one with a time that is missing or cannot be."""
    await store.write(
        WriteBatch(
            states=[
                an_end(1),
                an_end(2, datetime_started=None),
                an_end(3, datetime_started=ENDED + timedelta(days=1)),
                a_state("job-4", status=a_job().status, job=a_job()),
            ]
        )
    )

    assert await all_past(store) == [[1.0]]


async def test_past_jobs_of_another_deployment_are_left_out(path: Path, now: ManualClock):
    """What took long at a simulator says nothing about the API."""
    async with a_store(path, now, deployment="127.0.0.1:1") as other:
        await other.write(WriteBatch(states=[an_end(1)]))
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[an_end(2)]))

        assert await all_past(store) == [[2.0]]


async def test_a_command_reads_the_same_history(
    disk: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A command reads all portions."""
    monkeypatch.setattr(past_jobs, "PORTION_ROWS", 4)
    await disk.write(WriteBatch(states=[an_end(number) for number in range(1, 11)]))

    assert len(read_history(StoreAdmin(path), "api.sutro.sh")) == 10
    assert len(read_history(StoreAdmin(path), "elsewhere")) == 0
