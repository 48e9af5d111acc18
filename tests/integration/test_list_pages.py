"""Pages of the account's list, through the whole product: fewer requests, nothing else changed."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.pacing import PollPolicy
from poller.core.state import Phase
from poller.sutro.port import Observation
from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, application
from tests.support.builders import a_job
from tests.support.fakes import FakeSource, a_store, a_watcher, recorded_types, settled
from tests.support.running_app import KEY, Receiver, an_app, running_app, served, served_app
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=40_000.0)

HOUR: Final = 3_600.0
SLOW: Final = {"POLLER_INTERVAL_FACTOR": "2", "POLLER_MAX_INTERVAL": "5m"}


@dataclass
class Account:
    """An account with some jobs, the daemon that watches them, and what it delivered."""

    api: Simulator
    receiver: Receiver = field(default_factory=Receiver)

    @property
    def ends(self) -> list[str]:
        """Return the ids of the jobs whose ends were delivered, in the order of their names."""
        return sorted(event["data"]["job"]["job_id"] for event in self.receiver.events)

    @property
    def requests(self) -> tuple[int, int]:
        """Return the numbers of GETs and of pages."""
        return self.api.requests["jobs"], self.api.requests["list-jobs"]


@asynccontextmanager
async def account(*scripts: JobScript, watched: int, **changes: Any) -> AsyncIterator[Account]:
    """Watch the newest of an account's jobs, at a slow pace, while the block runs."""
    clock, settings = virtual_clock(), SLOW | changes
    it = Account(Simulator(now=clock.steady, key=KEY))
    for script in scripts:
        it.api.add(script)
    ids = [script.job_id for script in scripts][-watched:]
    async with served_app(application(it.api)) as url, served(it.receiver.take) as hook:
        app = an_app(f"{url}/v1", hook, clock=clock, POLLER_JOB_IDS=",".join(ids), **settings)
        async with running_app(app):
            yield it


def jobs(count: int, *, prefix: str = "job", **fields: Any) -> list[JobScript]:
    """Return jobs that run for an hour by default, a second longer each."""
    given = {"queue_seconds": 0.0, "run_seconds": HOUR} | fields
    seconds = given.pop("run_seconds")
    return [
        JobScript(job_id=f"{prefix}-{number:03}", run_seconds=seconds + number, **given)
        for number in range(count)
    ]


async def watched(*scripts: JobScript, count: int, seconds: float, **changes: Any) -> Account:
    """Watch for some time."""
    async with account(*scripts, watched=count, **changes) as it:
        await anyio.sleep(seconds)
    return it


async def test_list_pages_poll_many_jobs_at_once():
    """Ten jobs share each page, and have a GET of their own every ten minutes: no end is lost."""
    alone = await watched(*jobs(10), count=10, seconds=2 * HOUR, POLLER_LIST_PAGES="off")
    shared = await watched(*jobs(10), count=10, seconds=2 * HOUR)

    assert shared.ends == alone.ends == [f"job-{number:03}" for number in range(10)]
    assert sum(alone.requests) > 500
    assert shared.requests[1] < 200
    assert shared.requests[0] < 90


async def test_list_that_stays_stale_hides_no_end():
    """A job that the list shows as running for ever is found ended by a GET of its own."""
    async with account(*jobs(10), watched=10) as it:
        await anyio.sleep(HOUR / 2)
        for _ in range(300):
            it.api.list_delay += 10.0
            await anyio.sleep(10.0)

    singles, pages = it.requests
    assert it.ends == [f"job-{number:03}" for number in range(10)]
    assert singles < 200 < 2 * pages


async def test_rows_that_are_behind_cost_no_lag():
    """Jobs whose rows stay as they were at first are polled alone: their ends come as soon."""
    scripts = jobs(10, queue_seconds=30.0, run_seconds=600.0, is_row_stuck=True)
    async with account(*scripts, watched=10, POLLER_INTERVAL_FACTOR="0.6") as it:
        await anyio.sleep(700.0)

    assert it.ends == [f"job-{number:03}" for number in range(10)]


