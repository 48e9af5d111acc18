"""A world that looks into the database whenever an event comes: only what is in it may be sent."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tests.fault_injection.world import World
from tests.support.run_checker import Arrival, examine


@dataclass
class StrictWorld(World):
    """A world of jobs that each have a database of their own."""

    stores: dict[str, Path] = field(default_factory=dict)
    uncommitted: list[str] = field(default_factory=list)

    def note(self, request: web.Request, body: bytes) -> Arrival | None:
        """Note what came, and whether it had been committed before it was sent."""
        arrival = super().note(request, body)
        if arrival and not _ask(self.stores[arrival.job_id], HOLDS, arrival.event_id):
            self.uncommitted.append(f"uncommitted: {arrival.type} of {arrival.job_id}")
        return arrival

    def is_over(self, job_id: str) -> bool:
        """Tell whether all of a job is told, and the database says so too."""
        return self.jobs[job_id].is_told and not _ask(self.stores[job_id], PENDING)

    def violations(self, job_id: str, begins: list[float]) -> list[str]:
        """Name what is wrong with a job when all is over."""
        shown = [it for it in self.shown if it.job_id == job_id]
        arrivals = [it for it in self.arrivals if it.job_id == job_id]
        found = examine(shown, arrivals, begins=begins, store=self.stores[job_id]).violations
        numbers = {it.event_id: it.sequence for it in arrivals}.values()
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            found.append(f"numbers: {sorted(numbers)}")
        return [f"{job_id}: {it}" for it in found]


HOLDS = "SELECT count(*) FROM events WHERE id = ?"
PENDING = "SELECT count(*) FROM deliveries WHERE status = 'pending'"


def _ask(store: Path, statement: str, *values: str) -> int:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        found: int = db.execute(statement, values).fetchone()[0]
    return found
