"""A worker delivers what is due, in order for each job, whatever its sink does."""

import asyncio
import itertools

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import DeliveryError
from poller.core.outbox import WriteBatch
from poller.sinks import MAX_CONCURRENCY
from poller.store import Store
from tests.support.fakes import FailingStore, TimedSink, a_store, dispatching, settled
from tests.support.store_builders import an_event

pytestmark = pytest.mark.virtual(limit=90_000.0)
DOWN = DeliveryError("the receiver returned 503")
REJECTED = DeliveryError("the receiver returned 400", is_sink_fault=False)
GONE = DeliveryError("the receiver returned 410", is_sink_fault=False, is_gone=True)


async def fill(store: Store, events: int = 1, *, jobs: int | None = None) -> None:
    """Record events of several jobs in turn."""
    jobs = jobs or events
    batch = [an_event(str(number), f"job-{number % jobs}") for number in range(events)]
    await store.write(WriteBatch(events=batch))


def waits(sink: TimedSink) -> list[float]:
    """Return the waits between the attempts at a sink, in whole seconds."""
    times = [at for at, _ in sink.attempted]
    return [round(b - a) for a, b in itertools.pairwise(times)]


async def counts(store: Store) -> dict[str, tuple[int, int]]:
    """Return how many deliveries are pending and dead, by sink."""
    return {sink.name: (sink.pending, sink.dead) for sink in await store.backlogs()}


async def test_worker_delivers_every_event_once():
    """A thousand events are delivered once each, and none stays pending."""
    store, sink = a_store(), TimedSink()
    await fill(store, 1_000)

    async with dispatching(store, hook=sink):
        await anyio.sleep(5.0)

    assert sorted(sink.ids) == sorted({f"evt_{number}" for number in range(1_000)})
    assert await counts(store) == {"hook": (0, 0)}


async def test_worker_sends_at_a_wake_up():
    """An event that is recorded later is sent at the wake-up, not at the next store poll."""
    store, sink = a_store(), TimedSink()

    async with dispatching(store, hook=sink) as dispatcher:
        await anyio.sleep(1.0)
        await fill(store)
        dispatcher.wake()
        await settled()

        assert sink.ids == ["evt_0"]


async def test_worker_polls_the_store():
    """Without a wake-up a worker reads the store every five seconds."""
    store, sink = a_store(), TimedSink()

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)
        await fill(store)
        await anyio.sleep(5.0)

        assert sink.ids == ["evt_0"]


async def test_worker_delivers_events_of_a_job_in_order():
    """While one event of a job fails, the later ones wait; those of other jobs do not."""
    store, sink = a_store(), TimedSink()
    await fill(store, 30, jobs=3)

    async def fail_first(delivery):
        if delivery.event.id == "evt_0" and delivery.attempts < 2:
            raise DOWN

    sink.failure = fail_first
    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)
        assert {event.subject for _, event in sink.received} == {"job-1", "job-2"}
        await anyio.sleep(100.0)

    for job in range(3):
        ids = [event.id for _, event in sink.received if event.subject == f"job-{job}"]
        assert ids == [f"evt_{number}" for number in range(job, 30, 3)]


async def test_worker_sends_one_event_of_a_job_at_a_time():
    """The next event of a job waits until the outcome of the one before it is written."""
    store, sink = a_store(), TimedSink()
    await fill(store, 40, jobs=4)
    sending: set[str] = set()

    async def slow(delivery):
        assert delivery.event.subject not in sending
        sending.add(delivery.event.subject)
        await anyio.sleep(3.0)
        sending.remove(delivery.event.subject)

    sink.failure = slow
    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)

    assert len(sink.received) == 40


async def test_worker_that_hangs_delays_no_other_sink():
    """While one sink hangs, the others get their events at once."""
    store, hanging, well = a_store("hanging", "well"), TimedSink(), TimedSink()
    hanging.failure = lambda _: anyio.sleep_forever()
    await fill(store, 100)

    async with dispatching(store, hanging=hanging, well=well):
        await anyio.sleep(1.0)

    assert len(well.received) == 100


