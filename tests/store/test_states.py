"""Every store keeps the states of jobs, marks and its own name."""

import pytest

from poller.core.jobs import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.pacing import COST_WATCH_SECONDS
from poller.core.state import JobState, Phase
from tests.support.builders import FINAL, a_job, a_job_object
from tests.support.store_builders import NOON, AnyStore, Hands, a_state, reopen

SUCCEEDED = a_job("SUCCEEDED", datetime_completed="2024-01-15T10:32:15Z")


async def loaded(store: AnyStore, *job_ids: str) -> list[str]:
    """Read which jobs are loaded when these are asked for."""
    return sorted(state.job_id for state in await store.load_states(job_ids))


@pytest.mark.parametrize(
    "state",
    [
        a_state(phase=Phase.NEW),
        a_state(status=JobStatus.RUNNING, job=a_job("RUNNING"), sequence=1),
        a_state(job=a_job("THAWING"), is_unrecognised=True, sequence=1),
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
    """The last state that was recorded of a job is the one that counts."""
    await store.write(WriteBatch(states=[a_state(sequence=1)]))
    await store.write(WriteBatch(states=[a_state(sequence=2)]))

    assert await store.load_states(["job-1"]) == [a_state(sequence=2)]


async def test_only_what_is_asked_for_is_loaded(store: AnyStore) -> None:
    """A job that nobody asks for stays where it is, and one that is not there is left out."""
    await store.write(WriteBatch(states=[a_state("job-1"), a_state("job-2")]))

    assert await loaded(store, "job-2", "job-3") == ["job-2"]


async def test_unfinished_jobs_are_loaded_unasked(store: AnyStore) -> None:
    """A job that is settling or awaits its cost is loaded unasked; one that is final is not."""
    settling = a_state("job-1", phase=Phase.SETTLING, job=SUCCEEDED)
    awaiting = a_state("job-2", phase=Phase.DONE, job=SUCCEEDED)
    final = a_state("job-3", phase=Phase.DONE, job=a_job("SUCCEEDED", **FINAL))
    await store.write(WriteBatch(states=[settling, awaiting, final]))

    assert await loaded(store) == ["job-1", "job-2"]


async def test_active_jobs_are_named(store: AnyStore) -> None:
    """Every recorded job that has not ended is named; those that nobody has seen are not there."""
    phases = {"job-1": Phase.ACTIVE, "job-2": Phase.SETTLING, "job-3": Phase.MISSING}
    states = [a_state(job_id, phase=phase, job=SUCCEEDED) for job_id, phase in phases.items()]
    done = a_state("job-4", phase=Phase.DONE, job=SUCCEEDED)
    await store.write(WriteBatch(states=[*states, done]))

    assert sorted(await store.unfinished_ids()) == ["job-1", "job-2", "job-3"]


async def test_cost_is_not_awaited_for_ever(store: AnyStore, now: Hands) -> None:
    """A job whose cost has not come within COST_WATCH is loaded only when it is asked for."""
    await store.write(WriteBatch(states=[a_state(phase=Phase.DONE, job=SUCCEEDED)]))
    now.turn(COST_WATCH_SECONDS)

    assert await loaded(store) == []
    assert await loaded(store, "job-1") == ["job-1"]


async def test_since_ahead_becomes_now(store: AnyStore, now: Hands) -> None:
    """A phase that began in the future, by a clock that was wrong, began now."""
    await store.write(WriteBatch(states=[a_state(since=NOON + 500)]))
    now.turn(100)

    (state,) = await store.load_states(["job-1"])

    assert state.since == NOON + 100


async def test_marks_are_kept(store: AnyStore) -> None:
    """Marks survive, each under its name, and the last one counts."""
    await store.write(WriteBatch(flags={"a": "1", "b": "2"}))
    await store.write(WriteBatch(flags={"a": "3"}))
    await reopen(store)

    assert await store.get_flags() == {"a": "3", "b": "2"}


async def test_instance_is_random_and_stays(store: AnyStore) -> None:
    """A store has a name of 16 hexadecimal digits, the same after a restart."""
    name = store.database_id
    await reopen(store)

    assert store.database_id == name
    assert len(bytes.fromhex(name)) == 8
