"""Every store forgets what is past its time, and nothing before."""

import pytest

from poller.core.outbox import WriteBatch
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    AnyStore,
    Hands,
    a_state,
    an_event,
    buried,
    delivered,
    due,
    postponed,
)


async def is_known(store: AnyStore, now: Hands) -> bool:
    """Tell whether the store still has the first event: a known one is not delivered anew."""
    before = len(await due(store, now()))
    await store.write(WriteBatch(events=[an_event("1")]))
    return len(await due(store, now())) == before


@pytest.mark.parametrize(("end", "days"), [(delivered, 7), (buried, 30)])
async def test_event_is_kept_for_its_time(store: AnyStore, now: Hands, end, days: int) -> None:
    """A delivered event is kept for 7 days after its end, a dead one for 30."""
    await store.write(WriteBatch(events=[an_event("1")]))
    now.turn(DAY)
    await store.settle([end((await due(store, now()))[0])])

    assert await store.prune(now.turn(days * DAY - 1), []) == 0
    assert await is_known(store, now)


@pytest.mark.parametrize(("end", "days"), [(delivered, 7), (buried, 30)])
async def test_event_is_forgotten_after_its_time(
    store: AnyStore, now: Hands, end, days: int
) -> None:
    """A delivered event goes 7 days after its end, a dead one after 30."""
    await store.write(WriteBatch(events=[an_event("1")]))
    now.turn(DAY)
    await store.settle([end((await due(store, now()))[0])])

    assert await store.prune(now.turn(days * DAY), []) == 1
    assert not await is_known(store, now)


async def test_pending_event_is_never_forgotten(store: AnyStore, now: Hands) -> None:
    """An event that waits for a sink is kept however old it is."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.settle([postponed((await due(store, NOON))[0], NOON)])

    assert await store.prune(now.turn(1000 * DAY), []) == 0
    assert len(await due(store, now())) == 1


async def test_event_is_kept_until_its_last_sink_has_it(store: AnyStore, now: Hands) -> None:
    """An event that one sink has and another does not is kept."""
    await store.write(WriteBatch(events=[an_event("1", type="job.failed")]))
    await store.settle([delivered((await due(store, NOON, HOOK))[0])])

    assert await store.prune(now.turn(8 * DAY), []) == 0
    assert len(await due(store, now(), LOG)) == 1


async def test_event_for_nobody_is_forgotten(store: AnyStore, now: Hands) -> None:
    """An event that no sink takes is kept for 7 days, like one that all have."""
    await store.write(WriteBatch(events=[an_event("1", type="job.found")]))

    assert await store.prune(NOON + 7 * DAY - 1, []) == 0
    assert await store.prune(NOON + 7 * DAY, []) == 1


async def test_old_jobs_go_unless_they_are_watched(store: AnyStore) -> None:
    """A job's row goes 400 days after its last change, and never while it is watched."""
    await store.write(WriteBatch(states=[a_state("job-1"), a_state("job-2")]))

    assert await store.prune(NOON + 400 * DAY - 1, []) == 0
    assert await store.prune(NOON + 400 * DAY, ["job-2"]) == 1
    assert [state.job_id for state in await store.load_states(["job-1", "job-2"])] == ["job-2"]