async def test_worker_cancels_a_send_after_90_seconds():
    """A sink has at most 90 seconds for one event, whatever its own timeout is."""
    store, sink = a_store(), TimedSink()
    sink.failure = lambda _: anyio.sleep_forever()
    await fill(store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(200.0)

    assert waits(sink) == [95]


@pytest.mark.parametrize(
    "trouble",
    [
        ValueError("x"),
        ExceptionGroup("x", [OSError()]),
        StopAsyncIteration(),
        SystemExit(1),
        asyncio.CancelledError(),
    ],
)
async def test_worker_contains_any_exception_of_a_sink(trouble):
    """A bug in a sink is a failed attempt of that sink alone, with its traceback in the log."""
    store, odd, well = a_store("odd", "well"), TimedSink(), TimedSink()
    odd.failure = trouble
    await fill(store)

    with capture_logs() as lines:
        async with dispatching(store, odd=odd, well=well):
            await anyio.sleep(1.0)
            odd.failure = None
            await anyio.sleep(10.0)

    assert (odd.ids, well.ids) == (["evt_0"], ["evt_0"])
    assert "sink.crashed" in [line["event"] for line in lines]


async def test_worker_with_a_sink_that_hangs_rests_it_alone():
    """A sink whose calls never end gets no further ones, stalls nothing, and delays no stop."""
    store, hung, well = a_store("hung", "well"), TimedSink(), TimedSink()

    async def hang(_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    hung.failure = hang
    await fill(store, 40)

    async with dispatching(store, hung=hung, well=well) as dispatcher:
        await anyio.sleep(3_600.0)
        assert (len(hung.attempts), len(well.ids)) == (MAX_CONCURRENCY, 40)
        assert not dispatcher.heartbeats.stalled


async def test_worker_probes_a_sink_beside_a_call_that_hangs():
    """One call that never ends does not hide that an outage of its sink is over."""
    store, sink = a_store(), TimedSink()
    await fill(store, 10)

    async def hang_or_fail(delivery):
        if delivery.event.id == "evt_0":
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        raise DOWN

    sink.failure = hang_or_fail
    async with dispatching(store, hook=sink):
        await anyio.sleep(600.0)
        sink.failure = None
        await anyio.sleep(400.0)

    assert sorted(sink.ids) == [f"evt_{number}" for number in range(1, 10)]


async def test_worker_never_sends_a_damaged_body():
    """An event whose stored bytes changed becomes a dead letter; the next of its job is sent."""
    store, sink = a_store(), TimedSink()
    await fill(store, 2, jobs=1)
    damage = "UPDATE events SET digest = x'00' WHERE id = 'evt_0'"
    store.transact(lambda db: db.execute(damage))

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(1.0)

    assert sink.ids == ["evt_1"]
    assert await counts(store) == {"hook": (0, 1)}
    dead = [line for line in lines if line["event"] == "delivery.dead_lettered"]
    assert [line["event_id"] for line in dead] == ["evt_0"]
    assert dead[0]["advice"] == "sutro-poller dead-letters ls, then replay or drop"


async def test_worker_does_not_retry_a_permanent_error():
    """An event with a permanent error becomes a dead letter at once."""
    store, sink = a_store(), TimedSink()
    sink.failure = DeliveryError("too large", is_permanent=True)
    await fill(store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1_000.0)

    assert len(sink.attempted) == 1
    assert await counts(store) == {"hook": (0, 1)}


async def test_worker_retries_with_growing_delays():
    """A failed event is retried after 5 s, 30 s, 2, 5, 15 min, 1, 2, 4 h, jittered upward."""
    store, sink = a_store(), TimedSink()
    sink.failure = REJECTED
    await fill(store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(30_000.0)

    ladder = [5, 30, 120, 300, 900, 3_600, 7_200, 14_400]
    assert waits(sink) == pytest.approx([step * 1.05 for step in ladder], abs=1.0)


async def test_worker_logs_repeated_failures_less_and_less():
    """Of a delivery that keeps failing, the 1st, 2nd, 4th and 8th attempt are logged."""
    store, sink = a_store(), TimedSink()
    sink.failure = REJECTED
    await fill(store)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(80_000.0)

    logged = [line["attempt"] for line in lines if line["event"] == "delivery.failed"]
    assert logged == [1, 2, 4, 8]


async def test_worker_disables_a_sink_whose_receiver_is_gone():
    """A 410 disables the sink at once, with an event for the others, and keeps its events."""
    store, gone, well = a_store("gone", "well"), TimedSink(), TimedSink()
    gone.failure = GONE
    await fill(store, 200)

    async with dispatching(store, gone=gone, well=well):
        await anyio.sleep(60.0)

    assert len(gone.attempted) <= 16
    assert await counts(store) == {"gone": (0, 201), "well": (0, 0)}
    assert well.types.count("poller.sink_disabled") == 1


async def test_worker_reports_each_receiver_that_is_gone():
    """Two sinks with a 410 are two events, each with an id of its own."""
    store, well = a_store("left", "right", "well"), TimedSink()
    left, right = TimedSink(), TimedSink()
    left.failure = right.failure = GONE
    await fill(store)

    async with dispatching(store, left=left, right=right, well=well):
        await anyio.sleep(60.0)

    events = [event for _, event in well.received if event.type == "poller.sink_disabled"]
    assert sorted(event.data["sink"] for event in events) == ["left", "right"]


async def test_worker_delivers_missed_events_to_an_enabled_sink():
    """Enabling a sink brings back all of its events, also the one with the 410."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE
    await fill(store, 20)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)
        sink.failure = None
        list(store.admin().enable_sink("hook") or ())
        await anyio.sleep(6.0)

    assert len(set(sink.ids)) == 21
    assert await counts(store) == {"hook": (0, 0)}


async def test_worker_sends_what_was_enabled_before_it_was_settled():
    """A sink that is enabled before the attempt with the 410 is settled misses no event."""
    memory = a_store()
    store, sink = FailingStore(memory), TimedSink()
    sink.failure = GONE
    await fill(store)
    store.fails = {"settle"}

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)
        sink.failure = None
        list(memory.admin().enable_sink("hook") or ())
        store.fails = set()
        await anyio.sleep(60.0)

    assert "evt_0" in sink.ids
    assert await counts(store) == {"hook": (0, 0)}


async def test_worker_disables_a_sink_after_the_store_has_recovered():
    """A 410 while the store fails is recorded and reported when the store works again."""
    memory = a_store("gone", "well")
    store, gone, well = FailingStore(memory), TimedSink(), TimedSink()
    gone.failure = GONE
    await fill(store)
    store.fails = {"disable_sink"}

    async with dispatching(store, gone=gone, well=well):
        await anyio.sleep(20.0)
        assert "poller.sink_disabled" not in well.types
        store.fails = set()
        await anyio.sleep(20.0)
        list(memory.admin().enable_sink("gone") or ())

    assert well.types.count("poller.sink_disabled") == 1
    assert (await counts(store))["gone"] == (2, 0)


async def test_worker_sends_no_more_at_once_than_its_sink_wants():
    """A sink may say how many of its calls overlap; the other events wait for their turn."""
    store, sink, running, most = a_store(), TimedSink(), 0, 0
    sink.concurrency = 2

    async def measure(_: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(60.0)
        running -= 1

    sink.failure = measure
    await fill(store, 10)

    async with dispatching(store, hook=sink):
        await anyio.sleep(400.0)

    assert (len(sink.ids), most) == (10, 2)
