"""The steps of SQLite's virtual machine for what must be quick: as many with ten times the rows."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Final

import pytest

from poller.core.budgets import Budget, BudgetKind, Budgets
from poller.core.events import EventOrigin
from poller.core.outbox import DAY, Pruned, WriteBatch
from poller.core.routing import Route
from poller.core.state import Phase
from poller.store import admin as admin_module
from poller.store import database, figures, opening
from poller.store import overview as overview_module
from poller.store.admin import StoreAdmin
from poller.store.connection import connect
from poller.store.costs import GROUPS, STATUS
from poller.store.figures import read_figures
from poller.store.filters import EventFilter
from poller.store.overview import JobFilter, events_of_job, jobs_in_states, last_deliveries
from poller.store.pagination import events_page, jobs_page, watched_page
from poller.store.report import ReportQuery
from poller.store.sqlite import SqliteStore
from poller.store.stored_costs import StoredCosts
from tests.support.builders import FINAL, a_job
from tests.support.large_database import DEPLOYMENT, Contents, make_large_database
from tests.support.store_builders import HOOK, a_state, a_store, an_event, deferred, due

FEW: Final = Contents(jobs=180, delivered=60, dead=60, pending=60)
MANY: Final = Contents(jobs=1_800, delivered=600, dead=600, pending=600)
JOB: Final = "job-00000001"

Verb = Callable[[SqliteStore, StoreAdmin], Awaitable[Any]]


def page(read_page: Callable[..., Any], **wanted: Any) -> Verb:
    """Return a verb that reads the first page of a list."""

    async def verb(_store: SqliteStore, admin: StoreAdmin) -> None:
        assert read_page(admin, EventFilter(limit=10, **wanted)).rows

    return verb


async def open_again(store: SqliteStore, _admin: StoreAdmin) -> None:
    """Read what a start reads of all jobs and deliveries."""
    await store.backlogs()
    await store.load_states([JOB])
    await store.unfinished_ids()


async def send(store: SqliteStore, _admin: StoreAdmin) -> None:
    """Write a state and an event, and read and settle deliveries as a worker does."""
    await store.write(WriteBatch(states=[a_state()], events=[an_event()]))
    found = await due(store, time.time(), limit=5)
    found += await due(store, time.time(), limit=1, early=True)
    await store.settle([deferred(delivery, time.time() + 60.0) for delivery in found])


async def sweep(store: SqliteStore, _admin: StoreAdmin) -> None:
    """Delete old rows where there are none."""
    assert await store.prune(time.time() - 500 * DAY, []) == Pruned()


async def status(_store: SqliteStore, admin: StoreAdmin) -> None:
    """Read the status."""
    assert admin.status().jobs


async def show(_store: SqliteStore, admin: StoreAdmin) -> None:
    """Show a job, and an event by a prefix of its id."""
    (row,) = admin.jobs(EventFilter(job=JOB))
    assert row["job_id"] == JOB
    event, *_ = events_page(admin, EventFilter(limit=1)).rows
    assert admin.event(event["id"][:16])["deliveries"]


async def replay(_store: SqliteStore, admin: StoreAdmin) -> None:
    """Replay an event."""
    event, *_ = events_page(admin, EventFilter(limit=1)).rows
    assert [*admin.replay(EventFilter(event_ids=[event["id"]], sink=HOOK))]


async def watched(_store: SqliteStore, admin: StoreAdmin) -> None:
    """Read a page of watched jobs."""
    assert watched_page(admin, EventFilter(limit=10), None, watched={JOB, "job-x"}).rows


async def end_elsewhere(store: SqliteStore, _admin: StoreAdmin) -> None:
    """Write the end of a recorded job under another name of its deployment."""
    store._deployment = "elsewhere.example"
    job = replace(a_job("SUCCEEDED", **FINAL), job_id=JOB)
    state = a_state(JOB, phase=Phase.DONE, status=job.status, job=job)
    await store.write(WriteBatch(states=[state]))


async def overview(_store: SqliteStore, admin: StoreAdmin) -> None:
    """Read what the page has of the history."""
    assert jobs_in_states(
        admin, JobFilter(states=("FAILED", "SUCCEEDED", "RUNNING"), limit=10)
    ).rows
    assert last_deliveries(admin)
    assert events_of_job(admin, JOB, 10)


async def report(store: SqliteStore, _admin: StoreAdmin) -> None:
    """Read a daily report: of the minutes in which no job of the history has ended."""
    query = ReportQuery(since=time.time() + 60.0, until=time.time() + 120.0, watched=[JOB, "job-x"])
    assert await store.report(query)


async def search(_store: SqliteStore, admin: StoreAdmin) -> None:
    """Search the history for a name that no job has."""
    wanted = JobFilter(states=("FAILED", "SUCCEEDED"), name="x-", limit=10)
    assert jobs_in_states(admin, wanted).after


VERBS: Final[dict[str, Verb]] = {
    "start": open_again,
    "send": send,
    "sweep": sweep,
    "status": status,
    "show": show,
    "replay": replay,
    "watched": watched,
    "jobs": page(jobs_page),
    "jobs by state": page(jobs_page, state="FAILED"),
    "overview": overview,
    "search": search,
    "report": report,
    "events": page(events_page),
    "events by type": page(events_page, type="job.succeeded"),
    "events of a job": page(events_page, job=JOB),
    "end elsewhere": end_elsewhere,
}


class Steps:
    """Counts the steps of all connections; not those of the check of the file in a thread."""

    def __init__(self) -> None:
        self.count = 0

    def connect(self, path: Path, mode: str, timeout: float) -> Any:
        """Open a connection whose steps count."""
        db = connect(path, mode, timeout)
        db.set_progress_handler(self._step, 1)
        return db

    def _step(self) -> int:
        self.count += current_thread() is main_thread()
        return 0


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Count steps. The time limits, which need the only handler of a connection, are off."""
    counted = Steps()
    for module in (database, opening, admin_module):
        monkeypatch.setattr(module, "connect", counted.connect)
    monkeypatch.setattr(admin_module, "time_limit", lambda *_: nullcontext())
    monkeypatch.setattr(database, "interrupt_when", lambda *_: None)
    return counted


