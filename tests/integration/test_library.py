"""The Python API: other asyncio programs watch jobs and wait for them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import structlog
from aiohttp import web

import poller
from poller import library
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.running_app import served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=7_200.0)

SUCCEEDS = JobScript(job_id="job-1", queue_seconds=10.0, run_seconds=60.0)
FAILS = JobScript(job_id="job-2", ends_as="failed", failure="out of quota", run_seconds=5.0)
KEY = "sk_simulator"


@pytest.fixture(autouse=True)
async def _virtual(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Use the virtual clock, and fail when the polling goes on after a test."""
    monkeypatch.setattr(library, "Clock", virtual_clock)
    yield
    assert {"watch", "watcher"}.isdisjoint(task.get_name() for task in asyncio.all_tasks())


def a_simulator() -> Simulator:
    """Return a simulator on the virtual clock."""
    return Simulator(now=virtual_clock().steady)


@asynccontextmanager
async def simulated(
    *scripts: JobScript, key: str = KEY, simulator: Simulator | None = None
) -> AsyncIterator[dict[str, str]]:
    """Serve a simulated API, and yield the settings for it."""
    simulator = simulator or a_simulator()
    for script in scripts:
        simulator.add(script)
    async with serve(simulator) as url:
        yield {"SUTRO_API_URL": url, "SUTRO_API_KEY": key}


async def all_events(settings: dict[str, str], within: float | None = None) -> list[poller.Event]:
    """Watch a job to its end; raise TimeoutError if that takes longer than `within` seconds."""
    async with asyncio.timeout(within), poller.watch("job-1", settings) as events:
        return [event async for event in events]


async def test_wait_returns_the_result_of_each_job():
    """When the last job has ended, each job's end and its job object are returned."""
    async with simulated(SUCCEEDS, FAILS) as settings:
        results = await poller.wait(["job-1", "job-2"], settings)

    assert {job_id: result.end for job_id, result in results.items()} == {
        "job-1": "job.succeeded",
        "job-2": "job.failed",
    }
    assert results["job-2"].job.failure_reason == {"message": "out of quota"}
    assert results["job-1"].job.job_cost > 0.0
    assert 70.0 <= anyio.current_time() <= 100.0


async def test_wait_reads_the_environment(monkeypatch):
    """Without settings those of the environment apply."""
    async with simulated(FAILS) as settings:
        for name, text in settings.items():
            monkeypatch.setenv(name, text)

        results = await poller.wait("job-2")

    assert results["job-2"].end == "job.failed"


async def test_wait_reports_a_job_that_the_api_does_not_know():
    """A job with nothing but 404 is missing after a minute."""
    async with simulated() as settings:
        results = await poller.wait("job-9", settings)

    assert (results["job-9"].end, results["job-9"].job) == ("job.missing", None)
    assert 60.0 <= anyio.current_time() <= 90.0


async def test_wait_can_be_timed_out():
    """A time limit of asyncio ends the wait, and nothing goes on in the background."""
    async with simulated(SUCCEEDS) as settings:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(poller.wait("job-1", settings), 20.0)

    assert anyio.current_time() == pytest.approx(20.0, abs=1.0)


async def test_wait_raises_unauthorized_for_a_rejected_key():
    """An API key that is rejected ends the wait at once."""
    async with simulated(SUCCEEDS, key="sk_wrong") as settings:
        with pytest.raises(poller.Unauthorized):
            await poller.wait("job-1", settings)

    assert anyio.current_time() < 20.0


async def test_wait_raises_wrong_endpoint_for_another_server():
    """A server that is not the Sutro API ends the wait at once."""

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="nginx")

    async with served(handle) as url:
        with pytest.raises(poller.WrongEndpoint):
            await poller.wait("job-1", {"SUTRO_API_URL": url, "SUTRO_API_KEY": KEY})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({}, "SUTRO_API_KEY: "), ({"SUTRO_API_KEY": KEY, "SUTRO_API_URL": "x"}, "SUTRO_API_URL: ")],
)
async def test_wait_raises_config_error_for_wrong_settings(settings, problem):
    """Settings are checked before anything is requested."""
    with pytest.raises(poller.ConfigError, match=problem):
        await poller.wait("job-1", settings)


@pytest.mark.parametrize("job_ids", ["..", ["job-1", ""]])
async def test_wait_raises_value_error_for_what_is_no_job_id(job_ids):
    """An id that cannot be one is an error of the caller."""
    with pytest.raises(ValueError, match="job ID"):
        await poller.wait(job_ids, {"SUTRO_API_KEY": KEY})


async def test_watch_yields_the_events_of_all_jobs():
    """Events come as they are detected, and the iterator ends when all jobs have ended."""
    async with (
        simulated(SUCCEEDS, FAILS) as settings,
        poller.watch(["job-1", "job-2"], settings) as events,
    ):
        seen = [(event.subject, event.type) async for event in events]

    assert seen.count(("job-1", "job.succeeded")) == seen.count(("job-2", "job.failed")) == 1
    assert ("job-1", "job.started") in seen
    assert {event_type for _, event_type in seen} <= {
        "job.started",
        "job.succeeded",
        "job.failed",
    }


async def test_watch_yields_an_event_when_it_happens():
    """The start of a job is reported while the job still runs, in a loop that can be left."""
    async with simulated(SUCCEEDS) as settings, poller.watch("job-1", settings) as events:
        event = await anext(events)

    assert (event.type, event.data["job"]["status"]) == ("job.started", "RUNNING")
    assert 10.0 <= anyio.current_time() <= 20.0


async def test_watch_raises_the_error_of_its_block():
    """An error of the caller passes through as it is, and the polling stops."""
    async with simulated(SUCCEEDS) as settings:
        with pytest.raises(KeyError, match="mine"):
            async with poller.watch("job-1", settings):
                raise KeyError("mine")


async def test_watch_can_be_timed_out():
    """A time limit of asyncio around the block ends it."""
    async with simulated(SUCCEEDS) as settings:
        with pytest.raises(TimeoutError):
            await all_events(settings, within=30.0)

    assert anyio.current_time() == pytest.approx(30.0, abs=1.0)


async def test_watch_raises_unauthorized_for_a_rejected_key():
    """A rejected API key ends the iterator at once."""
    async with simulated(SUCCEEDS, key="sk_wrong") as settings:
        with pytest.raises(poller.Unauthorized):
            await all_events(settings)

    assert anyio.current_time() < 20.0


async def test_watch_yields_no_event_of_the_daemon():
    """A key that is rejected later is raised after the events of the jobs, and is none itself."""
    simulator, seen = a_simulator(), []
    async with (
        simulated(SUCCEEDS, simulator=simulator) as settings,
        poller.watch("job-1", settings) as events,
    ):
        seen.append((await anext(events)).type)
        simulator.key = "sk_new"
        with pytest.raises(poller.Unauthorized):
            await anext(events)

    assert seen == ["job.started"]


async def test_log_goes_to_the_standard_library_if_structlog_is_not_configured(caplog):
    """A program that has not configured structlog gets the log through `logging`."""
    structlog.reset_defaults()
    caplog.set_level(logging.INFO)
    async with simulated() as settings:
        await poller.wait("job-9", settings)

    assert any("polling.failed" in record.getMessage() for record in caplog.records)
    assert {record.name.partition(".")[0] for record in caplog.records} <= {"poller", "asyncio"}
