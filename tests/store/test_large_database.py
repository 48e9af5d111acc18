"""The databases that other tests and the benchmark make by SQL."""

import time
from pathlib import Path

from poller.core.outbox import DeliveryStatus
from poller.core.routing import Route
from poller.store.filters import EventFilter
from tests.support.builders import check_event
from tests.support.large_database import Contents, make_large_database
from tests.support.store_builders import HOOK, a_store, due


async def test_large_database_looks_as_if_the_daemon_had_written_it(path: Path) -> None:
    """Every event is intact and matches the schema, and each kind has its number of rows."""
    contents = Contents(jobs=40, delivered=5, dead=6, pending=20, sinks=[HOOK, "webhook.audit"])

    make_large_database(path, contents)

    async with a_store(
        path, time.time, routes=dict.fromkeys(contents.sinks, Route(types=frozenset()))
    ) as store:
        found = await due(store, time.time() + 7200.0, limit=99)
        states = await store.load_states(["job-00000040"])
    admin = store.admin()
    dead = [*admin.deliveries(EventFilter(state=DeliveryStatus.DEAD))]
    assert [check_event(delivery.event.body)["type"] for delivery in found].count("job.failed") == 2
    assert all(delivery.is_intact for delivery in found)
    assert [state.job.is_final for state in states] == [True]
    assert {delivery.event.subject for delivery in found} >= {"job-00000021", "job-00000040"}
    assert admin.status().jobs == {"FAILED": 4, "SUCCEEDED": 36}
    assert [(sink["pending"], sink["dead"]) for sink in admin.sinks()] == [(20, 6)] * 2
    assert len([*admin.events(EventFilter())]) == 31
    assert {row["reason"] for row in dead} == {"the receiver returned 400"}
