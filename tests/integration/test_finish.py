"""A daemon that ends when nothing is left to do."""

import anyio
import pytest

from poller.core.outbox import SinkBacklog
from poller.core.state import JobState, Phase
from poller.polling import watchlist
from poller.polling.completion import wait_until_complete
from poller.polling.watchlist import Watchlist
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.integration.test_app import sqlite_inline
from tests.support.fakes import FailingStore, a_store
from tests.support.running_app import KEY, Receiver, an_app, in_memory, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=700_000.0)


class Known(dict):
    """What a ledger holds."""

    is_recorded = True


@pytest.fixture
async def api():
    """Serve a simulated API that goes by virtual time, with three jobs."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    for number, seconds in enumerate((10.0, 600.0, 60.0), start=1):
        simulator.add(JobScript(job_id=f"job-{number}", run_seconds=seconds, queue_seconds=0.0))
    async with serve(simulator) as url:
        yield simulator, url


@pytest.fixture
async def hook():
    """Serve a receiver of webhooks."""
    receiver = Receiver()
    async with served(receiver.take) as url:
        yield receiver, url


async def lived(api, hook, within: float = 100_000.0, **changes) -> float | None:
    """Run a daemon to its end, and say when that came; None when it did not."""
    app = an_app(api[1], hook[1], POLLER_EXIT_WHEN_DONE="on", **changes)
    with anyio.move_on_after(within) as scope:
        await app.run()
    return None if scope.cancelled_caught else anyio.current_time()


async def test_it_ends_with_the_last_job(api, hook):
    """It exits soon after the last job has ended and its event was received, and not before."""
    ended_at = await lived(api, hook, POLLER_JOB_IDS="job-1,job-2")

    assert 600.0 <= ended_at <= 660.0
    assert hook[0].types == ["job.succeeded", "job.succeeded"]


async def test_it_waits_for_what_is_to_be_delivered(api, hook):
    """An event that its receiver does not take yet keeps it; one that is dead does not."""
    hook[0].status = 503

    async def heal():
        await anyio.sleep(5_000.0)
        hook[0].status = 200

    async with anyio.create_task_group() as group:
        group.start_soon(heal)
        ended_at = await lived(api, hook)

    assert 5_000.0 <= ended_at <= 5_400.0
    assert hook[0].types == ["job.succeeded"]


async def test_it_ends_when_a_delivery_is_given_up(api, hook):
    """What a receiver refuses for good is dead, and waits for a person and not for this."""
    hook[0].status = 410

    assert await lived(api, hook) <= 100.0


async def test_a_cost_that_is_late_does_not_hold_it_up(api, hook):
    """An end is told with the cost that there is; the final one may come within an hour."""
    late = JobScript(job_id="late", queue_seconds=0.0, run_seconds=5.0, cost_delay=1e5)
    api[0].add(late)

    ended_at = await lived(api, hook, POLLER_JOB_IDS="late")

    assert ended_at <= 100.0
    (event,) = hook[0].events
    assert event["data"]["cost_final"] is False


async def test_a_missing_job_has_ended(api, hook):
    """A job that the API does not know is told as missing, and that is all there is of it."""
    ended_at = await lived(api, hook, POLLER_JOB_IDS="job-1,nobody")

    assert 600.0 <= ended_at <= 900.0
    assert sorted(hook[0].types) == ["job.missing", "job.succeeded"]


@pytest.fixture
def _inline(monkeypatch):
    """Read the file of jobs in the loop: virtual time knows no threads."""

    async def call(function, *values, limiter, abandon_on_cancel):
        function(*values)

    monkeypatch.setattr(watchlist, "run_sync", call)


@pytest.mark.usefixtures("_inline")
async def test_it_waits_for_a_file_that_is_to_come(api, hook, tmp_path):
    """While the file of jobs is not there, or names none, there may be something to do."""
    ids = tmp_path / "jobs.txt"

    async def write():
        await anyio.sleep(1_000.0)
        ids.write_text("# to come\n")
        await anyio.sleep(1_000.0)
        ids.write_text("job-3\n")

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        ended_at = await lived(api, hook, POLLER_JOB_IDS="", POLLER_JOBS_FILE=str(ids))

    assert 2_000.0 <= ended_at <= 2_100.0
    assert hook[0].types == ["job.succeeded"]


@pytest.mark.usefixtures("_inline")
async def test_named_jobs_that_have_ended_do_not_end_it_before_the_file(api, hook, tmp_path):
    """With a file still to come, the jobs of the settings alone are not all."""
    given = {"POLLER_JOB_IDS": "job-1", "POLLER_JOBS_FILE": str(tmp_path / "jobs.txt")}

    assert await lived(api, hook, within=10_000.0, **given) is None


async def test_it_waits_for_a_store_that_fails(api, hook):
    """Whether something waits is not known while the store cannot be read."""
    kept = []

    class Failing(FailingStore):
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            """Close nothing."""

    def new_store(config, clock):
        kept.append(Failing(in_memory(config, clock)))
        return kept[-1]

    async def fail():
        await anyio.sleep(5.0)
        kept[-1].fails = {"backlogs"}
        await anyio.sleep(1_000.0)
        kept[-1].fails = set()

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        ended_at = await lived(api, hook, new_store=new_store)

    assert 1_005.0 <= ended_at <= 1_010.0


async def test_a_restart_when_all_is_done(api, hook, tmp_path):
    """Started again with nothing left to do it exits at once, and tells nothing twice."""
    given = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    await lived(api, hook, **given)
    began_at = anyio.current_time()

    assert await lived(api, hook, **given) - began_at <= 5.0
    assert hook[0].types == ["job.succeeded"]


async def test_without_the_setting_it_stays(api, hook):
    """A daemon that was not told to end goes on."""
    with anyio.move_on_after(10_000.0) as scope:
        await an_app(api[1], hook[1]).run()

    assert scope.cancelled_caught


async def test_a_database_that_is_lost_keeps_it(api, hook, tmp_path):
    """What waited in a database that is lost is not out: it is told again before all is done."""
    path = tmp_path / "state.db"
    hook[0].status = 503

    async def lose():
        await anyio.sleep(60.0)
        path.unlink()
        await anyio.sleep(60.0)
        hook[0].status = 200

    async with anyio.create_task_group() as group:
        group.start_soon(lose)
        ended_at = await lived(api, hook, POLLER_STORE=str(path), new_store=sqlite_inline)

    assert 120.0 <= ended_at <= 600.0
    assert hook[0].types == ["job.succeeded"]


async def test_a_job_that_is_added_at_the_last_moment_is_waited_for():
    """While the store is asked what is pending a job may be added: then nothing is over."""
    listed = Watchlist(["job-1"])
    tracker = Known({"job-1": JobState(job_id="job-1", since=0.0, phase=Phase.DONE)})

    class Slow(FailingStore):
        async def backlogs(self):
            listed.add(["job-2"])
            return await self.store.backlogs()

    with anyio.move_on_after(100.0) as scope:
        await wait_until_complete(listed, tracker, Slow(a_store()))

    assert scope.cancelled_caught


async def test_the_store_is_asked_when_all_have_ended():
    """While a job goes on nobody asks what is pending: the answer could not hold its event yet."""
    listed, store = Watchlist(["job-1"]), FailingStore(a_store())
    tracker = Known({"job-1": JobState(job_id="job-1", since=0.0, phase=Phase.SETTLING)})

    with anyio.move_on_after(10.0):
        await wait_until_complete(listed, tracker, store)

    assert store.calls["backlogs"] == []


async def test_what_is_parked_does_not_hold_it_up():
    """What waits for a sink that is not configured any more is sent by nobody."""
    tracker = Known({"job-1": JobState(job_id="job-1", since=0.0, phase=Phase.DONE)})

    class Parked(FailingStore):
        async def backlogs(self):
            return [SinkBacklog(name="left", pending=1, is_configured=False)]

    with anyio.fail_after(10.0):
        await wait_until_complete(Watchlist(["job-1"]), tracker, Parked(a_store()))
