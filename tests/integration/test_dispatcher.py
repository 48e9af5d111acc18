"""The dispatcher writes outcomes in groups, and stops without losing or repeating any."""

import anyio
import pytest

from poller.core.errors import DeliveryError
from poller.delivery.dispatcher import Dispatcher
from tests.integration.test_lane import GONE, counts, fill
from tests.support.fakes import (
    HOOK,
    ORIGIN,
    FailingStore,
    TimedSink,
    a_store,
    dispatching,
    half,
    settled,
)
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=3_600.0)


def a_dispatcher(store, sink: TimedSink) -> Dispatcher:
    """Make a dispatcher of one sink."""
    return Dispatcher(
        {HOOK: sink}, store, origin=ORIGIN, clock=virtual_clock(), random=half, secrets=tuple
    )


async def test_outcomes_are_written_in_groups():
    """Outcomes that come quickly share a transaction, which 64 of them do not wait for."""
    store, sink = FailingStore(a_store()), TimedSink()
    sink.failure = lambda _: anyio.sleep(0.001)
    await fill(store.store, 640)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    assert len(sink.received) == 640
    assert 10 <= len(store.calls["settle"]) <= 12
    assert store.calls["settle"][0] == pytest.approx(sink.attempted[0][0] + 0.004, abs=0.001)


async def test_an_outcome_is_written_soon():
    """A single outcome waits for others no longer than 20 ms."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    sent_at = sink.received[0][0]
    assert store.calls["settle"] == [pytest.approx(sent_at + 0.02, abs=0.001)]


async def test_outcomes_that_cannot_be_written_are_kept():
    """While the store fails no event is sent twice, and what was sent is written afterwards."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store, 40, jobs=20)
    store.fails = {"settle"}

    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)
        assert len(sink.received) == 20
        store.fails = set()
        await anyio.sleep(30.0)

    assert len(set(sink.ids)) == len(sink.ids) == 40
    assert await counts(store.store) == {HOOK: (0, 0)}


async def test_outcomes_of_unknown_fate_are_written_again():
    """A group that was written, and reported as failed, is written once more without harm."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store, 40, jobs=20)
    store.lies = {"settle"}

    async with dispatching(store, hook=sink):
        await anyio.sleep(5.0)
        store.lies = set()
        await anyio.sleep(30.0)

    assert len(set(sink.ids)) == len(sink.ids) == 40
    assert await counts(store.store) == {HOOK: (0, 0)}


@pytest.mark.parametrize("verb", ["due_deliveries", "expedite"])
async def test_a_lane_survives_a_store_that_fails(verb):
    """A lane that cannot read goes on within 30 s of the store's healing."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store, 20)
    sink.failure = DeliveryError("503")

    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)
        store.fails, sink.failure = {verb}, None
        await anyio.sleep(600.0)
        assert len(sink.received) <= 1
        store.fails = set()
        await anyio.sleep(30.0)

    assert len(set(sink.ids)) == len(sink.ids) == 20


async def test_closing_begins_no_new_sends():
    """After `close` what is under way ends and is acknowledged; the rest stays pending."""
    store, sink = a_store(), TimedSink()
    sink.failure = lambda _: anyio.sleep(3.0)
    await fill(store, 100)
    dispatcher = a_dispatcher(store, sink)

    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        await anyio.sleep(1.0)
        dispatcher.close()
    closed_at = anyio.current_time()

    assert closed_at == pytest.approx(3.0, abs=0.1)
    assert len(sink.received) == len(sink.attempted) == 16
    assert await counts(store) == {HOOK: (84, 0)}


async def test_closing_an_idle_dispatcher_takes_no_time():
    """With nothing under way `run` returns at once."""
    dispatcher = a_dispatcher(a_store(), TimedSink())

    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        await settled()
        dispatcher.close()

    assert anyio.current_time() < 0.1


async def test_closing_while_the_store_is_read_sends_nothing():
    """A delivery that is read while the dispatcher closes is left for the next process."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store, 3)
    dispatcher = a_dispatcher(store, sink)
    read = store.store.due_deliveries

    async def slow_read(*values, **named):
        await anyio.sleep(1.0)
        return await read(*values, **named)

    store.store.due_deliveries = slow_read
    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        await settled()
        dispatcher.close()

    assert sink.attempted == []


async def test_the_deadline_leaves_what_is_under_way_pending():
    """Sends that are cut off stay pending; those that ended are acknowledged all the same."""
    store, sink = a_store(), TimedSink()
    await fill(store, 16)

    async def uneven(delivery):
        await anyio.sleep(0.5 if delivery.id % 2 else 1e6)

    sink.failure = uneven
    with anyio.move_on_after(0.51):
        await a_dispatcher(store, sink).run()

    assert len(sink.received) == 8
    assert await counts(store) == {HOOK: (8, 0)}


async def test_a_probe_waits_for_what_is_under_way():
    """An attempt that began before the breaker opened neither probes nor closes nor opens it."""
    store, sink = a_store(), TimedSink()
    await fill(store, 16)
    now = virtual_clock().steady()
    first = {delivery.id for delivery in await store.due_deliveries(HOOK, now, limit=5)}

    async def uneven(delivery):
        await anyio.sleep(0.0 if delivery.id in first else 20.0)
        raise DeliveryError("503")

    sink.failure = uneven
    async with dispatching(store, hook=sink):
        await anyio.sleep(19.0)
        assert len(sink.attempted) == 16
        await anyio.sleep(2.0)

    assert len(sink.attempted) == 17


async def test_a_claim_ends_with_its_outcome():
    """Of one job's events the second goes as soon as the outcome of the first is written."""
    store, sink = a_store(), TimedSink()
    await fill(store, 2, jobs=1)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    first, second = (at for at, _ in sink.received)
    assert 0.0 < second - first <= 0.05


async def test_every_switching_off_is_an_event_of_its_own():
    """A sink that is switched off again, or in another database, is told of under another id."""
    well = TimedSink()
    for _ in range(2):
        store, gone = a_store("gone", "well"), TimedSink()
        gone.failure = GONE
        await fill(store)
        async with dispatching(store, gone=gone, well=well):
            await anyio.sleep(10.0)
            store.admin().enable_sink("gone")
            await anyio.sleep(10.0)

    told = [event.id for _, event in well.received if event.type == "poller.sink_disabled"]
    assert len(told) == len(set(told)) == 4
