"""The dispatcher writes outcomes in groups, and stops without losing or repeating any."""

import anyio
import pytest

from poller.core.errors import DeliveryError
from poller.delivery.dispatcher import Dispatcher
from tests.integration.test_worker import GONE, counts, fill
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
    """Return a dispatcher with one sink."""
    return Dispatcher(
        {HOOK: sink}, store, origin=ORIGIN, clock=virtual_clock(), random=half, secrets=tuple
    )


async def test_dispatcher_writes_outcomes_in_groups():
    """Outcomes that come quickly share a transaction; a group of 64 is written at once."""
    store, sink = FailingStore(a_store()), TimedSink()
    sink.failure = lambda _: anyio.sleep(0.001)
    await fill(store.store, 640)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    assert len(sink.received) == 640
    assert 10 <= len(store.calls["settle"]) <= 12
    assert store.calls["settle"][0] == pytest.approx(sink.attempted[0][0] + 0.004, abs=0.001)


async def test_dispatcher_writes_a_single_outcome_within_20_ms():
    """A single outcome waits for others for 20 ms at most."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    sent_at = sink.received[0][0]
    assert store.calls["settle"] == [pytest.approx(sent_at + 0.02, abs=0.001)]


async def test_dispatcher_keeps_outcomes_while_the_store_fails():
    """While the store fails no event is sent twice, and outcomes are written afterwards."""
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


async def test_dispatcher_writes_outcomes_again_after_an_unknown_commit():
    """A group that was written but reported as failed is written again without harm."""
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
async def test_dispatcher_continues_after_a_store_failure(verb):
    """A worker that cannot read the store continues within 30 s of its recovery."""
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


async def test_dispatcher_close_begins_no_new_sends():
    """After `close` the sends under way end and are acknowledged; the rest stays pending."""
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


async def test_dispatcher_close_returns_at_once_when_idle():
    """With nothing under way `run` returns at once."""
    dispatcher = a_dispatcher(a_store(), TimedSink())

    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        await settled()
        dispatcher.close()

    assert anyio.current_time() < 0.1


async def test_dispatcher_close_sends_nothing_that_is_still_being_read():
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


async def test_dispatcher_cancel_leaves_sends_under_way_pending():
    """Sends that are cancelled stay pending; those that have ended are still acknowledged."""
    store, sink = a_store(), TimedSink()
    await fill(store, 16)

    async def uneven(delivery):
        await anyio.sleep(0.5 if delivery.id % 2 else 1e6)

    sink.failure = uneven
    with anyio.move_on_after(0.51):
        await a_dispatcher(store, sink).run()

    assert len(sink.received) == 8
    assert await counts(store) == {HOOK: (8, 0)}


async def test_dispatcher_probes_after_the_sends_under_way():
    """An attempt from before the circuit opened neither probes nor closes nor opens it."""
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


async def test_dispatcher_sends_the_next_event_of_a_job_after_the_outcome():
    """The second event of a job is sent as soon as the outcome of the first is written."""
    store, sink = a_store(), TimedSink()
    await fill(store, 2, jobs=1)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    first, second = (at for at, _ in sink.received)
    assert 0.0 < second - first <= 0.05


async def test_dispatcher_reports_every_disabled_sink_with_an_own_event():
    """A sink that is disabled again, or in another database, is reported under another id."""
    well = TimedSink()
    for _ in range(2):
        store, gone = a_store("gone", "well"), TimedSink()
        gone.failure = GONE
        await fill(store)
        async with dispatching(store, gone=gone, well=well):
            await anyio.sleep(10.0)
            list(store.admin().enable_sink("gone") or ())
            await anyio.sleep(10.0)

    event_ids = [event.id for _, event in well.received if event.type == "poller.sink_disabled"]
    assert len(event_ids) == len(set(event_ids)) == 4
