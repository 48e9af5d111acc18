"""A daemon that exits when nothing is left to do."""

import anyio
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from poller.core.outbox import SinkBacklog
from poller.core.state import JobState, Phase
from poller.polling.exit_when_done import wait_until_complete
from poller.polling.watchlist import Watchlist
from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.integration.test_app import sqlite_inline
from tests.support.fakes import FailingStore, a_store
from tests.support.running_app import KEY, Receiver, an_app, in_memory, running_app, served
from tests.support.virtual_time import virtual_clock

DAY = 86_400.0

pytestmark = pytest.mark.virtual(limit=10 * DAY)


class Known(dict):
    """A tracker with the given states."""

    is_recorded = True
    unconfirmed = frozenset()


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
    """Run a daemon to its end, and return when that came; None when it did not."""
    app = an_app(api[1], hook[1], POLLER_EXIT_WHEN_DONE="on", **changes)
    with anyio.move_on_after(within) as scope:
        await app.run()
    return None if scope.cancelled_caught else anyio.current_time()


async def test_exit_when_done_after_the_last_job(api, hook):
    """It exits soon after the last job has ended and its event was delivered, and not before."""
    ended_at = await lived(api, hook, POLLER_JOB_IDS="job-1,job-2")

    assert 600.0 <= ended_at <= 660.0
    assert hook[0].types == ["job.succeeded", "job.succeeded"]


async def test_exit_when_done_waits_for_deliveries(api, hook):
    """An event that its receiver does not accept yet keeps it running; a dead letter does not."""
    hook[0].status = 503

    async def heal():
        await anyio.sleep(5_000.0)
        hook[0].status = 200

    async with anyio.create_task_group() as group:
        group.start_soon(heal)
        ended_at = await lived(api, hook)

    assert 5_000.0 <= ended_at <= 5_400.0
    assert hook[0].types == ["job.succeeded"]


async def test_exit_when_done_ignores_dead_letters(api, hook):
    """An event that a receiver rejects for good is a dead letter, and is not waited for."""
    hook[0].status = 410

    assert await lived(api, hook) <= 100.0


async def test_exit_when_done_does_not_wait_for_a_late_cost(api, hook):
    """An end is announced with the cost that there is; the final one may come within an hour."""
    late = JobScript(job_id="late", queue_seconds=0.0, run_seconds=5.0, cost_delay=1e5)
    api[0].add(late)

    ended_at = await lived(api, hook, POLLER_JOB_IDS="late")

    assert ended_at <= 100.0
    (event,) = hook[0].events
    assert event["data"]["final"] is False


async def test_exit_when_done_counts_a_missing_job_as_ended(api, hook):
    """A job that the API does not know is announced as missing, and counts as ended."""
    ended_at = await lived(api, hook, POLLER_JOB_IDS="job-1,nobody")

    assert 600.0 <= ended_at <= 900.0
    assert sorted(hook[0].types) == ["job.missing", "job.succeeded"]


async def test_exit_when_done_counts_an_unrecognised_job_as_ended(hook):
    """A job whose status nobody foresaw is announced as unrecognised, and counts as ended."""

    async def respond(_request):
        times = {"datetime_completed": "2024-01-15T10:01:40Z"}
        return web.json_response({"job": {"job_id": "job-1", "status": "EXPIRED"} | times})

    async with served(respond) as url:
        ended_at = await lived((None, url), hook, POLLER_JOB_IDS="job-1")

    assert 600.0 <= ended_at <= 900.0
    assert hook[0].types == ["job.unrecognised"]


async def test_exit_when_done_waits_for_the_jobs_file(api, hook, tmp_path):
    """While the jobs file is not there, or is empty, there may be something to do."""
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


async def test_exit_when_done_waits_for_the_jobs_file_besides_named_jobs(api, hook, tmp_path):
    """With a file still to come, the jobs of the settings alone are not all."""
    given = {"POLLER_JOB_IDS": "job-1", "POLLER_JOBS_FILE": str(tmp_path / "jobs.txt")}

    assert await lived(api, hook, within=10_000.0, **given) is None


async def test_exit_when_done_waits_for_a_failing_store(api, hook):
    """While the store cannot be read, deliveries may be pending."""
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


async def test_exit_when_done_at_once_after_a_restart(api, hook, tmp_path):
    """Started again with nothing left to do it exits at once, and announces nothing twice."""
    given = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    await lived(api, hook, **given)
    began_at = anyio.current_time()

    assert await lived(api, hook, **given) - began_at <= 5.0
    assert hook[0].types == ["job.succeeded"]


async def test_exit_when_done_polls_a_job_that_was_missing(api, hook, tmp_path):
    """A job that an earlier process found missing is polled, and waited for if it is there now."""
    given = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    await lived(api, hook, POLLER_JOB_IDS="job-9", **given)
    api[0].add(JobScript(job_id="job-9", run_seconds=500.0, queue_seconds=0.0))
    began_at = anyio.current_time()

    assert 500.0 <= await lived(api, hook, POLLER_JOB_IDS="job-9", **given) - began_at <= 600.0
    assert hook[0].types == ["job.missing", "job.succeeded"]


