"""The values that triggers keep: counts of deliveries and jobs, and which delivery is the first."""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.core.job_status import JobStatus
from poller.core.outbox import DAY, Outcome, WriteBatch
from poller.core.state import Phase
from poller.store.filters import EventFilter
from poller.store.memory import MemoryStore
from tests.support.store_builders import (
    HOOK,
    LOG,
    ROUTES,
    ManualClock,
    a_state,
    an_event,
    dead,
    deferred,
    delivered,
    due,
)

KEPT: Final = (
    "SELECT name, pending, dead FROM sinks ORDER BY name",
    "SELECT id FROM deliveries WHERE status = 'pending' AND is_head ORDER BY id",
    "SELECT phase, status, jobs FROM job_counts WHERE jobs <> 0 ORDER BY phase, status",
)
COUNTED: Final = (
    """
SELECT name, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'dead')
  FROM sinks
  LEFT JOIN deliveries ON sink = name
 GROUP BY name
 ORDER BY name
""",
    "SELECT min(id) FROM deliveries WHERE status = 'pending' GROUP BY sink, subject ORDER BY 1",
    "SELECT phase, status, count(*) FROM jobs GROUP BY phase, status ORDER BY phase, status",
)

SINKS: Final = st.sampled_from([HOOK, LOG])
JOBS: Final = st.sampled_from(["job-1", "job-2", "job-3"])
TYPES: Final = st.sampled_from(["job.started", "job.succeeded", "job.failed"])
OPERATIONS: Final = st.one_of(
    st.tuples(st.just("record"), JOBS, TYPES),
    st.tuples(st.just("record"), JOBS, TYPES),
    st.tuples(st.just("change"), JOBS, st.sampled_from(Phase), st.sampled_from(sorted(JobStatus))),
    st.tuples(st.just("settle"), SINKS, st.sampled_from(["delivered", "dead", "deferred"])),
    st.tuples(st.just("settle"), SINKS, st.sampled_from(["delivered", "dead", "deferred"])),
    st.tuples(st.sampled_from(["disable", "enable", "expedite", "replay", "drop"]), SINKS),
    st.tuples(st.just("prune"), st.sampled_from([1, 8, 31])),
)


class Actions:
    """The verbs of a store that change what is kept, each by its name."""

    def __init__(self) -> None:
        self.now = ManualClock()
        self.store = MemoryStore(routes=ROUTES, deployment="api.sutro.sh", now=self.now)
        self.recorded = 0

    def read(self, statements: tuple[str, ...]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of some queries."""

        def work(db: sqlite3.Connection) -> list[list[tuple[Any, ...]]]:
            return [[tuple(row) for row in db.execute(statement)] for statement in statements]

        return self.store.transact(work)

    async def record(self, job_id: str, event_type: str) -> None:
        """Record an event of a job."""
        self.recorded += 1
        event = an_event(str(self.recorded), job_id, type=event_type)
        await self.store.write(WriteBatch(events=[event]))

    async def change(self, job_id: str, phase: Phase, status: JobStatus) -> None:
        """Write the state of a job."""
        state = a_state(job_id, phase=phase, status=status)
        await self.store.write(WriteBatch(states=[state]))

    async def settle(self, sink: str, outcome: str) -> None:
        """Settle what is due at a sink."""
        later = self.now() + 60.0
        outcomes: dict[str, Callable[..., Outcome]] = {
            "delivered": delivered,
            "dead": dead,
            "deferred": lambda delivery: deferred(delivery, later),
        }
        found = await due(self.store, self.now(), sink, limit=2)
        await self.store.settle([outcomes[outcome](delivery) for delivery in found])

    async def disable(self, sink: str) -> None:
        """Disable a sink."""
        await self.store.disable_sink(sink, "410")

    async def enable(self, sink: str) -> None:
        """Enable a sink."""
        list(self.store.admin().enable_sink(sink) or ())

    async def expedite(self, sink: str) -> None:
        """Make the deliveries of a sink due."""
        await self.store.expedite(sink, self.now())

    async def replay(self, sink: str) -> None:
        """Replay all deliveries of a sink."""
        list(self.store.admin().replay(EventFilter(sink=sink)))

    async def drop(self, sink: str) -> None:
        """Drop the dead letters of a sink."""
        list(self.store.admin().delete_dead_letters(EventFilter(sink=sink)))

    async def prune(self, days: float) -> None:
        """Delete old rows after some days."""
        await self.store.prune(self.now.advance(days * DAY), [])


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_kept_values_equal_a_recount(operations: list[tuple[Any, ...]]) -> None:
    """After any operations the kept counts and first deliveries are those of a recount."""

    async def run() -> None:
        actions = Actions()
        for name, *arguments in operations:
            await getattr(actions, name)(*arguments)
            assert actions.read(KEPT) == actions.read(COUNTED), name

    anyio.run(run)
