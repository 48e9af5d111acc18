"""The outage of a sink is kept, and what is older than it may last becomes dead letters."""

from dataclasses import replace

import pytest

from poller.core.outbox import Delivery, WriteBatch
from poller.store import Store
from poller.store.filters import EventFilter
from poller.store.memory import MemoryStore
from poller.store.sqlite import PORTION
from tests.store.test_sinks import backlog_of
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    ROUTES,
    AnyStore,
    ManualClock,
    an_event,
    deferred,
    delivered,
    due,
    event_ids,
    reopen,
)


async def probed(store: Store) -> Delivery:
    """Return the delivery that is tried next in an outage."""
    (delivery,) = await due(store, NOON, early=True, limit=1)
    return delivery


async def fail(store: Store, reason: str = "HTTP 503") -> None:
    """Record that an attempt showed the sink at fault."""
    outcome = deferred(await probed(store), NOON, reason)
    await store.settle([replace(outcome, is_sink_fault=True)])


async def fail_for(store: Store, now: ManualClock, days: float) -> None:
    """Record a failure every day, and one at the end."""
    await fail(store)
    while days > 0.0:
        now.advance(min(days, 1.0) * DAY)
        days -= 1.0
        await fail(store)


async def expire(store: Store) -> int:
    """Make dead what the outage has lasted too long for; return how many."""
    total = 0
    while portion := await store.dead_letter_expired(HOOK):
        total += portion
    return total


async def test_outage_lasts_from_the_first_fault_to_the_first_success(
    store: AnyStore, now: ManualClock
) -> None:
    """The backlog shows since when a sink fails and why, over restarts, until it works again."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))
    before = await backlog_of(store)
    await fail(store)
    now.advance(300.0)
    await fail(store, "HTTP 502")
    await reopen(store)
    during = await backlog_of(store)
    done = replace(delivered(await probed(store)), is_sink_fault=False)
    await store.settle([done])
    after = await backlog_of(store)

    assert (before.failing_since, before.reason) == (None, None)
    assert (during.failing_since, during.reason) == (NOON, "HTTP 502")
    assert after.failing_since is None
    assert store.admin().sinks()[1]["failing_since"] is None


async def test_fault_of_an_event_is_no_outage(store: AnyStore) -> None:
    """A failure that may be the event's own begins no outage, and is the reason that is shown."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await store.settle([deferred(await probed(store), NOON, "HTTP 409")])

    backlog = await backlog_of(store)

    assert (backlog.failing_since, backlog.reason) == (None, "HTTP 409")


async def test_outage_of_seven_days_makes_its_old_backlog_dead(
    store: AnyStore, now: ManualClock
) -> None:
    """After 7 days what is older than that is dead, tried or not; the rest and others are not."""
    old = [an_event(str(number), f"job-{number}", type="job.failed") for number in range(50)]
    await store.write(WriteBatch(events=old))
    await fail_for(store, now, 6.75)
    assert await expire(store) == 0
    await store.write(WriteBatch(events=[an_event("young", "job-0")]))
    await reopen(store)
    await fail_for(store, now, 0.25)

    assert await expire(store) == 50
    assert await event_ids(store, now() + DAY) == ["evt_young"]
    assert len(await due(store, now(), LOG, limit=99)) == 50
    rows = [*store.admin().deliveries(EventFilter(sink=HOOK, state="dead"))]
    assert {row["reason"] for row in rows} == {"not delivered for 7 days: HTTP 503"}
    assert 0 in {row["failures"] for row in rows}
    assert len([*store.admin().replay(EventFilter(sink=HOOK, state="dead"))]) == 50
    assert await expire(store) == 0


async def test_outage_goes_on_to_make_dead_letters(store: AnyStore, now: ManualClock) -> None:
    """In an outage that goes on, each event dies when it is 7 days old."""
    await store.write(WriteBatch(events=[an_event("a")]))
    await fail_for(store, now, 3.0)
    await store.write(WriteBatch(events=[an_event("b", "job-2")]))
    await fail_for(store, now, 4.0)
    await store.write(WriteBatch(events=[an_event("c", "job-3")]))

    assert await expire(store) == 1
    await fail_for(store, now, 2.75)
    assert await expire(store) == 0
    await fail_for(store, now, 0.25)
    assert await expire(store) == 1