async def test_exit_when_done_takes_one_404_for_a_job_that_was_missing(api, hook, tmp_path):
    """A job that was missing, and still is, holds a new process up for one poll."""
    given = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    await lived(api, hook, POLLER_JOB_IDS="job-9", **given)
    began_at, before = anyio.current_time(), api[0].requests["jobs"]

    assert await lived(api, hook, POLLER_JOB_IDS="job-9", **given) - began_at <= 5.0
    assert api[0].requests["jobs"] - before == 1
    assert hook[0].types == ["job.missing"]


async def test_exit_when_done_deletes_old_rows_at_the_end_of_short_runs(api, hook, tmp_path):
    """Runs that take seconds delete events that are past their retention, too."""
    given = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    await lived(api, hook, **given)
    deleted = []
    for _ in range(9):
        await anyio.sleep(DAY)
        with capture_logs() as lines:
            await lived(api, hook, **given)
        deleted += [line for line in lines if line["event"] == "store.pruned"]

    assert [line["events"] for line in deleted] == [2]  # the start and the end


@pytest.mark.parametrize("status", [403, 422, 503])
async def test_exit_when_done_waits_for_a_response_about_a_job_that_was_missing(
    api, hook, tmp_path, status
):
    """Errors are no verdict on a job: one that was missing is not counted as missing again."""
    given = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    await lived(api, hook, POLLER_JOB_IDS="job-9", **given)
    api[0].faults.append(Fault(status=status, count=10_000))

    assert await lived(api, hook, 3_000.0, POLLER_JOB_IDS="job-9", **given) is None


async def test_daemon_without_exit_when_done_keeps_running(api, hook):
    """Without the setting the daemon keeps running."""
    with anyio.move_on_after(10_000.0) as scope:
        await an_app(api[1], hook[1]).run()

    assert scope.cancelled_caught


async def test_exit_when_done_waits_for_a_lost_database(api, hook, tmp_path):
    """Events of a lost database are not delivered: they are announced again before the exit."""
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


async def test_exit_when_done_waits_for_a_job_added_at_the_last_moment():
    """A job may be added while the store counts pending deliveries: then it is not done."""
    listed = Watchlist(["job-1"])
    tracker = Known({"job-1": JobState(job_id="job-1", since=0.0, phase=Phase.DONE)})

    class Slow(FailingStore):
        async def backlogs(self):
            listed.add(["job-2"])
            return await self.store.backlogs()

    with anyio.move_on_after(100.0) as scope:
        await wait_until_complete(listed, tracker, Slow(a_store()), lambda: None)

    assert scope.cancelled_caught


async def test_exit_when_done_reads_the_store_once_all_have_ended():
    """While a job goes on the store is not read: it could not hold the job's event yet."""
    listed, store = Watchlist(["job-1"]), FailingStore(a_store())
    tracker = Known({"job-1": JobState(job_id="job-1", since=0.0, phase=Phase.SETTLING)})

    with anyio.move_on_after(10.0):
        await wait_until_complete(listed, tracker, store, lambda: None)

    assert store.calls["backlogs"] == []


@pytest.mark.parametrize("state", [{"is_configured": False}, {"is_disabled": True}])
async def test_exit_when_done_ignores_sinks_without_a_worker(state):
    """Events for a sink that is disabled, or not configured any more, are delivered by nobody."""
    tracker = Known({"job-1": JobState(job_id="job-1", since=0.0, phase=Phase.DONE)})

    class Parked(FailingStore):
        async def backlogs(self):
            return [SinkBacklog(name="left", pending=1, **state)]

    with anyio.fail_after(10.0):
        await wait_until_complete(Watchlist(["job-1"]), tracker, Parked(a_store()), lambda: None)


class Chat:
    """A chat service that keeps the texts of the messages."""

    def __init__(self):
        self.texts = []

    async def take(self, request):
        """Accept a message."""
        self.texts.append((await request.json())["text"])
        return web.Response(text="ok")


@pytest.fixture
async def chat():
    """Serve a chat service."""
    service = Chat()
    async with served(service.take) as url:
        yield service, url


def with_digest(url, **changes):
    """Return the settings of a daemon that watches three jobs and sends digests to a chat."""
    return {
        "POLLER_JOB_IDS": "job-1,job-2,job-3",
        "POLLER_SINKS": "webhook,slack",
        "POLLER_SLACK_URL": url,
        "POLLER_SLACK_DIGEST": "1h",
        "POLLER_ALLOW_HTTP": "on",
    } | changes


async def test_run_that_ends_sends_its_digest_at_once(api, hook, chat):
    """A daemon that exits when all is done does not wait for the end of the window."""
    ended_at = await lived(api, hook, **with_digest(chat[1]))

    assert ended_at <= 700.0
    (text,) = chat[0].texts
    assert "3 succeeded" in text
    assert len(hook[0].types) == 3


async def test_stop_leaves_what_waits_for_the_next_start(api, hook, chat, tmp_path):
    """A daemon that is stopped sends no digest before its time, and none is lost."""
    path = tmp_path / "state.db"
    given = with_digest(chat[1], POLLER_STORE=str(path), new_store=sqlite_inline)
    app = an_app(api[1], hook[1], **given)
    async with anyio.create_task_group() as group:
        group.start_soon(app.run)
        await anyio.sleep(1_000.0)
        app.stop()
    assert chat[0].texts == []

    async with running_app(an_app(api[1], hook[1], **given)):
        await anyio.sleep(3_600.0)

    (text,) = chat[0].texts
    assert "3 succeeded" in text
