"""A sink in an outage is spared, its return is detected soon, and nothing is lost."""

from collections import Counter
from itertools import pairwise
from random import Random

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import DeliveryError
from poller.core.outbox import WriteBatch
from tests.integration.test_worker import counts, fill, waits
from tests.support.fakes import FailingStore, TimedSink, a_store, dispatching
from tests.support.store_builders import an_event

DAY = 86_400.0
DOWN = DeliveryError("the receiver returned 503")
TIMEOUT = 15.0

pytestmark = pytest.mark.virtual(limit=12 * DAY)


async def hang_and_fail(_delivery) -> None:
    """Behave as an endpoint that never responds."""
    await anyio.sleep(TIMEOUT)
    raise DOWN


async def test_outage_is_probed_after_five_failures():
    """After five failures in a row one probe is sent after 5, 10, 30, 60, 120 and each 300 s."""
    store, sink = a_store(), TimedSink()
    sink.failure = DOWN
    await fill(store, 10)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1_800.0)

    probes = [at for at, _ in sink.attempted if at > 1.0]
    assert [round(b - a) for a, b in pairwise(probes)] == [10, 30, 60, 120, *[300] * 5]
    assert round(probes[0]) == 5


async def test_outage_probes_use_the_jobs_in_turn():
    """No two probes in a row are of the same job while others wait."""
    store, sink = a_store(), TimedSink()
    sink.failure = DOWN
    await fill(store, 20)

    async with dispatching(store, hook=sink):
        await anyio.sleep(3_600.0)

    probed = [delivery.event.subject for at, delivery in sink.attempted if at > 1.0]
    assert len(probed) >= 14
    assert len(set(probed)) == len(probed)


async def test_outage_of_calls_that_hang_stalls_nothing():
    """A sink whose calls have hung for 7 days makes dead letters; no loop is stalled by that."""
    store, sink = a_store(), TimedSink()

    async def hang(_delivery) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    sink.failure = hang
    await fill(store, 40)
    async with dispatching(store, hook=sink) as dispatcher:
        await anyio.sleep(7.5 * DAY)
        stalled = dispatcher.heartbeats.stalled

    assert (stalled, await counts(store)) == ((), {"hook": (0, 40)})


async def test_outage_is_not_assumed_when_single_events_are_rejected():
    """A receiver that rejects events one by one does not open the circuit breaker."""
    store, sink = a_store(), TimedSink()
    sink.failure = DeliveryError("400", is_sink_fault=False)
    await fill(store, 100)

    async with dispatching(store, hook=sink):
        await anyio.sleep(1.0)

    assert len(sink.attempted) == 100


async def test_outage_with_retry_after_is_respected():
    """Nothing is sent before a Retry-After has passed, and everything after it."""
    store, sink = a_store(), TimedSink()
    sink.failure = DeliveryError("429", retry_after=7_200.0)
    await fill(store, 100)

    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)
        sink.failure = None
        await anyio.sleep(7_000.0)
        assert len(sink.attempted) <= 16
        await anyio.sleep(300.0)

    assert len(sink.received) == 100


async def test_outage_pause_reads_deliveries_again():
    """Deliveries that were read before a pause are read again after it."""
    store, sink = a_store(), TimedSink()
    await fill(store, 60)

    async def pause(_delivery):
        raise DeliveryError("429", retry_after=600.0)

    sink.failure = pause
    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)
        sink.failure = None
        await store.disable_sink("hook", "by hand")
        await anyio.sleep(1_000.0)

    assert sink.received == []


async def test_outage_backlog_is_sent_with_growing_concurrency():
    """After a recovery one event is sent alone, then twice as many at once after each success."""
    store, sink = a_store(), TimedSink()
    sink.failure = DOWN
    await fill(store, 200)
    starts: list[float] = []

    async def slow(_delivery):
        starts.append(anyio.current_time())
        await anyio.sleep(1.0)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(60.0)
            sink.failure = slow
            await anyio.sleep(600.0)

    first = starts[0]
    begun = [sum(first + n <= at < first + n + 0.9 for at in starts) for n in range(3)]
    assert begun[:2] == [1, 1]
    assert begun[2] <= 4
    assert max(begun) <= 16
    assert len(sink.received) == 200
    events = [line["event"] for line in lines if line["event"].startswith("sink.")]
    assert events == ["sink.unavailable", "sink.recovered"]


