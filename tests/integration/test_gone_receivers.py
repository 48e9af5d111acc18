"""A receiver that is gone for good costs no more than a week of events, whatever restarts."""

from collections.abc import Sequence
from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import DeliveryError
from poller.core.outbox import WriteBatch
from poller.store import Store
from tests.integration.test_worker import counts, fill, waits
from tests.support.fakes import TimedSink, a_store, dispatching
from tests.support.store_builders import an_event
from tests.support.virtual_time import START, virtual_clock

HOUR, DAY = 3_600.0, 86_400.0
GONE = DeliveryError("cannot connect", retry_after=6 * HOUR)
"""Fails with a pause, which keeps the number of probes in virtual weeks small."""
AWAY = DeliveryError("the receiver returned 404", is_sink_fault=False, is_suspect=True)
UNREADABLE = DeliveryError("the receiver returned 422", is_sink_fault=False, is_rejected=True)

pytestmark = pytest.mark.virtual(limit=120 * DAY)


@pytest.fixture(autouse=True)
def _long_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loops that wait sleep for an hour, since their heartbeats fill virtual weeks."""
    for name in ("worker.HEARTBEAT_INTERVAL", "worker.STORE_POLL_INTERVAL"):
        monkeypatch.setattr(f"poller.delivery.{name}", HOUR)
    monkeypatch.setattr("poller.delivery.dispatcher.HEARTBEAT_INTERVAL", HOUR)


async def record_daily(store: Store, days: int) -> None:
    """Record ten events of different jobs on each of so many days."""
    for _ in range(days):
        day = round(anyio.current_time() / DAY)
        events = [an_event(f"{day}-{number}", f"job-{day}-{number}") for number in range(10)]
        await store.write(WriteBatch(events=events))
        await anyio.sleep(DAY)


def dead_lettered(lines: Sequence[dict]) -> list[int]:
    """Return the numbers of dead letters that the log counts."""
    return [line["dead"] for line in lines if line["event"] == "sink.backlog_dead_lettered"]


async def test_backlog_of_a_gone_receiver_is_a_week_of_events():
    """Of a receiver that is gone for good, what is older than a week is dead, with a warning."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await record_daily(store, 7)
            assert await counts(store) == {"hook": (70, 0)}
            await record_daily(store, 33)

    pending, dead = (await counts(store))["hook"]
    assert (pending + dead, pending) == (400, 70)
    assert sum(dead_lettered(lines)) == dead
    warning = next(line for line in lines if line["event"] == "sink.backlog_dead_lettered")
    assert (warning["sink"], warning["log_level"]) == ("hook", "warning")
    assert "sutro-poller dead-letters replay --sink hook" in warning["advice"]


async def test_backlog_of_a_gone_receiver_dies_over_restarts():
    """A daemon that is restarted every day comes to the same end as one that is not."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE

    for _ in range(20):
        async with dispatching(store, hook=sink):
            await record_daily(store, 1)

    assert await counts(store) == {"hook": (70, 130)}


async def test_large_backlog_dies_after_a_week():
    """A large backlog, of which a few deliveries have had their turn, dies as a whole."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE
    await fill(store, 2_500)

    with capture_logs() as lines:
        async with dispatching(store, hook=sink):
            await anyio.sleep(8 * DAY)

    assert await counts(store) == {"hook": (0, 2_500)}
    assert dead_lettered(lines) == [2_500]


