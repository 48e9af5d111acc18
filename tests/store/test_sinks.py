"""Sinks are disabled and enabled, and their backlogs counted."""

import pytest

from poller.core.outbox import SinkBacklog, WriteBatch
from poller.store.filters import EventFilter
from tests.support.store_builders import (
    HOOK,
    LOG,
    NOON,
    AnyStore,
    ManualClock,
    an_event,
    dead,
    deferred,
    delivered,
    due,
    event_ids,
    reopen,
)


async def backlog_of(store: AnyStore, name: str = HOOK) -> SinkBacklog:
    """Return the backlog of one sink."""
    return next(state for state in await store.backlogs() if state.name == name)


async def test_backlog_counts_pending_and_dead(store: AnyStore) -> None:
    """A backlog has the pending and dead deliveries, and when the last pending one is due."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in "1234"]))
    first, second, third, _ = await due(store, NOON)
    await store.settle([delivered(first), dead(second), deferred(third, NOON + 5)])

    assert await store.backlogs() == [
        SinkBacklog(name=LOG),
        SinkBacklog(
            name=HOOK,
            pending=2,
            dead=1,
            last_due=NOON + 5,
            oldest_pending_at=NOON,
            reason="HTTP 503",
        ),
    ]


async def test_disabled_sink_has_nothing_pending(store: AnyStore) -> None:
    """A disabled sink has nothing pending; its deliveries are dead."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    await store.disable_sink(HOOK, "410 Gone")
    await reopen(store)

    assert await due(store, NOON) == []
    assert await backlog_of(store) == SinkBacklog(name=HOOK, dead=2, is_disabled=True)


async def test_disabled_sink_is_announced_at_once(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the portions of a disabled sink's backlog does not lose its announcement."""
    await store.write(WriteBatch(events=[an_event("1")]))

    async def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_change_all", crash)
    with pytest.raises(KeyboardInterrupt):
        await store.disable_sink(
            HOOK, "410 Gone", lambda times: an_event(f"gone_{times}", "x", type="job.started")
        )

    assert await event_ids(store, NOON, LOG) == ["evt_gone_1"]


async def test_event_for_a_disabled_sink_is_dead(store: AnyStore) -> None:
    """An event that is recorded while a sink is disabled is dead until the sink is enabled."""
    await store.disable_sink(HOOK, "410 Gone")
    await store.write(WriteBatch(events=[an_event()]))

    assert await backlog_of(store) == SinkBacklog(name=HOOK, dead=1, is_disabled=True)


async def test_enable_restores_the_events_in_order(store: AnyStore, now: ManualClock) -> None:
    """An enabled sink gets, in order, all deliveries that disabling made dead."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.disable_sink(HOOK, "410 Gone")
    await store.write(WriteBatch(events=[an_event("2"), an_event("3", "job-2")]))

    now.advance(5)
    list(store.admin().enable_sink(HOOK) or ())

    assert await event_ids(store, NOON + 5) == ["evt_1", "evt_3"]
    assert await backlog_of(store) == SinkBacklog(
        name=HOOK, pending=3, last_due=NOON, oldest_pending_at=NOON
    )


async def test_enable_leaves_other_dead_events_dead(store: AnyStore) -> None:
    """Deliveries that failed permanently, or belong to another sink, stay dead."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", type="job.started")]))
    await store.settle([dead((await due(store, NOON))[0])])
    await store.disable_sink(LOG, "why not")
    await store.disable_sink(HOOK, "410 Gone")

    list(store.admin().enable_sink(HOOK) or ())

    assert await due(store, NOON) == []
    assert await due(store, NOON, LOG) == []


async def test_restored_events_stay_in_front(store: AnyStore) -> None:
    """An event recorded after a sink was enabled waits for the earlier one of its job."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.disable_sink(HOOK, "410 Gone")
    list(store.admin().enable_sink(HOOK) or ())
    await store.write(WriteBatch(events=[an_event("2")]))

    assert await event_ids(store, NOON) == ["evt_1"]


async def test_success_in_flight_when_disabled_counts(store: AnyStore) -> None:
    """An attempt that succeeds is recorded, even if its delivery became dead meanwhile."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)
    await store.disable_sink(HOOK, "410 Gone")

    await store.settle([delivered(delivery)])
    list(store.admin().enable_sink(HOOK) or ())

    assert await backlog_of(store) == SinkBacklog(name=HOOK)


async def test_failure_in_flight_when_disabled_stays_dead(store: AnyStore) -> None:
    """A failed attempt leaves its dead delivery for a later `enable` to restore."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))
    first, second = await due(store, NOON)
    await store.disable_sink(HOOK, "410 Gone")

    await store.settle([deferred(first, NOON), dead(second)])

    assert await due(store, NOON) == []
    failures = [row["failures"] for row in store.admin().deliveries(EventFilter(sink=HOOK))]
    assert failures == [1, 1]
    list(store.admin().enable_sink(HOOK) or ())
    assert await event_ids(store, NOON) == ["evt_1", "evt_2"]


async def test_times_disabled_are_counted(store: AnyStore) -> None:
    """A sink that is disabled already is not counted again; after an enable it is."""
    first = [await store.disable_sink(HOOK, "410 Gone"), await store.disable_sink(HOOK, "410 Gone")]
    await reopen(store)
    list(store.admin().enable_sink(HOOK) or ())

    assert first == [1, 1]
    assert await store.disable_sink(HOOK, "410 Gone") == 2


async def test_admin_reads_the_same_data(store: AnyStore) -> None:
    """The operator's queries read the data of a store of either kind."""
    await store.write(WriteBatch(events=[an_event()]))

    rows = store.admin().sinks()

    assert [(row["sink"], row["pending"]) for row in rows] == [(LOG, 0), (HOOK, 1)]
