"""Digests in the store: what waits for one, what is gathered, and what ends with it."""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poller.core.events import DIGEST, Event, digest_event
from poller.core.outbox import DeliveryStatus, WriteBatch
from poller.core.retry import MAX_DELIVERY_AGE
from poller.core.routing import Route
from poller.store import recount
from poller.store.connection import connect
from poller.store.filters import EventFilter
from tests.support import event_builders
from tests.support.builders import a_job
from tests.support.event_builders import OBSERVED, ORIGIN
from tests.support.store_builders import (
    HOOK,
    ManualClock,
    a_store,
    an_event,
    dead,
    deferred,
    delivered,
    due,
    event_ids,
)

WINDOW = 300.0
DIGESTED = Route(types=frozenset({"job.started", "job.succeeded", "job.failed"}), digest=WINDOW)
DIGEST_ID = "evt_digest"
Row = dict[str, Any]


def a_digest_store(path: Path, now: ManualClock, **changes: Any) -> Any:
    """Return a store whose webhook gets digests."""
    return a_store(path, now, routes={HOOK: replace(DIGESTED, **changes)}, in_thread=False)


def digest_of(events: Sequence[Event]) -> Event:
    """Return a digest; its body has the ids of the events."""
    names = ",".join(event.id for event in events)
    return an_event(
        "digest", subject="poller", type=DIGEST, body=f'{{"data":{{"of":"{names}"}}}}'.encode()
    )


async def write(store: Any, *names: str, kind: str = "job.succeeded") -> None:
    """Record one event of each of some jobs."""
    events = [an_event(name, subject=f"job-{name}", type=kind) for name in names]
    await store.write(WriteBatch(events=events))


async def gather(store: Any, *, early: bool = False) -> list[str]:
    """Gather a digest, and return the ids of the events that are due."""
    await store.gather_digest(HOOK, digest_of, early=early)
    return await event_ids(store, store._now())


def rows(store: Any) -> dict[str, str]:
    """Return the status of all deliveries by the id of the event."""
    return {row["event_id"]: row["status"] for row in store.admin().deliveries(EventFilter())}


def is_right(store: Any) -> bool:
    """Return whether all counts, and the first delivery of each job, are right."""
    with closing(connect(store._path, "ro")) as db:
        return not recount.find_wrong(db)


async def test_events_wait_for_the_end_of_the_window(path: Path, now: ManualClock) -> None:
    """The window begins with the first event; its end makes one digest of all."""
    async with a_digest_store(path, now) as store:
        await write(store, "1")
        now.advance(WINDOW - 1.0)
        await write(store, "2", "3")
        assert await gather(store) == []
        now.advance(1.0)
        assert await gather(store) == [DIGEST_ID]
        (digest,) = await due(store, now())
        await store.settle([delivered(digest)])

        assert digest.event.data == {"of": "evt_1,evt_2,evt_3"}
        assert set(rows(store).values()) == {"delivered"}
        assert is_right(store)
        assert [backlog.pending for backlog in await store.backlogs()] == [0]


async def test_a_pending_digest_is_never_changed(path: Path, now: ManualClock) -> None:
    """What waits when a digest is gathered is in the next one, also after failed attempts."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
        (digest,) = await due(store, now())
        await store.settle([deferred(digest, now() + 5.0)])
        await write(store, "3", "4")
        now.advance(2 * WINDOW)

        assert await gather(store) == [DIGEST_ID]
        (again,) = await due(store, now())
        assert again.event.body == digest.event.body
        await store.settle([delivered(again)])
        assert rows(store)["evt_3"] == "pending"


async def test_digest_is_settled_with_its_events(path: Path, now: ManualClock) -> None:
    """The events of a digest that dies are the dead letters, with its reason; it is none."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
        await store.settle([dead(delivery) for delivery in await due(store, now())])

        letters = list(store.admin().deliveries(EventFilter(state=DeliveryStatus.DEAD)))
        assert {row["event_id"]: row["reason"] for row in letters} == {
            "evt_1": "HTTP 400",
            "evt_2": "HTTP 400",
        }
        assert rows(store).keys() == {"evt_1", "evt_2"}
        assert is_right(store)


