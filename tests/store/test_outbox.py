"""The outbox: one delivery per event and sink, returned in order, settled once."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from poller.core.events import Event
from poller.core.outbox import DeliveryStatus, Outcome, WriteBatch
from poller.core.routing import Route
from poller.store.filters import EventFilter
from tests.support.store_builders import (
    HOOK,
    LOG,
    NOON,
    AnyStore,
    ManualClock,
    a_state,
    an_event,
    dead,
    deferred,
    delivered,
    due,
    event_ids,
    reopen,
)


async def test_event_is_due_at_once_unchanged(store: AnyStore) -> None:
    """A recorded event is due at its sink at once, with all its bytes and fields."""
    moment = datetime(2024, 1, 15, 10, 32, 15, 123456, tzinfo=UTC)
    event = an_event(body=b'{"\xc3\xa4":1}', occurred_at=moment)
    await store.write(WriteBatch(events=[event]))
    await reopen(store)

    (delivery,) = await due(store, NOON)

    assert delivery.event == event
    assert (delivery.sink, delivery.created_at, delivery.attempts) == (HOOK, NOON, 0)
    assert delivery.is_intact
    assert not delivery.is_replay


async def test_routes_select_the_sinks_of_an_event(store: AnyStore) -> None:
    """An event goes to the sinks whose routes have its type, and to no other."""
    await store.write(
        WriteBatch(events=[an_event("1"), an_event("2", "job-2", type="job.started")])
    )

    assert await event_ids(store, NOON, HOOK) == ["evt_1"]
    assert await event_ids(store, NOON, LOG) == ["evt_2"]


NIGHTLY = Route(types=frozenset({"job.succeeded"}), job_name=("nightly *",), min_cost=1.0)


def an_end(number: str, subject: str = "job-1", **job: Any) -> Event:
    """Return the end of a job."""
    body = json.dumps({"data": {"job": {"name": "nightly tags", "job_cost": 2.0} | job}})
    return an_event(number, subject, body=body.encode())


async def test_filters_select_the_sinks_of_an_event(store: AnyStore) -> None:
    """An event goes to the sinks whose filters it passes; one for no sink is recorded as well."""
    store._routes = {HOOK: NIGHTLY, LOG: replace(NIGHTLY, job_name=("!nightly *",))}
    await store.write(
        WriteBatch(
            states=[a_state("job-3")],
            events=[
                an_end("1"),
                an_end("2", "job-2", name="weekly"),
                an_end("3", "job-3", job_cost=0.5),
            ],
        )
    )

    assert await event_ids(store, NOON, HOOK) == ["evt_1"]
    assert await event_ids(store, NOON, LOG) == ["evt_2"]
    recorded = {row["id"]: row["deliveries"] for row in store.admin().events(EventFilter())}
    assert recorded.keys() == {"evt_1", "evt_2", "evt_3"}
    assert recorded["evt_3"] == []
    assert [state.job_id for state in await store.load_states(["job-3"])] == ["job-3"]


async def test_changed_filters_leave_recorded_events_alone(store: AnyStore) -> None:
    """What was recorded stays for its sinks, and goes to no other, when filters change."""
    store._routes = {HOOK: NIGHTLY, LOG: replace(NIGHTLY, min_cost=5.0)}
    await store.write(WriteBatch(events=[an_end("1")]))

    store._routes = {HOOK: replace(NIGHTLY, min_cost=5.0), LOG: NIGHTLY}
    await reopen(store)
    await store.write(WriteBatch(events=[an_end("1")]))

    assert await event_ids(store, NOON, HOOK) == ["evt_1"]
    assert await event_ids(store, NOON, LOG) == []


async def test_late_fields_pass_every_filter_after_the_end(store: AnyStore) -> None:
    """An event with `same_sinks_as` goes where that one went, though its cost is known by then."""
    store._routes = {HOOK: NIGHTLY, LOG: replace(NIGHTLY, job_name=("weekly",))}
    await store.write(WriteBatch(events=[an_end("1", job_cost=None)]))
    late = replace(an_end("2", "job-9", job_cost=0.1), same_sinks_as="evt_1")
    await store.write(WriteBatch(events=[late]))

    assert await event_ids(store, NOON, HOOK) == ["evt_1", "evt_2"]
    assert await event_ids(store, NOON, LOG) == []


async def test_event_with_the_id_of_another_job_is_returned(store: AnyStore) -> None:
    """An event whose id another deployment's job has is returned, and not recorded."""
    before, after = (
        an_event(body=b'{"data":{"job":{"job_id":"job-1"},"deployment":"%s"}}' % host)
        for host in (b"a", b"b")
    )

    assert await store.write(WriteBatch(events=[before])) == []
    assert await store.write(WriteBatch(events=[before])) == []
    assert await store.write(WriteBatch(events=[after, an_event("2")])) == [after]
    assert [delivery.event for delivery in await due(store, NOON)] == [before]