async def test_steps_do_not_grow_with_the_history(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start, a delivery, a sweep and each page take as many steps with ten times the rows."""
    for limit in ("READ_JOBS", "READ_DELIVERIES"):
        monkeypatch.setattr(overview_module, limit, 100)
    counts: dict[str, list[int]] = {name: [] for name in VERBS}
    for contents in (FEW, MANY):
        path = tmp_path / f"{contents.jobs}.db"
        make_large_database(path, contents)
        routes = dict.fromkeys(contents.sinks, Route(types=frozenset({"job.succeeded"})))
        async with a_store(path, time.time, routes=routes, in_thread=False) as store:
            for name, verb in VERBS.items():
                before = steps.count
                await verb(store, store.admin())
                counts[name].append(steps.count - before)

    grown = {name: pair for name, pair in counts.items() if pair[1] > 1.1 * pair[0]}
    assert not grown


async def test_steps_of_costs_do_not_grow_with_the_jobs(tmp_path: Path, steps: Steps) -> None:
    """The sums of whole days take as many steps with ten times the jobs in the same days."""
    counts: dict[tuple[str, float], list[int]] = {}
    for jobs in (400, 4_000):
        path = tmp_path / f"{jobs}.db"
        make_large_database(path, Contents(jobs=jobs, job_days=20.0))
        for by, days in product((group for group in GROUPS if group != STATUS), (0, 10)):
            before = steps.count
            assert StoreAdmin(path).costs(by, days and time.time() // DAY * DAY - days * DAY)
            counts.setdefault((by, days), []).append(steps.count - before)

    grown = {name: pair for name, pair in counts.items() if pair[1] > 1.1 * pair[0]}
    assert not grown


def test_steps_of_a_budget_do_not_grow_with_the_history(tmp_path: Path, steps: Steps) -> None:
    """The sum of a month takes as many steps with ten times the months before it."""
    counts, moment = [], datetime(2026, 11, 20, 12, tzinfo=UTC)
    for months in (2, 20):
        path = tmp_path / f"{months}.db"
        contents = Contents(jobs=300 * months, job_days=30.0 * months)
        make_large_database(path, contents, now=moment.timestamp())
        budgets = [
            Budget(kind=kind, limit=Decimal(1), thresholds=(Decimal(50),)) for kind in BudgetKind
        ]
        every = Budgets(budgets, EventOrigin(deployment=DEPLOYMENT), UTC)
        before = steps.count
        StoreAdmin(path).read(
            lambda db, every=every: every.states(StoredCosts(db, DEPLOYMENT), moment)
        )
        counts.append(steps.count - before)

    assert counts[1] < 1.2 * counts[0]


def test_steps_of_figures_are_few_for_each_job(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the newest jobs, whose run times are read, another end costs a few steps of an index.

    Of 100,000 ends it is less than half a million steps, which take 10 ms.
    """
    monkeypatch.setattr(figures, "READ_JOBS", 100)
    counts = []
    for jobs in (200, 2_200):
        path = tmp_path / f"{jobs}.db"
        make_large_database(path, Contents(jobs=jobs, delivered=60, job_days=28.0))
        before = steps.count
        read_figures(StoreAdmin(path), time.time())
        counts.append(steps.count - before)

    assert counts[1] - counts[0] < 5 * 2_000