@pytest.mark.parametrize(
    ("before", "gap", "after", "dead"),
    [
        (6.0, 0.5, 0.0, []),
        (6.0, 0.5, 0.5, ["old"]),
        (6.0, 2.0, 0.5, []),  # the daemon was off for two days
        (6.0, 2.0, 1.0, ["old"]),
        (6.5, 60.0, 0.25, []),  # it was off for months, or the clock was wrong
        (6.5, 60.0, 6.75, []),
        (6.5, 60.0, 7.0, ["new", "old"]),
        (30.0, 400.0, 6.75, ["old"]),
        (30.0, 400.0, 7.0, ["new", "old"]),
        (6.5, -60.0, 6.75, []),  # the clock was ahead
        (6.5, -60.0, 68.0, ["new", "old"]),
    ],
)
async def test_only_time_in_which_attempts_failed_counts(
    store: AnyStore, now: ManualClock, before: float, gap: float, after: float, dead: list[str]
) -> None:
    """Neither days in which the daemon is off nor a clock that jumps by months kills anything.

    One event is recorded when the outage begins, and one right before the days off.
    """
    await store.write(WriteBatch(events=[an_event("old")]))
    await fail_for(store, now, before)
    await expire(store)
    await store.write(WriteBatch(events=[an_event("new", "job-2")]))
    now.advance(gap * DAY)
    await reopen(store)

    await fail_for(store, now, after)

    await expire(store)
    rows = [*store.admin().deliveries(EventFilter(sink=HOOK, state="dead"))]
    assert sorted(row["event_id"].removeprefix("evt_") for row in rows) == dead


async def test_success_ends_an_outage(store: AnyStore, now: ManualClock) -> None:
    """A sink that worked once within 7 days has not failed for 7 days."""
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", "job-2")]))
    await fail_for(store, now, 6.0)
    await store.settle([replace(delivered(await probed(store)), is_sink_fault=False)])
    await fail_for(store, now, 6.75)

    assert await expire(store) == 0


async def test_enabled_sink_has_not_failed_yet(store: AnyStore, now: ManualClock) -> None:
    """The time that a sink failed before it was disabled does not count once it is enabled."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await fail_for(store, now, 6.9)
    await store.disable_sink(HOOK, "410 Gone")
    now.advance(DAY)
    list(store.admin().enable_sink(HOOK) or ())
    before = await backlog_of(store)
    await fail_for(store, now, 0.5)

    assert before.failing_since is None
    assert await expire(store) == 0


async def test_delivery_to_an_enabled_sink_has_not_failed_yet(
    store: AnyStore, now: ManualClock
) -> None:
    """An event that failed for nearly 7 days before its sink was disabled has 7 days again."""
    await store.write(WriteBatch(events=[an_event("1")]))
    await fail_for(store, now, 6.9)
    await store.disable_sink(HOOK, "410 Gone")
    now.advance(0.5 * DAY)
    list(store.admin().enable_sink(HOOK) or ())

    (delivery,) = await due(store, now(), early=True)
    assert delivery.failing_seconds == pytest.approx(0.5 * DAY)


async def test_large_backlog_becomes_dead_in_portions(now: ManualClock) -> None:
    """A portion is a transaction of a thousand rows, whose cost does not grow with the backlog."""
    store = MemoryStore(routes=ROUTES, deployment="x", now=now)
    costs: list[int] = []
    events = [an_event(str(number), f"job-{number}") for number in range(5 * PORTION + 1)]
    await store.write(WriteBatch(events=events))
    store.transact(lambda db: db.set_progress_handler(lambda: costs.append(1), 1_000))
    assert await store.dead_letter_expired(HOOK) == 0
    assert not costs
    await fail_for(store, now, 7.0)

    portions: list[tuple[int, int]] = []
    while portion := await store.dead_letter_expired(HOOK):
        portions.append((portion, len(costs)))
        costs.clear()

    assert [size for size, _ in portions] == [*[PORTION] * 5, 1]
    most = [cost for _, cost in portions[1:5]]
    assert max(most) <= 1.2 * min(most)


async def test_delivery_keeps_how_long_it_failed(store: AnyStore, now: ManualClock) -> None:
    """The time between its attempts counts, but not a longer one than a day, nor a jump back."""
    await store.write(WriteBatch(events=[an_event("1")]))
    for gap in (0.0, 600.0, DAY, 2 * DAY, 400 * DAY, -400 * DAY, 30.0):
        now.advance(gap)
        (delivery,) = await due(store, now(), early=True)
        await store.settle([deferred(delivery, now())])

    now.advance(10.0)
    (delivery,) = await due(store, now(), early=True)
    assert delivery.failing_seconds == 600.0 + DAY + 30.0 + 10.0


async def test_delivery_keeps_its_rejections(store: AnyStore) -> None:
    """Rejections are counted over restarts, each one once; a replay starts anew."""
    await store.write(WriteBatch(events=[an_event("1")]))
    for is_rejection in (True, False, True):
        delivery = await probed(store)
        outcome = deferred(delivery, NOON, "HTTP 400")
        outcome = replace(outcome, rejections=delivery.rejections + 1 if is_rejection else 0)
        for _ in range(2):  # as after a commit of unknown outcome
            await store.settle([outcome])
        await reopen(store)
    counted = (await probed(store)).rejections
    await store.disable_sink(HOOK, "410 Gone")
    list(store.admin().enable_sink(HOOK) or ())
    enabled = (await probed(store)).rejections
    await store.settle([delivered(await probed(store))])
    list(store.admin().replay(EventFilter(sink=HOOK)))

    assert (counted, enabled) == (2, 2)
    assert (await probed(store)).rejections == 0
