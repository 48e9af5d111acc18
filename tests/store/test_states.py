"""The states of jobs, the flags and the id of the database."""

import pytest

from poller.core.durations import Stage
from poller.core.job_status import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.pacing import LATE_WATCH_SECONDS, MISSING_SECONDS
from poller.core.state import JobState, Phase
from tests.support.builders import FINAL, a_job, a_job_object
from tests.support.store_builders import NOON, AnyStore, ManualClock, a_state, reopen

SUCCEEDED = a_job("SUCCEEDED", datetime_completed="2024-01-15T10:32:15Z")


async def loaded(store: AnyStore, *job_ids: str) -> list[str]:
    """Return the ids of the jobs that are loaded for these ids."""
    return sorted(state.job_id for state in await store.load_states(job_ids))


@pytest.mark.parametrize(
    "state",
    [
        a_state(phase=Phase.NEW),
        a_state(status=JobStatus.RUNNING, job=a_job("RUNNING"), sequence=1),
        a_state(job=a_job("THAWING"), is_unrecognised=True, sequence=1),
        a_state(status=JobStatus.RUNNING, overdue_stages=(Stage.QUEUED, Stage.RUNNING)),
        a_state(phase=Phase.MISSING, occurrence=2, sequence=4),
        a_state(
            phase=Phase.DONE, status=JobStatus.FAILED, job=a_job(**a_job_object(status="error"))
        ),
        a_state(
            job=a_job(name="Ärger 🎈", failure_reason={"message": "a", "more": [1, {"b": None}]})
        ),
    ],
    ids=lambda state: state.phase,
)
async def test_state_is_read_as_written(store: AnyStore, state: JobState) -> None:
    """A recorded state is the same after a restart."""
    await store.write(WriteBatch(states=[state]))
    await reopen(store)

    assert await store.load_states([state.job_id]) == [state]


async def test_later_state_replaces_an_earlier_one(store: AnyStore) -> None:
    """The last recorded state of a job counts."""
    await store.write(WriteBatch(states=[a_state(sequence=1)]))
    await store.write(WriteBatch(states=[a_state(sequence=2)]))

    assert await store.load_states(["job-1"]) == [a_state(sequence=2)]


async def test_load_states_returns_requested_jobs_only(store: AnyStore) -> None:
    """A job that is not requested is not loaded, and one without a record is left out."""
    await store.write(WriteBatch(states=[a_state("job-1"), a_state("job-2")]))

    assert await loaded(store, "job-2", "job-3") == ["job-2"]


async def test_load_states_adds_unfinished_jobs(store: AnyStore) -> None:
    """A job that is settling or awaits fields is loaded without a request; others are not."""
    settling = a_state("job-1", phase=Phase.SETTLING, job=SUCCEEDED)
    awaiting = a_state("job-2", phase=Phase.DONE, job=SUCCEEDED, awaited_fields=("job_cost",))
    final = a_state("job-3", phase=Phase.DONE, job=a_job("SUCCEEDED", **FINAL))
    await store.write(WriteBatch(states=[settling, awaiting, final]))

    assert await loaded(store) == ["job-1", "job-2"]


async def test_unfinished_ids(store: AnyStore) -> None:
    """Every recorded job that is not done is returned."""
    phases = {"job-1": Phase.ACTIVE, "job-2": Phase.SETTLING, "job-3": Phase.MISSING}
    states = [a_state(job_id, phase=phase, job=SUCCEEDED) for job_id, phase in phases.items()]
    done = a_state("job-4", phase=Phase.DONE, job=SUCCEEDED, awaited_fields=("job_cost",))
    await store.write(WriteBatch(states=[*states, done]))

    assert sorted(await store.unfinished_ids()) == ["job-1", "job-2", "job-3"]


async def test_unfinished_ids_leaves_out_a_job_that_was_given_up(
    store: AnyStore, now: ManualClock
) -> None:
    """A job that has been missing for a week is polled only if somebody names it."""
    await store.write(WriteBatch(states=[a_state("job-1", phase=Phase.MISSING)]))
    now.advance(MISSING_SECONDS - 1.0)
    before = await store.unfinished_ids()
    now.advance(1.0)

    assert (before, await store.unfinished_ids()) == (["job-1"], [])


async def test_load_states_stops_awaiting_fields(store: AnyStore, now: ManualClock) -> None:
    """A job whose missing fields are overdue is loaded only when it is requested."""
    await store.write(
        WriteBatch(states=[a_state(phase=Phase.DONE, job=SUCCEEDED, awaited_fields=("job_cost",))])
    )
    now.advance(LATE_WATCH_SECONDS)

    assert await loaded(store) == []
    assert await loaded(store, "job-1") == ["job-1"]


async def test_since_in_the_future_becomes_now(store: AnyStore, now: ManualClock) -> None:
    """A phase that started in the future, by a wrong clock, started now."""
    await store.write(WriteBatch(states=[a_state(since=NOON + 500)]))
    now.advance(100)

    (state,) = await store.load_states(["job-1"])

    assert state.since == NOON + 100


async def test_flags_are_kept(store: AnyStore) -> None:
    """Flags survive a restart, each under its name, and the last text counts."""
    await store.write(WriteBatch(flags={"a": "1", "b": "2"}))
    await store.write(WriteBatch(flags={"a": "3"}))
    await reopen(store)

    assert await store.get_flags() == {"a": "3", "b": "2"}


async def test_database_id_is_random_and_stays(store: AnyStore) -> None:
    """A database has an id of 16 hexadecimal digits, the same after a restart."""
    name = store.database_id
    await reopen(store)

    assert store.database_id == name
    assert len(bytes.fromhex(name)) == 8