async def test_list_that_lags_for_seconds_is_trusted_again():
    """A row that has caught up with what a GET showed is as good as before."""
    async with account(*jobs(10, queue_seconds=30.0), watched=10) as it:
        it.api.list_delay = 45.0
        await anyio.sleep(HOUR)

    singles, pages = it.requests
    assert singles < 150 < 3 * pages


async def test_list_pages_are_not_used_for_one_job():
    """A page shows a single watched job no better than a GET does."""
    it = await watched(*jobs(30), count=1, seconds=1.5 * HOUR)

    assert it.requests[1] == 0


async def test_list_pages_reach_past_other_jobs():
    """Watched jobs below a hundred others are found by following pages."""
    others = jobs(250, prefix="other")
    async with account(*jobs(20), watched=20) as it:
        for script in others:
            it.api.add(script)
        await anyio.sleep(1.5 * HOUR)

    singles, pages = it.requests
    assert len(it.ends) == 20
    assert singles < 250
    assert pages < 400


async def test_list_pages_follow_jobs_that_are_pushed_down():
    """While the list grows on top nothing is lost and nothing is announced twice."""
    async with account(*jobs(40), watched=40) as it:
        for number in range(300):
            await anyio.sleep(20.0)
            it.api.add(JobScript(job_id=f"other-{number}"))

    assert it.ends == [f"job-{number:03}" for number in range(40)]


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_rejected_list_is_replaced_by_gets(status: int):
    """Where the list is rejected each job is polled alone, and the list ever more seldom."""
    async with account(*jobs(5, run_seconds=3 * HOUR), watched=5) as it:
        it.api.faults.append(Fault(status=status, count=10_000, path="list-jobs"))
        await anyio.sleep(1.9 * HOUR)
        rejected = it.requests[1]
        it.api.faults.clear()
        await anyio.sleep(2 * HOUR)

    assert rejected == 6
    assert it.requests[1] > 10
    assert len(it.ends) == 5


async def test_broken_list_is_replaced_by_gets():
    """Where pages fail and GETs work, the list is left alone; no end waits for it."""
    async with account(*jobs(5), watched=5) as it:
        it.api.faults.append(Fault(status=500, count=10_000, path="list-jobs"))
        await anyio.sleep(1.2 * HOUR)

    assert it.requests[1] < 8
    assert len(it.ends) == 5


async def test_list_pages_cost_no_more_in_an_outage():
    """While everything fails there are at most 1.1 times as many requests as before."""
    async with account(*jobs(50, run_seconds=8 * HOUR), watched=50) as it:
        await anyio.sleep(2 * HOUR)
        before = sum(it.requests)
        await anyio.sleep(HOUR)
        healthy = sum(it.requests) - before
        it.api.faults.append(Fault(status=500, count=100_000))
        await anyio.sleep(HOUR)
        failed = sum(it.requests) - before - healthy

    assert failed <= 1.1 * healthy