async def test_outage_end_is_detected_after_a_restart():
    """A process that starts during an outage detects its end as soon as one that saw it begin."""
    store, sink = a_store(), TimedSink()
    sink.failure = hang_and_fail
    await fill(store, 20)
    async with dispatching(store, hook=sink):
        await anyio.sleep(2 * DAY)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(1_000.0)
            sink.failure, back_at = None, anyio.current_time()
            await anyio.sleep(900.0)

    assert len(sink.received) == 20
    assert sink.received[0][0] - back_at <= 300.0 + TIMEOUT
    assert sink.received[-1][0] - sink.received[0][0] < 60.0
    events = [line["event"] for line in lines if line["event"].startswith("sink.")]
    assert events == ["sink.unavailable", "sink.recovered"]


async def test_outage_is_assumed_if_the_store_fails_at_the_start():
    """Without knowledge of earlier failures one probe is sent first, then all the rest."""
    store, sink = FailingStore(a_store()), TimedSink()
    await fill(store.store, 20)
    store.fails = {"backlogs"}
    sink.failure = hang_and_fail

    async with dispatching(store, hook=sink):
        await anyio.sleep(TIMEOUT - 1.0)
        assert len(sink.attempted) == 1
        store.fails, sink.failure = set(), None
        await anyio.sleep(60.0)

    assert len(sink.received) == 20


# Statuses that may be the fault of the event, or of the endpoint.

AWAY = DeliveryError("the receiver returned 404", is_sink_fault=False, is_suspect=True)
UNREADABLE = DeliveryError("the receiver returned 422", is_sink_fault=False, is_rejected=True)


def circuit_log(lines: list[dict]) -> list[str]:
    """Return the events of the log about the circuit breaker."""
    return [line["event"] for line in lines if line["event"].startswith("sink.")]


async def test_outage_of_an_endpoint_that_is_away_is_probed():
    """A 404 for three events is the endpoint's fault: it is probed, and its return is seen soon."""
    store, sink = a_store(), TimedSink()
    sink.failure = AWAY
    await fill(store, 100)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(3_600.0)
            attempts, sink.failure, back_at = len(sink.attempted), None, anyio.current_time()
            await anyio.sleep(600.0)

    assert attempts <= 16 + 6 + 12
    assert sink.received[0][0] - back_at <= 300.0
    assert sink.received[-1][0] - back_at <= 360.0
    assert len(sink.received) == 100
    assert circuit_log(lines) == ["sink.unavailable", "sink.recovered"]


async def test_outage_is_assumed_after_a_restart_with_a_404():
    """A 404 to the first probe of a process is no recovery."""
    store, sink = a_store(), TimedSink()
    sink.failure = AWAY
    await fill(store, 10)
    async with dispatching(store, hook=sink):
        await anyio.sleep(3_600.0)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            before = len(sink.attempted)
            await anyio.sleep(3_600.0)

    assert len(sink.attempted) - before <= 1 + 6 + 12
    assert circuit_log(lines) == ["sink.unavailable"]


async def test_restart_with_one_404_holds_up_no_other_event():
    """After a restart an event with a 404 of its own closes no circuit: the next one is sent."""
    store, sink = a_store(), TimedSink()

    async def respond(delivery):
        if delivery.event.id == "evt_0":
            raise AWAY

    sink.failure = respond
    await fill(store, 1)
    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink) as dispatcher:
            await anyio.sleep(1.0)
            await store.write(WriteBatch(events=[an_event("new", "job-new")]))
            dispatcher.wake()
            began_at = anyio.current_time()
            await anyio.sleep(600.0)

    assert [event.id for _, event in sink.received] == ["evt_new"]
    assert sink.received[0][0] - began_at < 1.0
    assert circuit_log(lines) == []


