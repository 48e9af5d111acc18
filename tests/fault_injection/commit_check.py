"""Servers that check with each event whether it was committed before it was sent."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tests.fault_injection.fake_servers import FakeServers
from tests.support.run_checker import ReceivedEvent, check_run


@dataclass
class CommitCheckingServers(FakeServers):
    """Servers for jobs that each have a database of their own."""

    stores: dict[str, Path] = field(default_factory=dict)
    uncommitted: list[str] = field(default_factory=list)

    def record(self, request: web.Request, body: bytes) -> ReceivedEvent | None:
        """Record what arrived, and whether it had been committed before it was sent."""
        arrival = super().record(request, body)
        if arrival and not _count(self.stores[arrival.job_id], EVENTS_BY_ID, arrival.event_id):
            self.uncommitted.append(f"uncommitted: {arrival.type} of {arrival.job_id}")
        return arrival

    def is_finished(self, job_id: str) -> bool:
        """Return whether all events of a job are acknowledged, also in the database."""
        return self.jobs[job_id].is_reported and not _count(self.stores[job_id], PENDING_DELIVERIES)

    def violations(self, job_id: str, begins: list[float]) -> list[str]:
        """Return what is wrong with a job once everything is over."""
        expected = [expected for expected in self.expected if expected.job_id == job_id]
        received = [event for event in self.received if event.job_id == job_id]
        found = check_run(expected, received, begins=begins, store=self.stores[job_id]).violations
        numbers = {event.event_id: event.sequence for event in received}.values()
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            found.append(f"numbers: {sorted(numbers)}")
        return [f"{job_id}: {line}" for line in found]


EVENTS_BY_ID = "SELECT count(*) FROM events WHERE id = ?"
PENDING_DELIVERIES = "SELECT count(*) FROM deliveries WHERE status = 'pending'"


def _count(store: Path, statement: str, *values: str) -> int:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        found: int = db.execute(statement, values).fetchone()[0]
    return found