@pytest.mark.parametrize(
    ("known", "phase"), [("RUNNING", Phase.ACTIVE), ("SUCCEEDED", Phase.SETTLING)]
)
async def test_lagging_list_moves_no_job_back(known: str, phase: Phase):
    """An earlier status on a page is neither a regression nor a way back from the end."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=PollPolicy(minimum=8.0, maximum=8.0))
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.run)
            await watcher.watch(["job-1"])
            await settled()
            await source.answer(a_job(known), requested_at=clock.steady())
            for _ in range(2):
                await anyio.sleep(9.0)
                await source.answer(a_job("QUEUED"), requested_at=clock.steady(), from_list=True)
            state = watcher.tracker["job-1"]
            group.cancel_scope.cancel()

    assert not [it for it in logs if it["event"] == "job.regressed"]
    assert (state.phase, state.job.status) == (phase, known)


async def test_page_that_was_overtaken_is_trusted():
    """A row is not behind if its page was requested before the response that shows more."""
    clock = virtual_clock()
    watcher = a_watcher(FakeSource(clock), a_store(), clock)
    await watcher.watch(["job-1"])
    for word, seconds in [("RUNNING", 1.0), ("QUEUED", 2.0)]:
        at = clock.steady() - seconds
        await watcher.ingest([Observation("job-1", at, a_job(word), from_list=True)])

    assert watcher._scheduler.queue.is_batchable("job-1")


async def test_unknown_status_on_a_page_is_logged():
    """An unknown status is logged, though pages alone show it."""
    clock, store = virtual_clock(), a_store()
    source = FakeSource(clock)
    watcher = a_watcher(source, store, clock, policy=PollPolicy(minimum=8.0, maximum=8.0))
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await watcher.watch(["job-1"])
        await settled()
        await source.answer(a_job("RUNNING"), requested_at=clock.steady())
        odd = a_job("EXPIRED", datetime_completed="2024-01-15T10:00:00Z")
        for _ in range(2):
            await watcher.ingest([Observation("job-1", clock.steady(), odd, from_list=True)])
            await anyio.sleep(700.0)
        group.cancel_scope.cancel()

    assert recorded_types(store) == ["job.started", "job.unrecognised"]


async def test_settling_jobs_are_polled_alone():
    """A page delays no poll of a job whose cost is awaited, and brings the cost if it shows it."""
    scripts = [*jobs(5, run_seconds=600.0), *jobs(1, prefix="late", run_seconds=300.0)]
    scripts[-1] = replace(scripts[-1], cost_delay=12.0)
    async with account(*scripts, watched=6, POLLER_INTERVAL_FACTOR="0.6") as it:
        await anyio.sleep(340.0)
        polled = [entry.at for entry in it.api.log if entry.path.endswith("/jobs/late-000")]

    (event,) = it.receiver.events
    assert event["data"]["final"] is True
    assert [round(at - polled[-3]) for at in polled[-3:]] == [0, 2, 6]


async def test_late_costs_take_two_gets_in_an_hour():
    """An end without a cost has two GETs in its first hour, or one if a page brings the cost."""
    late = jobs(5, prefix="late", ends_as="cancelled", run_seconds=300.0, cost_delay=1_500.0)
    never = [replace(script, job_id=f"never-{script.job_id}", cost_delay=1e6) for script in late]
    scripts = [*jobs(3, run_seconds=3 * HOUR), *late, *never]
    async with account(*scripts, watched=13) as it:
        await anyio.sleep(350.0)
        it.api.log.clear()
        await anyio.sleep(HOUR)
        gets = Counter(entry.path.partition("/jobs/")[2] for entry in it.api.log)

    times = [at for at, _, body in it.receiver.got if b"job.settled" in body]
    assert [gets[script.job_id] for script in (*late, *never)] == [1] * 5 + [2] * 5
    assert len(times) == 5
    assert max(times) < 1_800.0 + 300.0 + 30.0


async def test_burst_of_unknown_ids_holds_up_no_page():
    """While hundreds of ids that the API does not know are new, an end is detected as soon."""
    clock, receiver = virtual_clock(), Receiver()
    api = Simulator(now=clock.steady, key=KEY)
    scripts = [*jobs(20, run_seconds=650.0), *jobs(3, prefix="long")]
    for script in scripts:
        api.add(script)
    ids = ",".join(script.job_id for script in scripts)
    async with served_app(application(api)) as url, served(receiver.take) as hook:
        app = an_app(f"{url}/v1", hook, clock=clock, POLLER_JOB_IDS=ids)
        async with running_app(app):
            await anyio.sleep(600.0)
            app._watchlist.add(f"new-{number}" for number in range(500))
            await anyio.sleep(50.0 + 45.0)

    assert len(receiver.events) == 20


async def test_failing_page_is_logged_once():
    """One page that fails is one failure, however many jobs it was to show."""
    with capture_logs() as logs:
        async with account(*jobs(50, run_seconds=8 * HOUR), watched=50) as it:
            await anyio.sleep(300.0)
            it.api.faults.append(Fault(status=500, count=1, path="list-jobs"))
            await anyio.sleep(60.0)

    assert [line["event"] for line in logs].count("poll.failed") == 1