@pytest.mark.parametrize("between", [None, DeliveryError("409", is_sink_fault=False)])
async def test_outage_is_not_assumed_of_two_events(between: DeliveryError | None):
    """A 404 for two events while others get through is the fault of these two."""
    store, sink = a_store(), TimedSink()
    await fill(store, 40)

    async def respond(delivery):
        if delivery.event.id in {"evt_3", "evt_5"}:
            raise AWAY
        if between:
            raise between

    sink.failure = respond
    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(1.0)

    assert len(sink.attempted) == 40
    assert circuit_log(lines) == []


async def test_rejected_event_lets_its_successors_pass():
    """The third rejection within an hour makes a dead letter; the events after it are sent."""
    store, sink = a_store(), TimedSink()
    await fill(store, 4, jobs=1)

    async def respond(delivery):
        if delivery.event.id == "evt_1":
            raise UNREADABLE

    sink.failure = respond
    async with dispatching(store, hook=sink):
        await anyio.sleep(60.0)

    assert sink.ids == ["evt_0", "evt_2", "evt_3"]
    assert waits(sink)[1:3] == [5, pytest.approx(30, abs=3)]
    assert await counts(store) == {"hook": (0, 1)}


async def test_rejected_event_is_retried_soon_after_an_outage():
    """What was tried for hours in an outage is rejected within minutes, not for days."""
    store, sink = a_store(), TimedSink()
    sink.failure = DOWN
    await fill(store, 2, jobs=1)

    async with dispatching(store, hook=sink):
        await anyio.sleep(3 * 3_600.0)
        sink.failure = UNREADABLE
        await anyio.sleep(400.0)

    assert await counts(store) == {"hook": (0, 2)}


FAULTS = [None, None, AWAY, UNREADABLE, DeliveryError("409", is_sink_fault=False), DOWN]


@pytest.mark.parametrize("seed", range(5))
async def test_every_event_is_delivered_or_rejected_three_times(seed: int):
    """Whatever a receiver has against some events, every event ends, in order for each job."""
    random, store, sink = Random(seed), a_store(), TimedSink()
    faults = {f"evt_{number}": random.choice(FAULTS) for number in range(40)}
    left = {event_id: random.randrange(1, 5) for event_id in faults}
    outages = sorted(random.uniform(0.0, 3_600.0) for _ in range(4))
    rejected: Counter[str] = Counter()

    async def respond(delivery):
        event_id, now = delivery.event.id, anyio.current_time()
        if outages[0] <= now < outages[1] or outages[2] <= now < outages[3]:
            raise random.choice([DOWN, AWAY])
        if faults[event_id] and left[event_id]:
            left[event_id] -= 1
            rejected[event_id] += faults[event_id] is UNREADABLE
            raise faults[event_id]

    sink.failure = respond
    await fill(store, 40, jobs=7)
    async with dispatching(store, hook=sink):
        await anyio.sleep(5 * 3_600.0)

    dead = {event_id for event_id, times in rejected.items() if times >= 3}
    assert await counts(store) == {"hook": (0, len(dead))}
    assert sorted(sink.ids) == sorted(set(faults) - dead)
    for job in range(7):
        numbers = [int(it.removeprefix("evt_")) for it in sink.ids]
        of_job = [number for number in numbers if number % 7 == job]
        assert of_job == sorted(of_job)


@pytest.mark.slow
async def test_outage_of_seven_days_makes_dead_letters():
    """An event that fails when it is older than a week is dead; a younger one stays pending."""
    store, sink = a_store(), TimedSink()
    sink.failure = DOWN

    async with dispatching(store, hook=sink):
        await fill(store, 3)
        await anyio.sleep(5 * DAY)
        await store.write(WriteBatch(events=[an_event("young", "job-y")]))
        await anyio.sleep(3 * DAY)

    assert await counts(store) == {"hook": (1, 3)}
    assert waits(sink)


@pytest.mark.slow
async def test_outage_of_seven_days_still_delivers_old_events():
    """An event that is not dead yet is delivered, however old it is when the sink is back."""
    store, sink = a_store(), TimedSink()
    await fill(store, 300)
    sink.failure = DOWN

    async with dispatching(store, hook=sink):
        await anyio.sleep(7 * DAY + 120.0)
        sink.failure = None
        await anyio.sleep(600.0)

    pending, dead = (await counts(store))["hook"]
    assert pending == 0
    assert len(sink.received) + dead == 300
    assert dead <= 1
