"""Retention: rows are deleted after their time, and not before."""

from pathlib import Path

import pytest

from poller.core.outbox import Pruned, Retention, WriteBatch
from poller.core.state import Phase
from poller.store import kept_events
from tests.support.builders import a_job
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    AnyStore,
    ManualClock,
    a_state,
    a_store,
    an_event,
    dead,
    deferred,
    delivered,
    due,
)

NOTHING = Pruned()


async def is_recorded(store: AnyStore, now: ManualClock) -> bool:
    """Return whether the store has the first event: a recorded event is not delivered again."""
    before = len(await due(store, now()))
    await store.write(WriteBatch(events=[an_event("1")]))
    return len(await due(store, now())) == before


@pytest.mark.parametrize(("end", "days"), [(delivered, 7), (dead, 30)])
async def test_event_is_kept_for_its_retention(
    store: AnyStore, now: ManualClock, end, days: int
) -> None:
    """A delivered event is kept for 7 days after its end, a dead one for 30."""
    await store.write(WriteBatch(events=[an_event("1")]))
    now.advance(DAY)
    await store.settle([end((await due(store, now()))[0])])

    assert await store.prune(now.advance(days * DAY - 1), []) == NOTHING
    assert await is_recorded(store, now)


async def test_end_is_kept_while_fields_are_awaited(path: Path, now: ManualClock) -> None:
    """The end of a job whose fields are awaited stays, so that its sinks get what comes late."""
    settled = an_event("2", type="job.settled", same_sinks_as="evt_1")
    end = a_state(phase=Phase.DONE, job=a_job("SUCCEEDED"), awaited_fields=("job_cost",))
    async with a_store(path, now, retention=Retention(delivered=DAY)) as store:
        await store.write(WriteBatch(states=[end], events=[an_event("1")]))
        await store.settle([delivered((await due(store, now()))[0])])

        assert await store.prune(now.advance(7 * DAY), []) == NOTHING
        await store.write(WriteBatch(events=[settled]))
        assert [delivery.event.id for delivery in await due(store, now())] == ["evt_2"]
        await store.settle([delivered((await due(store, now()))[0])])
        assert await store.prune(now.advance(DAY), []) == Pruned(events=2)


async def test_retention_is_configurable(path: Path, now: ManualClock) -> None:
    """With a shorter retention a delivered event is deleted earlier."""
    async with a_store(path, now, retention=Retention(delivered=DAY)) as store:
        await store.write(WriteBatch(events=[an_event("1")]))
        await store.settle([delivered((await due(store, now()))[0])])

        assert await store.prune(now.advance(DAY), []) == Pruned(events=1)


@pytest.mark.parametrize(("end", "days"), [(delivered, 7), (dead, 30)])
async def test_event_is_pruned_after_its_retention(
    store: AnyStore, now: ManualClock, end, days: int
) -> None:
    """A delivered event is deleted 7 days after its end, a dead one after 30."""
    await store.write(WriteBatch(events=[an_event("1")]))
    now.advance(DAY)
    await store.settle([end((await due(store, now()))[0])])

    pruned = Pruned(events=1, dead_letters=int(end is dead))
    assert await store.prune(now.advance(days * DAY), []) == pruned
    assert not await is_recorded(store, now)


async def test_rows_of_a_clock_in_1970_are_not_old(path: Path, now: ManualClock) -> None:
    """What was recorded before the clock was set counts from the next start."""
    now.now = DAY
    async with a_store(path, now) as store:
        await store.write(WriteBatch(states=[a_state("job-1")], events=[an_event("1")]))
        await store.settle([dead((await due(store, now()))[0])])
    now.now = NOON
    async with a_store(path, now) as store:
        assert await store.prune(now.advance(30 * DAY - 1), []) == NOTHING
        assert await store.prune(now.advance(1), []) == Pruned(events=1, dead_letters=1)
        assert await store.prune(NOON + 400 * DAY, []) == Pruned(jobs=1)


async def test_pending_event_is_never_pruned(store: AnyStore, now: ManualClock) -> None:
    """An event that is pending for a sink is kept, however old it is."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.settle([deferred((await due(store, NOON))[0], NOON)])

    assert await store.prune(now.advance(1000 * DAY), []) == NOTHING
    assert len(await due(store, now())) == 1


async def test_event_is_kept_until_all_sinks_have_it(store: AnyStore, now: ManualClock) -> None:
    """An event that is delivered to one sink but not to another is kept."""
    await store.write(WriteBatch(events=[an_event("1", type="job.failed")]))
    await store.settle([delivered((await due(store, NOON, HOOK))[0])])

    assert await store.prune(now.advance(8 * DAY), []) == NOTHING
    assert len(await due(store, now(), LOG)) == 1


async def test_event_without_deliveries_is_pruned(store: AnyStore, now: ManualClock) -> None:
    """An event without deliveries is kept for 7 days, like one that was delivered."""
    await store.write(WriteBatch(events=[an_event("1", type="job.found")]))

    assert await store.prune(NOON + 7 * DAY - 1, []) == NOTHING
    assert await store.prune(NOON + 7 * DAY, []) == Pruned(events=1)


async def test_old_jobs_are_pruned_unless_watched(store: AnyStore) -> None:
    """A job's row is deleted 400 days after its last change, but never while it is watched."""
    await store.write(WriteBatch(states=[a_state("job-1"), a_state("job-2")]))

    assert await store.prune(NOON + 400 * DAY - 1, []) == NOTHING
    assert await store.prune(NOON + 400 * DAY, ["job-2"]) == Pruned(jobs=1)
    assert [state.job_id for state in await store.load_states(["job-1", "job-2"])] == ["job-2"]


async def test_many_kept_events_are_read_once_a_day(
    store: AnyStore, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many old events that pend are not read each hour: they go on the day after their delivery."""
    monkeypatch.setattr(kept_events, "MANY_EVENTS", 2)
    for name in ("1", "2"):
        await store.write(WriteBatch(events=[an_event(name, name)]))
    found = await due(store, NOON)
    assert await store.prune(now.advance(8 * DAY), []) == NOTHING
    await store.settle([delivered(delivery) for delivery in found])
    await store.write(WriteBatch(events=[an_event("3", "3", type="job.found")]))

    deleted = [await store.prune(now.advance(days * DAY), []) for days in (6.9, 0.2, 0.9)]

    assert deleted == [NOTHING, Pruned(events=1), Pruned(events=2)]
