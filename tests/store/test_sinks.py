"""Every store switches sinks off and on, and tells their backlog."""

from poller.core.outbox import SinkBacklog, WriteBatch
from tests.support.store_builders import (
    HOOK,
    LOG,
    NOON,
    AnyStore,
    Hands,
    an_event,
    buried,
    delivered,
    due,
    event_ids,
    postponed,
    reopen,
)


async def state_of(store: AnyStore, name: str = HOOK) -> SinkBacklog:
    """Read the backlog of one sink."""
    return next(state for state in await store.backlogs() if state.name == name)


async def test_backlog_is_told(store: AnyStore) -> None:
    """A sink's backlog is what is pending, what is dead, and when the last of it is due."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in "1234"]))
    first, second, third, _ = await due(store, NOON)
    await store.settle([delivered(first), buried(second), postponed(third, NOON + 5)])

    assert await store.backlogs() == [
        SinkBacklog(name=LOG),
        SinkBacklog(name=HOOK, pending=2, dead=1, last_due=NOON + 5, oldest_pending_at=NOON),
    ]


async def test_disabled_sink_gets_nothing(store: AnyStore) -> None:
    """A sink that is switched off has nothing pending; what it had is dead."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    await store.disable_sink(HOOK, "410 Gone")
    await reopen(store)

    assert await due(store, NOON) == []
    assert await state_of(store) == SinkBacklog(name=HOOK, dead=2, is_disabled=True)


async def test_event_for_a_disabled_sink_is_kept_as_dead(store: AnyStore) -> None:
    """What is announced while a sink is off is not lost: it is dead until it is switched on."""
    await store.disable_sink(HOOK, "410 Gone")
    await store.write(WriteBatch(events=[an_event()]))

    assert await state_of(store) == SinkBacklog(name=HOOK, dead=1, is_disabled=True)


async def test_enable_brings_the_sink_and_its_events_back(store: AnyStore, now: Hands) -> None:
    """Switched on again, a sink gets in order all that was buried when it was off."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.disable_sink(HOOK, "410 Gone")
    await store.write(WriteBatch(events=[an_event("2"), an_event("3", "job-2")]))

    now.turn(5)
    store.admin().enable_sink(HOOK)

    assert await event_ids(store, NOON + 5) == ["evt_1", "evt_3"]
    assert await state_of(store) == SinkBacklog(
        name=HOOK, pending=3, last_due=NOON + 5, oldest_pending_at=NOON
    )


async def test_enable_leaves_other_dead_events_dead(store: AnyStore) -> None:
    """What died by its own fault, or at another sink, stays dead."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", type="job.started")]))
    await store.settle([buried((await due(store, NOON))[0])])
    await store.disable_sink(LOG, "why not")
    await store.disable_sink(HOOK, "410 Gone")

    store.admin().enable_sink(HOOK)

    assert await due(store, NOON) == []
    assert await due(store, NOON, LOG) == []


async def test_events_that_came_before_stay_in_front(store: AnyStore) -> None:
    """An event recorded after a sink was switched on waits for the earlier one of its job."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.disable_sink(HOOK, "410 Gone")
    store.admin().enable_sink(HOOK)
    await store.write(WriteBatch(events=[an_event("2")]))

    assert await event_ids(store, NOON) == ["evt_1"]


async def test_delivery_under_way_when_the_sink_is_disabled_counts(store: AnyStore) -> None:
    """An attempt that worked is delivered although its delivery was buried meanwhile."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)
    await store.disable_sink(HOOK, "410 Gone")

    await store.settle([delivered(delivery)])
    store.admin().enable_sink(HOOK)

    assert await state_of(store) == SinkBacklog(name=HOOK)


async def test_failure_under_way_when_the_sink_is_disabled_stays_buried(store: AnyStore) -> None:
    """An attempt that failed leaves its buried delivery to be brought back by `enable`."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))
    first, second = await due(store, NOON)
    await store.disable_sink(HOOK, "410 Gone")

    await store.settle([postponed(first, NOON), buried(second)])

    assert await due(store, NOON) == []
    store.admin().enable_sink(HOOK)
    assert await event_ids(store, NOON) == ["evt_1", "evt_2"]


async def test_disabling_is_counted_once_each_time(store: AnyStore) -> None:
    """Two refusals of one spell are one; the next spell, after a restart too, is another."""
    first = [await store.disable_sink(HOOK, "410 Gone"), await store.disable_sink(HOOK, "410 Gone")]
    await reopen(store)
    store.admin().enable_sink(HOOK)

    assert first == [1, 1]
    assert await store.disable_sink(HOOK, "410 Gone") == 2