async def test_recorded_event_is_not_recorded_again(store: AnyStore) -> None:
    """An event whose id is recorded already is neither changed nor delivered again."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)
    await store.settle([delivered(delivery)])

    await store.write(WriteBatch(events=[an_event(body=b"{}")]))

    assert await due(store, NOON) == []


async def test_recorded_event_keeps_its_first_body(store: AnyStore) -> None:
    """An event that is built again from a later poll is sent with the bytes of the first."""
    await store.write(WriteBatch(events=[an_event(body=b'{"first":1}')]))
    await store.write(WriteBatch(events=[an_event(body=b'{"later":1}')]))

    (delivery,) = await due(store, NOON)

    assert delivery.event.body == b'{"first":1}'


async def test_same_sinks_as_copies_the_sinks(store: AnyStore) -> None:
    """An event with `same_sinks_as` goes to the sinks of that event, whatever their types."""
    await store.write(WriteBatch(events=[an_event("1")]))
    late = an_event("2", "job-9", type="job.started", same_sinks_as="evt_1")
    await store.write(WriteBatch(events=[late]))

    assert await event_ids(store, NOON, HOOK) == ["evt_1", "evt_2"]
    assert await event_ids(store, NOON, LOG) == []


async def test_same_sinks_as_an_event_without_deliveries(store: AnyStore) -> None:
    """An event with the same sinks as one without deliveries is recorded, and goes to no sink."""
    await store.write(WriteBatch(events=[an_event("2", same_sinks_as="evt_1")]))

    assert await event_ids(store, NOON) == []


async def test_events_of_a_job_are_due_one_at_a_time(store: AnyStore) -> None:
    """The second event of a job is not due before the first has ended."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2"), an_event("3", "job-2")]))
    first, other = await due(store, NOON)
    await store.settle([delivered(first)])

    assert [first.event.id, other.event.id] == ["evt_1", "evt_3"]
    assert await event_ids(store, NOON) == ["evt_2", "evt_3"]


@pytest.mark.parametrize("early", [False, True])
async def test_deferred_event_blocks_the_next_of_its_job(store: AnyStore, early: bool) -> None:
    """While the first event of a job waits for a retry, the second waits too."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    (first,) = await due(store, NOON)
    await store.settle([deferred(first, NOON + 60)])

    assert await event_ids(store, NOON, early=early) == (["evt_1"] if early else [])


async def test_dead_event_does_not_block_the_next_of_its_job(store: AnyStore) -> None:
    """A dead delivery blocks no other."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    (first,) = await due(store, NOON)
    await store.settle([dead(first)])

    assert await event_ids(store, NOON) == ["evt_2"]


async def test_replayed_event_goes_before_later_ones(store: AnyStore) -> None:
    """A dead event that is replayed holds up a later one of its job, which is then due at once."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2")]))
    await store.settle([dead((await due(store, NOON))[0])])
    await store.settle([deferred((await due(store, NOON))[0], NOON + 60)])

    list(store.admin().replay(EventFilter(state="dead")))
    replayed = await due(store, NOON + 60)
    await store.settle([delivered(delivery) for delivery in replayed])

    assert [delivery.event.id for delivery in replayed] == ["evt_1"]
    assert await event_ids(store, NOON) == ["evt_2"]


async def test_one_sink_does_not_block_another(store: AnyStore) -> None:
    """The order of a job's events holds for each sink separately."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", type="job.started")]))

    assert await event_ids(store, NOON, LOG) == ["evt_2"]


