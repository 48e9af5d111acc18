"""Every store has one delivery per event and sink, hands them out in order, and settles them."""

from datetime import UTC, datetime

import pytest

from poller.core.outbox import DeliveryStatus, Outcome, WriteBatch
from tests.support.store_builders import (
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
    event_ids,
    postponed,
    reopen,
)


async def test_event_is_due_at_once_as_it_was_frozen(store: AnyStore) -> None:
    """A recorded event is due at its sink at once, with every byte and field that it had."""
    moment = datetime(2024, 1, 15, 10, 32, 15, 123456, tzinfo=UTC)
    event = an_event(body=b'{"\xc3\xa4":1}', occurred_at=moment)
    await store.write(WriteBatch(events=[event]))
    await reopen(store)

    (delivery,) = await due(store, NOON)

    assert delivery.event == event
    assert (delivery.sink, delivery.created_at, delivery.attempts) == (HOOK, NOON, 0)
    assert delivery.is_intact
    assert not delivery.is_replay


async def test_sink_gets_only_the_types_that_it_takes(store: AnyStore) -> None:
    """An event goes to the sinks whose routes name its type, and to no other."""
    await store.write(
        WriteBatch(events=[an_event("1"), an_event("2", "job-2", type="job.started")])
    )

    assert await event_ids(store, NOON, HOOK) == ["evt_1"]
    assert await event_ids(store, NOON, LOG) == ["evt_2"]


async def test_known_event_changes_nothing(store: AnyStore) -> None:
    """An event whose id is there already is neither changed nor delivered again."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)
    await store.settle([delivered(delivery)])

    await store.write(WriteBatch(events=[an_event(body=b"{}")]))

    assert await due(store, NOON) == []


async def test_known_event_keeps_its_first_body(store: AnyStore) -> None:
    """An event that is made again, from a later look, is sent with the bytes it had first."""
    await store.write(WriteBatch(events=[an_event(body=b'{"first":1}')]))
    await store.write(WriteBatch(events=[an_event(body=b'{"later":1}')]))

    (delivery,) = await due(store, NOON)

    assert delivery.event.body == b'{"first":1}'


async def test_following_event_goes_where_the_other_went(store: AnyStore) -> None:
    """An event that follows another goes to that one's sinks, whatever types they take."""
    await store.write(WriteBatch(events=[an_event("1")]))
    late = an_event("2", "job-9", type="job.started", same_sinks_as="evt_1")
    await store.write(WriteBatch(events=[late]))

    assert await event_ids(store, NOON, HOOK) == ["evt_1", "evt_2"]
    assert await event_ids(store, NOON, LOG) == []


async def test_following_event_of_none_goes_nowhere(store: AnyStore) -> None:
    """An event that follows one which nobody got is kept, and goes to nobody."""
    await store.write(WriteBatch(events=[an_event("2", same_sinks_as="evt_1")]))

    assert await event_ids(store, NOON) == []


async def test_events_of_a_job_come_one_after_the_other(store: AnyStore) -> None:
    """The second event of a job is not due before the first has ended."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2"), an_event("3", "job-2")]))
    first, other = await due(store, NOON)
    await store.settle([delivered(first)])

    assert [first.event.id, other.event.id] == ["evt_1", "evt_3"]
    assert await event_ids(store, NOON) == ["evt_2", "evt_3"]


@pytest.mark.parametrize("early", [False, True])
async def test_postponed_event_holds_up_the_next_of_its_job(store: AnyStore, early: bool) -> None:
    """While the first event of a job waits for its next attempt, the second waits too."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    (first,) = await due(store, NOON)
    await store.settle([postponed(first, NOON + 60)])

    assert await event_ids(store, NOON, early=early) == (["evt_1"] if early else [])


