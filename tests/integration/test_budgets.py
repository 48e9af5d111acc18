"""Budgets of a daemon: what is announced, when, and under which id."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest

from poller.core.budgets import Budget, BudgetKind, Budgets
from poller.core.counters import Counters
from poller.core.state import LifecyclePolicy
from poller.polling.tracker import JobTracker
from poller.runtime.clock import Clock
from poller.store.memory import MemoryStore
from tests.support.event_builders import ORIGIN
from tests.support.fakes import (
    FakeApi,
    TimedSink,
    a_store,
    dispatching,
    ended,
    recorded,
    recorded_types,
    settled,
    watching,
)

pytestmark = pytest.mark.virtual(limit=90_000.0)
CROSSED = "budget.crossed"


def budgets(limit: str = "1", **changes: Any) -> Budgets:
    """Return a daily budget."""
    thresholds = (Decimal(50), Decimal(100))
    budget = Budget(kind=BudgetKind.DAILY, limit=Decimal(limit), thresholds=thresholds, **changes)
    return Budgets((budget,), ORIGIN, UTC)


def crossings(store: MemoryStore) -> list[tuple[float, str]]:
    """Return the thresholds that are recorded, and their sums."""
    found = [event.data for event in recorded(store) if event.type == CROSSED]
    return [(data["threshold_percent"], data["spent_usd"]) for data in found]


async def test_crossing_follows_the_end_at_once() -> None:
    """A sink gets a crossing right after the end that causes it; the counters have both."""
    store, counts = a_store(), Counters()
    sink = TimedSink()

    async with dispatching(store, hook=sink) as dispatcher:
        api = FakeApi(job_1=ended(job_cost=0.6))
        wake = dispatcher.wake
        async with watching(api, store, "job-1", budgets=budgets(), wake=wake, counts=counts):
            await anyio.sleep(1.0)

    assert recorded_types(store) == ["job.succeeded", CROSSED]
    assert sink.types == ["job.succeeded", CROSSED]
    assert counts.events[CROSSED] == 1


async def test_late_cost_crosses_the_budget_of_its_day() -> None:
    """A cost that comes hours after the end counts on the day of the end."""
    api, store = FakeApi(job_1=ended(job_cost=None)), a_store()

    async with watching(api, store, "job-1", budgets=budgets()):
        await anyio.sleep(60.0)
        assert recorded_types(store) == ["job.succeeded"]
        api.answers["job-1"] = ended(job_cost=0.6)
        await anyio.sleep(80_000.0)

    assert recorded_types(store) == ["job.succeeded", "job.settled", CROSSED]
    ended_at = recorded(store)[0].data["job"]["datetime_completed"]
    assert recorded(store)[2].data["period"] == ended_at[:10]


async def test_crossing_without_another_event_is_delivered_at_once() -> None:
    """A late cost whose job.settled waits for the tokens is counted and announced as it comes."""
    api = FakeApi(job_1=ended(job_cost=None, input_tokens=None))
    store, wakes = a_store(), list[float]()

    def wake() -> None:
        wakes.append(anyio.current_time())

    async with watching(api, store, "job-1", budgets=budgets(), wake=wake):
        await anyio.sleep(60.0)
        api.answers["job-1"] = ended(job_cost=0.6, input_tokens=None)
        await anyio.sleep(10_000.0)

    assert recorded_types(store) == ["job.succeeded", CROSSED]
    assert len(wakes) == 2


async def test_restart_announces_nothing_again() -> None:
    """After a restart the next end announces only what is new; the sum has all ends."""
    api, store = FakeApi(job_1=ended(job_cost=0.6), job_2=ended("job-2", job_cost=0.6)), a_store()

    for job_id in ("job-1", "job-2"):
        async with watching(api, store, job_id, budgets=budgets()):
            await settled()

    assert crossings(store) == [(50, "0.6"), (100, "1.2")]


async def test_lower_budget_is_compared_at_the_start() -> None:
    """After a change of the budget nothing has to end before what is crossed is announced."""
    noon = datetime(2026, 11, 29, 12, tzinfo=UTC)
    clock = Clock(monotonic=anyio.current_time, wall=noon.timestamp)
    end = ended(job_cost=0.6, datetime_completed=noon.isoformat())
    store = a_store()

    async with watching(FakeApi(job_1=end), store, "job-1", budgets=budgets("2")):
        await settled()
    assert crossings(store) == []
    tracker = JobTracker(
        store,
        rules=LifecyclePolicy(),
        origin=ORIGIN,
        clock=clock,
        wake=lambda: None,
        budgets=budgets("1"),
    )
    await tracker.load([])

    assert crossings(store) == [(50, "0.6")]


async def test_lost_database_and_a_second_daemon_use_the_same_ids() -> None:
    """The same ends in another database are announced under the same ids."""
    api = FakeApi(job_1=ended(job_cost=0.6), job_2=ended("job-2", job_cost=0.6))
    stores = [a_store(), a_store()]

    async with watching(api, stores[0], "job-1", "job-2", budgets=budgets()):
        await anyio.sleep(100.0)
    for job_id in ("job-2", "job-1"):
        async with watching(api, stores[1], job_id, budgets=budgets()):
            await anyio.sleep(100.0)

    ids = [[event.id for event in recorded(store) if event.type == CROSSED] for store in stores]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


@pytest.mark.parametrize("day", ["2020-02-29", "2031-05-06"])
async def test_wrong_clock_changes_no_period(day: str) -> None:
    """A job counts on the day that the API names, however far the daemon's clock is off."""
    store = a_store()
    end = ended(job_cost=1.0, datetime_completed=f"{day}T23:59:59Z")

    async with watching(FakeApi(job_1=end), store, "job-1", budgets=budgets()):
        await settled()

    found = [event.data["period"] for event in recorded(store) if event.type == CROSSED]
    assert found == [day, day]
