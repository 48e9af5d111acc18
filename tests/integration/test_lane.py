"""A lane hands over what is due, in order for each job, and suffers whatever a sink does."""

import itertools

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import DeliveryError
from poller.core.outbox import WriteBatch
from poller.store import Store
from tests.support.fakes import FailingStore, TimedSink, a_store, dispatching, settled
from tests.support.store_builders import an_event

pytestmark = pytest.mark.virtual(limit=90_000.0)
DOWN = DeliveryError("the receiver returned 503")
REFUSED = DeliveryError("the receiver returned 400", is_sink_fault=False)
GONE = DeliveryError("the receiver returned 410", is_sink_fault=False, is_gone=True)


async def fill(store: Store, events: int = 1, *, jobs: int | None = None) -> None:
    """Record so many events, in turn of so many jobs."""
    jobs = jobs or events
    batch = [an_event(str(number), f"job-{number % jobs}") for number in range(events)]
    await store.write(WriteBatch(events=batch))


def waits(sink: TimedSink) -> list[float]:
    """Give the waits between the attempts at a sink, in whole seconds."""
    times = [at for at, _ in sink.attempted]
    return [round(b - a) for a, b in itertools.pairwise(times)]


async def counts(store: Store) -> dict[str, tuple[int, int]]:
    """Count by sink what is pending and what is dead."""
    return {it.name: (it.pending, it.dead) for it in await store.backlogs()}


async def test_every_event_is_handed_over_once():
    """A thousand events come once each, and nothing stays pending."""
    store, sink = a_store(), TimedSink()
    await fill(store, 1_000)

    async with dispatching(store, hook=sink):
        await anyio.sleep(5.0)

    assert sorted(sink.ids) == sorted({f"evt_{number}" for number in range(1_000)})
    assert await counts(store) == {"hook": (0, 0)}


async def test_a_wake_up_is_enough():
    """What is recorded later goes out at the wake-up, not at the next look into the store."""
    store, sink = a_store(), TimedSink()

    async with dispatching(store, hook=sink) as dispatcher:
        await anyio.sleep(1.0)
        await fill(store)
        dispatcher.wake()
        await settled()

        assert sink.ids == ["evt_0"]


async def test_what_another_process_wrote_is_seen_soon():
    """Without any wake-up a lane looks into the store every five seconds."""
    store, sink = a_store(), TimedSink()

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)
        await fill(store)
        await anyio.sleep(5.0)

        assert sink.ids == ["evt_0"]


async def test_the_events_of_one_job_come_in_order():
    """While one event of a job fails, those after it wait; those of other jobs do not."""
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


async def test_a_slow_job_is_never_sent_twice_at_once():
    """The next event of a job waits until the outcome of the one before it is written."""
    store, sink = a_store(), TimedSink()
    await fill(store, 40, jobs=4)
    under_way: set[str] = set()

    async def slow(delivery):
        assert delivery.event.subject not in under_way
        under_way.add(delivery.event.subject)
        await anyio.sleep(3.0)
        under_way.remove(delivery.event.subject)

    sink.failure = slow
    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)

    assert len(sink.received) == 40


async def test_a_sink_that_hangs_holds_up_no_other():
    """Whatever one sink does, the others get their events at once."""
    store, hanging, well = a_store("hanging", "well"), TimedSink(), TimedSink()
    hanging.failure = lambda _: anyio.sleep_forever()
    await fill(store, 100)

    async with dispatching(store, hanging=hanging, well=well):
        await anyio.sleep(1.0)

    assert len(well.received) == 100