async def test_dead_event_lets_the_next_of_its_job_go(store: AnyStore) -> None:
    """A delivery that is dead holds up nothing."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    (first,) = await due(store, NOON)
    await store.settle([buried(first)])

    assert await event_ids(store, NOON) == ["evt_2"]


async def test_one_sink_does_not_hold_up_another(store: AnyStore) -> None:
    """The order of a job's events holds within each sink alone."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", type="job.started")]))

    assert await event_ids(store, NOON, LOG) == ["evt_2"]


async def test_postponed_event_is_due_in_time(store: AnyStore) -> None:
    """A postponed delivery is due from its due time on, and its failures are counted."""
    await store.write(WriteBatch(events=[an_event()]))
    await store.settle([postponed((await due(store, NOON))[0], NOON + 60)])
    await reopen(store)

    assert await due(store, NOON + 59.9) == []
    assert [it.attempts for it in await due(store, NOON + 60)] == [1]


async def test_earliest_due_comes_first(store: AnyStore) -> None:
    """Deliveries come in the order of their due times, and of their making where these agree."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in "1234"]))
    first, second, *_ = await due(store, NOON)
    await store.settle([postponed(first, NOON + 9), postponed(second, NOON + 8)])

    assert await event_ids(store, NOON + 9) == ["evt_3", "evt_4", "evt_2", "evt_1"]
    assert await event_ids(store, NOON + 9, limit=2) == ["evt_3", "evt_4"]


async def test_busy_subjects_are_left_out(store: AnyStore) -> None:
    """Nothing comes of a job that has a delivery under way."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))

    assert await event_ids(store, NOON, busy={"job-1", "job-7"}) == ["evt_2"]


async def test_early_gives_the_one_that_waited_longest(store: AnyStore, now: Hands) -> None:
    """Probes take turns: first what was never attempted, then the longest untouched."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in "123"]))
    first, second, _ = await due(store, NOON)
    await store.settle([postponed(second, NOON + 50)])
    now.turn(1)
    await store.settle([postponed(first, NOON + 40)])

    assert await event_ids(store, NOON, early=True) == ["evt_3", "evt_2", "evt_1"]
    assert await event_ids(store, NOON, early=True, limit=1, busy={"job-3"}) == ["evt_2"]


@pytest.mark.parametrize("end", [delivered, buried])
async def test_ended_delivery_never_comes_again(store: AnyStore, end) -> None:
    """What was delivered or is dead is not due, today or ever, however it is asked for."""
    await store.write(WriteBatch(events=[an_event()]))
    await store.settle([end((await due(store, NOON))[0])])
    await store.expedite(HOOK, NOON)
    await reopen(store)

    assert await due(store, NOON + 1e9) == []
    assert await due(store, NOON, early=True) == []


async def test_delivered_stays_delivered(store: AnyStore) -> None:
    """An outcome that comes late does not make a delivered event pending again."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)
    await store.settle([delivered(delivery)])

    await store.settle([postponed(delivery, NOON)])

    assert await due(store, NOON) == []


async def test_outcome_of_a_stranger_changes_nothing(store: AnyStore) -> None:
    """An outcome for a delivery that is not there is ignored."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)

    await store.settle([Outcome(delivery_id=delivery.id + 1, status=DeliveryStatus.DELIVERED)])

    assert await due(store, NOON) == [delivery]


async def test_hasten_makes_the_backlog_due(store: AnyStore) -> None:
    """When a sink is back, all that was postponed is due; other sinks are not touched."""
    events = [an_event("1"), an_event("2", "job-2"), an_event("3", "job-3", type="job.started")]
    await store.write(WriteBatch(states=[a_state()], events=events))
    for sink in (HOOK, LOG):
        waiting = await due(store, NOON, sink)
        await store.settle([postponed(it, NOON + 999) for it in waiting])

    await store.expedite(HOOK, NOON + 1)

    assert await event_ids(store, NOON + 1, HOOK) == ["evt_1", "evt_2"]
    assert await event_ids(store, NOON + 1, LOG) == []
