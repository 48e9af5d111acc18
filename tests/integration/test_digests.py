"""Digests in virtual time: what is gathered, what is not, and that each event is settled by one."""

import anyio
import pytest

from poller.core.errors import DeliveryError
from poller.core.events import DIGEST, Event
from poller.core.outbox import WriteBatch
from poller.core.routing import Route
from poller.sinks.testing import FakeSink
from poller.store.filters import EventFilter
from poller.store.memory import MemoryStore
from tests.support.builders import a_job
from tests.support.event_builders import an_event
from tests.support.fakes import dispatching, virtual_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual(limit=100_000.0)]

WINDOW = 300.0
TYPES = frozenset({"job.started", "job.succeeded", "job.failed", "poller.auth_failed"})


def a_store(*, window: float = WINDOW, failures: bool = False) -> MemoryStore:
    """Return a store with one sink that sends digests, and a webhook that does not."""
    routes = {
        "slack": Route(types=TYPES, digest=window, digests_failures=failures),
        "webhook": Route(types=TYPES),
    }
    return MemoryStore(routes=routes, deployment="api.sutro.sh", now=virtual_clock().steady)


def event(kind: str, number: int = 1, **fields: object) -> Event:
    """Return an event of one of many jobs."""
    return an_event(kind, job_id=f"job-{number}", job=a_job(job_id=f"job-{number}", **fields))


async def write(store: MemoryStore, *events: Event) -> None:
    """Record events."""
    await store.write(WriteBatch(events=events))


def statuses(store: MemoryStore) -> list[str]:
    """Return the status of each delivery to the sink, but for those of digests."""
    rows = store.transact(
        lambda db: db.execute(
            "SELECT status FROM deliveries JOIN events ON events.id = event_id"
            " WHERE sink = 'slack' AND type <> 'report.digest' ORDER BY deliveries.id"
        ).fetchall()
    )
    return [row["status"] for row in rows]


async def test_many_ends_are_one_message_and_as_many_webhooks():
    """A thousand ends within a minute are one digest, and a thousand webhooks."""
    store, slack, webhook = a_store(), FakeSink(), FakeSink()
    async with dispatching(store, slack=slack, webhook=webhook) as dispatcher:
        for number in range(1_000):
            await write(store, event("job.succeeded", number, status="SUCCEEDED", job_cost=0.01))
            if number % 100 == 99:
                dispatcher.wake()
                await anyio.sleep(6.0)
        await anyio.sleep(WINDOW)

    (digest,) = [delivery.event for delivery in slack.delivered]
    assert digest.type == DIGEST
    assert digest.data["counts"] == {"job.succeeded": 1_000}
    assert digest.data["cost_usd"] == "10.00"
    assert len(digest.data["events"]) == 20
    assert len(webhook.delivered) == 1_000
    assert statuses(store) == ["delivered"] * 1_000


async def test_a_failure_is_sent_at_once_after_what_came_before_it():
    """A failure does not wait, and neither do the earlier events of its job; others do."""
    store, slack = a_store(), FakeSink()
    await write(store, *(event("job.started", number) for number in (1, 2, 3)))
    async with dispatching(store, slack=slack) as dispatcher:
        await anyio.sleep(60.0)
        assert slack.delivered == []
        await write(store, event("job.failed", 1, status="FAILED"))
        dispatcher.wake()
        await anyio.sleep(1.0)
        types = [delivery.event.type for delivery in slack.delivered]
        await anyio.sleep(WINDOW)

    assert types == ["job.started", "job.failed"]
    assert [delivery.event.type for delivery in slack.delivered[2:]] == [DIGEST]
    assert slack.delivered[2].event.data["counts"] == {"job.started": 2}


async def test_failures_are_gathered_if_the_setting_says_so():
    """With the setting, a failure waits for the digest too; an event of the daemon never does."""
    store, slack = a_store(failures=True), FakeSink()
    await write(store, *(event("job.failed", number, status="FAILED") for number in (1, 2)))
    async with dispatching(store, slack=slack):
        await anyio.sleep(WINDOW - 10.0)
        assert slack.delivered == []
        await anyio.sleep(20.0)

    assert [delivery.event.type for delivery in slack.delivered] == [DIGEST]


async def test_a_digest_keeps_its_id_over_failures_and_restarts():
    """A digest that fails is sent again in the same bytes, and what ends meanwhile is the next."""
    store, slack = a_store(), FakeSink()
    slack.failure = DeliveryError("down")
    await write(store, *(event("job.succeeded", number) for number in (1, 2)))
    async with dispatching(store, slack=slack):
        await anyio.sleep(WINDOW + 60.0)
    await write(store, *(event("job.succeeded", number) for number in (3, 4)))
    slack.failure = None
    async with dispatching(store, slack=slack):
        await anyio.sleep(3 * WINDOW)

    first, second = [delivery.event for delivery in slack.delivered]
    assert {delivery.event.id for delivery in slack.attempts} == {first.id, second.id}
    assert {delivery.event.body for delivery in slack.attempts} == {first.body, second.body}
    assert [line["job_id"] for line in first.data["events"]] == ["job-1", "job-2"]
    assert [line["job_id"] for line in second.data["events"]] == ["job-3", "job-4"]
    assert statuses(store) == ["delivered"] * 4


async def test_an_event_that_is_alone_is_sent_by_itself():
    """After the window a single event is sent as it is: a digest would say less."""
    store, slack = a_store(), FakeSink()
    alone = event("job.succeeded", 1, status="SUCCEEDED")
    await write(store, alone)
    async with dispatching(store, slack=slack):
        await anyio.sleep(WINDOW - 10.0)
        assert slack.delivered == []
        await anyio.sleep(20.0)

    assert [delivery.event.id for delivery in slack.delivered] == [alone.id]
    assert statuses(store) == ["delivered"]


async def test_a_dead_digest_makes_its_events_dead_letters():
    """What a digest stands for is dead with it, can be replayed, and comes as the same digest."""
    store, slack = a_store(), FakeSink()
    slack.failure = DeliveryError("no", is_permanent=True)
    ended = [event("job.succeeded", number, status="SUCCEEDED") for number in (1, 2)]
    await write(store, *ended)
    async with dispatching(store, slack=slack) as dispatcher:
        await anyio.sleep(WINDOW + 60.0)
        assert statuses(store) == ["dead", "dead"]
        slack.failure = None
        list(store.admin().replay(EventFilter(sink="slack", state="dead")))
        dispatcher.wake()
        await anyio.sleep(60.0)

    (delivered,) = slack.delivered
    assert delivered.event.id == slack.attempts[0].event.id
    assert statuses(store) == ["delivered", "delivered"]