async def test_dead_digest_shows_what_it_shows_of_the_sink(path: Path, now: ManualClock) -> None:
    """An outage is recorded also if the outcome that shows it is that of a dead digest."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
        (digest,) = await due(store, now())
        await store.settle([replace(dead(digest, "HTTP 401"), is_sink_fault=True)])

        (backlog,) = await store.backlogs()
        assert (backlog.failing_since, backlog.reason) == (now(), "HTTP 401")


async def test_next_attempt_of_what_waits_is_the_digest(path: Path, now: ManualClock) -> None:
    """What waits is shown with the time at which its digest is due."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")

        shown = [row["next_attempt_at"] for row in store.admin().deliveries(EventFilter())]

    assert shown == ["2024-01-15T12:05:00Z"] * 2


async def test_replayed_events_are_gathered_again(path: Path, now: ManualClock) -> None:
    """Dead letters of a digest that are replayed are one message again, at once."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
        await store.settle([dead(delivery) for delivery in await due(store, now())])
        list(store.admin().replay(EventFilter(sink=HOOK, state=DeliveryStatus.DEAD)))

        assert await gather(store) == [DIGEST_ID]
        await store.settle([delivered(delivery) for delivery in await due(store, now())])
        assert set(rows(store).values()) == {"delivered"}
        assert is_right(store)


async def test_sink_that_is_enabled_again_gets_a_digest(path: Path, now: ManualClock) -> None:
    """What waits for a digest is dead while its sink is disabled, and then in the next one."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
        await write(store, "3")
        await store.disable_sink(HOOK, "gone")
        assert rows(store) == dict.fromkeys(("evt_1", "evt_2", "evt_3"), "dead")
        assert await gather(store, early=True) == []
        assert is_right(store)
        list(store.admin().enable_sink(HOOK) or ())

        assert await gather(store, early=True) == [DIGEST_ID]
        (digest,) = await due(store, now())
        assert digest.event.data == {"of": "evt_1,evt_2,evt_3"}
        assert is_right(store)


async def test_old_events_of_a_digest_die_with_it(path: Path, now: ManualClock) -> None:
    """After seven days of failures a digest ends with its events, none of which ends before it."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
        for _ in range(8):
            now.advance(86_400.0)
            await store.record_hang(HOOK, "no response")
            await store.dead_letter_expired(HOOK)
            assert len(set(rows(store).values())) == 1

    assert now() - MAX_DELIVERY_AGE > WINDOW
    async with a_digest_store(path, now) as store:
        assert rows(store) == {"evt_1": "dead", "evt_2": "dead"}
        assert is_right(store)


async def test_urgent_event_takes_along_what_precedes_it(path: Path, now: ManualClock) -> None:
    """A failure is due at once, after what waits of the same job."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2", kind="job.started")
        failed = an_event("3", subject="job-1", type="job.failed")
        await store.write(WriteBatch(events=[failed]))

        assert await event_ids(store, now()) == ["evt_1"]
        await store.settle([delivered(delivery) for delivery in await due(store, now())])
        assert await event_ids(store, now()) == ["evt_3"]
        assert is_right(store)