async def test_a_sink_that_hangs_for_ever_is_cut_off():
    """No sink has longer than 90 seconds for one event, whatever limit it sets itself."""
    store, sink = a_store(), TimedSink()
    sink.failure = lambda _: anyio.sleep_forever()
    await fill(store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(200.0)

    assert waits(sink) == [95]


@pytest.mark.parametrize(
    "trouble", [ValueError("x"), ExceptionGroup("x", [OSError()]), StopAsyncIteration()]
)
async def test_a_sink_may_raise_anything(trouble):
    """A bug in a sink is a failed attempt at that sink alone, with its traceback in the log."""
    store, odd, well = a_store("odd", "well"), TimedSink(), TimedSink()
    odd.failure = trouble
    await fill(store)

    with capture_logs() as lines:
        async with dispatching(store, odd=odd, well=well):
            await anyio.sleep(1.0)
            odd.failure = None
            await anyio.sleep(10.0)

    assert (odd.ids, well.ids) == (["evt_0"], ["evt_0"])
    assert "sink.crashed" in [it["event"] for it in lines]


async def test_a_sink_that_cancels_its_own_lane_is_loud():
    """A stray cancellation inside a sink is a crash, not a lane that is silent for ever."""
    store, sink = a_store(), TimedSink()
    sink.failure = anyio.get_cancelled_exc_class()()
    await fill(store)

    with pytest.raises(ExceptionGroup) as caught:
        async with dispatching(store, hook=sink):
            await anyio.sleep(1.0)

    assert caught.group_contains(RuntimeError, match="hook")


async def test_a_damaged_body_is_never_sent():
    """An event whose stored bytes changed is dead, loudly, and the next of its job goes on."""
    store, sink = a_store(), TimedSink()
    await fill(store, 2, jobs=1)
    damage = "UPDATE events SET digest = x'00' WHERE id = 'evt_0'"
    store.transact(lambda db: db.execute(damage))

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(1.0)

    assert sink.ids == ["evt_1"]
    assert await counts(store) == {"hook": (0, 1)}
    dead = [it for it in lines if it["event"] == "delivery.dead_lettered"]
    assert [it["event_id"] for it in dead] == ["evt_0"]
    assert dead[0]["advice"] == "sutro-poller dead ls, then replay or drop"


async def test_an_event_that_a_sink_refuses_for_good_is_dead():
    """A final refusal is not repeated."""
    store, sink = a_store(), TimedSink()
    sink.failure = DeliveryError("too large", is_permanent=True)
    await fill(store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1_000.0)

    assert len(sink.attempted) == 1
    assert await counts(store) == {"hook": (0, 1)}


async def test_the_ladder():
    """A refused event is tried after 5 s, 30 s, 2, 5, 15 min, 1, 2, 4 h, jittered upward."""
    store, sink = a_store(), TimedSink()
    sink.failure = REFUSED
    await fill(store)

    async with dispatching(store, hook=sink):
        await anyio.sleep(30_000.0)

    ladder = [5, 30, 120, 300, 900, 3_600, 7_200, 14_400]
    assert waits(sink) == pytest.approx([step * 1.05 for step in ladder], abs=1.0)


async def test_failures_are_told_less_and_less():
    """Of a delivery that fails again and again the 1st, 2nd, 4th and 8th attempt are logged."""
    store, sink = a_store(), TimedSink()
    sink.failure = REFUSED
    await fill(store)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(80_000.0)

    told = [it["attempt"] for it in lines if it["event"] == "delivery.failed"]
    assert told == [1, 2, 4, 8]


async def test_a_receiver_that_is_gone_is_switched_off():
    """A 410 disables the sink at once, tells the others, and keeps its events as dead."""
    store, gone, well = a_store("gone", "well"), TimedSink(), TimedSink()
    gone.failure = GONE
    await fill(store, 200)

    async with dispatching(store, gone=gone, well=well):
        await anyio.sleep(60.0)

    assert len(gone.attempted) <= 16
    assert await counts(store) == {"gone": (0, 201), "well": (0, 0)}
    assert well.types.count("poller.sink_disabled") == 1


async def test_each_receiver_that_is_gone_is_told_of():
    """Two sinks that answer 410 are two events, each under an id of its own."""
    store, well = a_store("left", "right", "well"), TimedSink()
    left, right = TimedSink(), TimedSink()
    left.failure = right.failure = GONE
    await fill(store)

    async with dispatching(store, left=left, right=right, well=well):
        await anyio.sleep(60.0)

    told = [it.data["sink"] for _, it in well.received if it.type == "poller.sink_disabled"]
    assert sorted(told) == ["left", "right"]


async def test_what_a_switched_off_sink_missed_comes_back():
    """Enabling a sink brings back all of its events, the one that met the 410 too."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE
    await fill(store, 20)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)
        sink.failure = None
        store.admin().enable_sink("hook")
        await anyio.sleep(6.0)

    assert len(set(sink.ids)) == 21
    assert await counts(store) == {"hook": (0, 0)}


@pytest.mark.parametrize("verb", ["disable_sink", "write"])
async def test_a_sink_is_switched_off_though_the_store_fails(verb):
    """A 410 while the store fails is recorded, and told to the others, when that works again."""
    memory = a_store("gone", "well")
    store, gone, well = FailingStore(memory), TimedSink(), TimedSink()
    gone.failure = GONE
    await fill(store)
    store.fails = {verb}

    async with dispatching(store, gone=gone, well=well):
        await anyio.sleep(20.0)
        assert "poller.sink_disabled" not in well.types
        store.fails = set()
        await anyio.sleep(20.0)
        memory.admin().enable_sink("gone")

    assert well.types.count("poller.sink_disabled") == 1
    assert (await counts(store))["gone"] == (2, 0)