async def test_deferred_event_is_due_at_its_time(store: AnyStore) -> None:
    """A deferred delivery is due from its due time on, and its failures are counted."""
    await store.write(WriteBatch(events=[an_event()]))
    await store.settle([deferred((await due(store, NOON))[0], NOON + 60)])
    await reopen(store)

    assert await due(store, NOON + 59.9) == []
    assert [delivery.attempts for delivery in await due(store, NOON + 60)] == [1]


async def test_earliest_due_comes_first(store: AnyStore) -> None:
    """Deliveries are returned in the order of their due times, then of their creation."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in "1234"]))
    first, second, *_ = await due(store, NOON)
    await store.settle([deferred(first, NOON + 9), deferred(second, NOON + 8)])

    assert await event_ids(store, NOON + 9) == ["evt_3", "evt_4", "evt_2", "evt_1"]
    assert await event_ids(store, NOON + 9, limit=2) == ["evt_3", "evt_4"]


async def test_busy_subjects_are_left_out(store: AnyStore) -> None:
    """A job with a delivery in flight has no other due."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))

    assert await event_ids(store, NOON, busy={"job-1", "job-7"}) == ["evt_2"]


async def test_early_returns_the_longest_untried_first(store: AnyStore, now: ManualClock) -> None:
    """Probes take turns: deliveries without an attempt first, then the longest untried."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in "123"]))
    first, second, _ = await due(store, NOON)
    await store.settle([deferred(second, NOON + 50)])
    now.advance(1)
    await store.settle([deferred(first, NOON + 40)])

    assert await event_ids(store, NOON, early=True) == ["evt_3", "evt_2", "evt_1"]
    assert await event_ids(store, NOON, early=True, limit=1, busy={"job-3"}) == ["evt_2"]


@pytest.mark.parametrize("end", [delivered, dead])
async def test_ended_delivery_is_never_due_again(store: AnyStore, end) -> None:
    """A delivered or dead delivery is never due again, with any options."""
    await store.write(WriteBatch(events=[an_event()]))
    await store.settle([end((await due(store, NOON))[0])])
    await store.expedite(HOOK, NOON)
    await reopen(store)

    assert await due(store, NOON + 1e9) == []
    assert await due(store, NOON, early=True) == []


async def test_delivered_stays_delivered(store: AnyStore) -> None:
    """A late outcome does not make a delivered event pending again."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)
    await store.settle([delivered(delivery)])

    await store.settle([deferred(delivery, NOON)])

    assert await due(store, NOON) == []


async def test_outcome_of_an_unknown_delivery_is_ignored(store: AnyStore) -> None:
    """The outcome of an unknown delivery changes nothing."""
    await store.write(WriteBatch(events=[an_event()]))
    (delivery,) = await due(store, NOON)

    await store.settle([Outcome(delivery_id=delivery.id + 1, status=DeliveryStatus.DELIVERED)])

    assert await due(store, NOON) == [delivery]


async def test_expedite_makes_the_backlog_due(store: AnyStore) -> None:
    """When a sink has recovered, all its deferred deliveries are due; other sinks are unchanged."""
    events = [an_event("1"), an_event("2", "job-2"), an_event("3", "job-3", type="job.started")]
    await store.write(WriteBatch(states=[a_state()], events=events))
    for sink in (HOOK, LOG):
        waiting = await due(store, NOON, sink)
        await store.settle([deferred(delivery, NOON + 999) for delivery in waiting])

    await store.expedite(HOOK, NOON + 1)

    assert await event_ids(store, NOON + 1, HOOK) == ["evt_1", "evt_2"]
    assert await event_ids(store, NOON + 1, LOG) == []