async def test_damaged_event_is_not_gathered(path: Path, now: ManualClock) -> None:
    """An event whose body is damaged is sent, and reported, by itself."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2", "3")
        store.admin().change(
            lambda db: db.execute("UPDATE events SET body = x'00' WHERE id = 'evt_2'")
        )
        now.advance(WINDOW)
        await store.gather_digest(HOOK, digest_of)

        found = {delivery.event.id: delivery for delivery in await due(store, now())}
        assert found.keys() == {"evt_2", DIGEST_ID}
        assert not found["evt_2"].is_intact
        assert found[DIGEST_ID].event.data == {"of": "evt_1,evt_3"}


@pytest.mark.parametrize("digest", [0.0, 60.0])
async def test_changed_window_counts_for_what_waits(
    path: Path, now: ManualClock, digest: float
) -> None:
    """Without a window what waits is sent one by one, with a shorter one as soon as that has it."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
    async with a_digest_store(path, now, digest=digest) as store:
        if digest:
            assert await gather(store) == []
            now.advance(digest)
            assert await gather(store) == [DIGEST_ID]
        else:
            assert await event_ids(store, now()) == ["evt_1", "evt_2"]
        assert is_right(store)


async def test_gathered_digest_survives_the_setting(path: Path, now: ManualClock) -> None:
    """A digest that may have been sent is sent again, also when the sink has no window any more."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        now.advance(WINDOW)
        await gather(store)
    async with a_digest_store(path, now, digest=0.0) as store:
        (digest,) = await due(store, now())
        await store.settle([delivered(digest)])

        assert digest.event.id == DIGEST_ID
        assert set(rows(store).values()) == {"delivered"}


async def test_what_waits_for_its_digest_is_not_late(path: Path, now: ManualClock) -> None:
    """The age of the oldest pending event leaves out those that wait; they are counted."""
    async with a_digest_store(path, now) as store:
        await write(store, "1", "2")
        (backlog,) = await store.backlogs()
        assert (backlog.pending, backlog.oldest_pending_at) == (2, None)
        assert [row["oldest_at"] for row in store.admin().sinks()] == [None]
        now.advance(WINDOW)
        await gather(store)

        (backlog,) = await store.backlogs()
        assert backlog.oldest_pending_at == now()


def job_event(number: int) -> Event:
    """Return the event of one of some jobs."""
    job_id = f"job-{number}"
    return event_builders.an_event("job.succeeded", job_id=job_id, job=a_job(job_id=job_id))


class KilledError(BaseException):
    """The process ends here."""


def end_after(store: Any, transactions: int) -> None:
    """Let the process end after some transactions: what follows them never happens."""
    real, left = store._database.transact, iter(range(transactions))

    def transact(work: Any) -> Any:
        result = real(work)
        if next(left, None) is None:
            raise KilledError
        return result

    store._database.transact = transact


async def deliver(store: Any, now: ManualClock, sent: list[Event]) -> None:
    """Gather, send and settle all that is due, as a worker does."""
    now.advance(WINDOW)
    for _ in range(3):
        await store.gather_digest(
            HOOK, lambda events: digest_event(events, ORIGIN, OBSERVED, sink=HOOK)
        )
        for delivery in await due(store, now()):
            sent.append(delivery.event)
            await store.settle([delivered(delivery)])


@pytest.mark.parametrize("transactions", range(8))
async def test_end_between_any_two_transactions_loses_nothing(
    path: Path, now: ManualClock, transactions: int
) -> None:
    """Whatever a process has written when it is killed, each event is sent under one id."""
    sent: list[Event] = []
    async with a_digest_store(path, now) as store:
        await store.write(WriteBatch(events=[job_event(number) for number in (1, 2, 3)]))
        end_after(store, transactions)
        with suppress(KilledError):
            await deliver(store, now, sent)
    async with a_digest_store(path, now) as store:
        await store.write(WriteBatch(events=[job_event(number) for number in (4, 5)]))
        await deliver(store, now, sent)
        statuses = rows(store)

    assert set(statuses.values()) == {"delivered"}
    assert len({event.body for event in sent}) == len({event.id for event in sent})
    carriers: dict[str, set[str]] = {
        line["id"]: set() for event in sent for line in event.data["events"]
    }
    for event in sent:
        for line in event.data["events"]:
            carriers[line["id"]].add(event.id)
    assert carriers.keys() == {job_event(number).id for number in (1, 2, 3, 4, 5)}
    assert all(len(ids) == 1 for ids in carriers.values())