async def test_backlog_of_a_sink_that_hangs_dies_after_a_week():
    """What waits for a sink whose calls all hang dies as that of a sink that fails."""
    store, sink = a_store(), TimedSink()

    async def hang(_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    sink.failure = hang
    await fill(store, 40)

    async with dispatching(store, hook=sink):
        await anyio.sleep(HOUR)
        (backlog,) = await store.backlogs()
        await anyio.sleep(8 * DAY)

    assert backlog.reason == "the sink did not finish within 90 s"
    assert len(sink.attempts) == 16
    assert await counts(store) == {"hook": (0, 40)}


async def test_nothing_dies_before_an_attempt():
    """After weeks of failures a process that starts when the receiver is back delivers all."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE
    async with dispatching(store, hook=sink):
        await record_daily(store, 20)
    sink.failure, (pending, dead) = None, (await counts(store))["hook"]
    await anyio.sleep(8 * DAY)

    async with dispatching(store, hook=sink):
        await anyio.sleep(HOUR)

    assert len(sink.received) == pending == 70
    assert await counts(store) == {"hook": (0, dead)}


async def test_damaged_event_is_no_attempt():
    """An event that cannot be sent shows nothing of its sink, so that nothing dies of it."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE
    async with dispatching(store, hook=sink):
        await record_daily(store, 9)
    await anyio.sleep(2 * DAY)
    damage = "UPDATE events SET digest = x'00' WHERE id = 'evt_8-0'"
    store.transact(lambda db: db.execute(damage))
    sink.failure, (pending, dead) = None, (await counts(store))["hook"]

    async with dispatching(store, hook=sink):
        await anyio.sleep(HOUR)

    assert len(sink.received) == pending - 1
    assert await counts(store) == {"hook": (0, dead + 1)}


@pytest.mark.parametrize("days", [-9_000, -60, 60, 9_000])
async def test_wrong_clock_kills_nothing(days: int):
    """A clock that jumps by months or decades between two processes kills nothing before a week."""
    store, sink = a_store(), TimedSink()
    sink.failure = GONE
    async with dispatching(store, hook=sink):
        await record_daily(store, 6)

    clock = virtual_clock(START + timedelta(days=days))
    store._now = clock.steady
    async with dispatching(store, clock=clock, hook=sink):
        await anyio.sleep(6.5 * DAY)
        before = await counts(store)
        sink.failure = None
        await anyio.sleep(DAY)

    assert before == {"hook": (60, 0)}
    assert len(sink.received) == 60


async def test_event_alone_outlives_a_wrong_clock():
    """A delivery that a clock decades behind recorded has a week of attempts as any other."""
    store, sink = a_store(), TimedSink()
    await fill(store)
    sink.failure = DeliveryError("the receiver returned 409", is_sink_fault=False)

    clock = virtual_clock(START + timedelta(days=9_000))
    store._now = clock.steady
    async with dispatching(store, clock=clock, hook=sink):
        await anyio.sleep(6.9 * DAY)
        before = await counts(store)
        await anyio.sleep(0.5 * DAY)

    assert (before, await counts(store)) == ({"hook": (1, 0)}, {"hook": (0, 1)})


async def test_rejected_event_dies_over_restarts():
    """A daemon that ends after each attempt counts its rejections too, and sends the successor."""
    store, sink = a_store(), TimedSink()
    await fill(store, 2, jobs=1)

    async def respond(delivery):
        if delivery.event.id == "evt_0":
            raise UNREADABLE

    sink.failure = respond
    for _ in range(4):
        async with dispatching(store, hook=sink):
            await anyio.sleep(4.0)

    assert sink.ids == ["evt_1"]
    assert await counts(store) == {"hook": (0, 1)}


@pytest.mark.parametrize("restarts", [0, 7])
@pytest.mark.parametrize("jobs", [1, 2, 50])
async def test_end_of_a_404_is_detected_soon(jobs: int, restarts: int):
    """The backlog comes within 300 s of an endpoint's return, however many jobs it has."""
    store, sink, hours = a_store(), TimedSink(), 8
    sink.failure = AWAY
    await fill(store, 2 * jobs, jobs=jobs)

    for _ in range(restarts):
        async with dispatching(store, hook=sink):
            await anyio.sleep(hours * HOUR / (restarts + 1))
    async with dispatching(store, hook=sink):
        await anyio.sleep(hours * HOUR - anyio.current_time() + 1.0)
        sink.failure, back_at, attempts = None, anyio.current_time(), len(sink.attempted)
        await anyio.sleep(HOUR)

    assert sink.received[0][0] - back_at <= 300.0
    assert sink.received[-1][0] - back_at <= 360.0
    assert len(sink.received) == 2 * jobs
    assert attempts <= 16 + (restarts + 1) * 8 + 12 * hours * min(jobs, 2)


async def test_event_with_a_404_among_others_is_no_probe():
    """An event that gets a 404 while others are delivered is retried as any other that fails."""
    store, sink = a_store(), TimedSink()
    await fill(store, 1)

    async def respond(delivery):
        if delivery.event.id == "evt_0":
            raise AWAY

    sink.failure = respond
    async with dispatching(store, hook=sink) as dispatcher:
        for number in range(1, 100):
            await anyio.sleep(600.0)
            await store.write(WriteBatch(events=[an_event(str(number), f"job-{number}")]))
            dispatcher.wake()

    assert len(sink.received) == 99
    assert waits(sink)
    assert len([1 for _, delivery in sink.attempted if delivery.event.id == "evt_0"]) <= 12
