"""Stops under load: acknowledged events are not sent again, the others later."""

from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import anyio
import pytest
from aiohttp import web

from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, ForkedProcess, process_forker, tally
from tests.fault_injection.request_faults import BEYOND_TIMEOUT
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.support.run_checker import check_run
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

SHARDS = 2
JOBS_A_RUN = 4
QUICK_SECONDS = 5.0
"""Seconds, less than the grace of a stop even after the half second before."""
GRACEFUL = "SIGTERM under load: exit 0 within 8 s, and nothing that was acknowledged is sent again"
HARD = "a second SIGTERM exits at once, even if a receiver hangs, and loses nothing"


@dataclass
class CountingServers(FakeServers):
    """Servers that count the deliveries in flight."""

    in_flight: int = 0

    async def handle_event(self, request: web.Request) -> web.StreamResponse:
        """Accept one event."""
        self.in_flight += 1
        try:
            return await FakeServers.handle_event(self, request)
        finally:
            self.in_flight -= 1

    def add_jobs(self, run: int) -> None:
        """Create the jobs of one run."""
        for number in range(JOBS_A_RUN):
            self.add(f"job-{run}-{number}", self.random.choice(OUTCOMES))


def problems_of(servers: FakeServers, folder: Path, *, begins: list[float]) -> list[str]:
    """Return all that is wrong once every event should be acknowledged."""
    found = check_run(servers.expected, servers.received, begins=begins, store=folder / "state.db")
    still = [f"still: {job.job_id}" for job in servers.jobs.values() if not job.is_reported]
    return found.violations + still + leaks(folder)


async def stop_problems(child: ForkedProcess) -> list[str]:
    """Stop a daemon, and return what is wrong with its end."""
    try:
        code = await child.stop()
    except TimeoutError:
        return [f"{child.pid} is alive after 8 s"]
    return [f"{child.pid} exited with {code}"] if code else []


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_stop_under_load_repeats_nothing(command: Path, tmp_path: Path, shard: int):
    """Each of many stops in a row waits for the receiver, and no event comes twice."""
    random = SCALE.random("stops", shard)
    stops, hits, wrong = SCALE.cases(15, 50), 0, []
    async with serving(CountingServers(now, random)) as servers, process_forker(command) as forker:
        for run in range(stops):
            servers.add_jobs(run)
            servers.delay = random.uniform(0.05, 1.0)
            child = await forker.start(environment(servers, tmp_path), tmp_path / "log")
            await until(lambda: servers.in_flight)
            await anyio.sleep(random.uniform(0.0, servers.delay))
            hits += bool(servers.in_flight)
            wrong += await stop_problems(child)
        servers.delay = 0.0
        child = await forker.start(environment(servers, tmp_path), tmp_path / "log")
        with anyio.move_on_after(120.0):
            await until(lambda: servers.is_reported, within=240.0)
        wrong += await stop_problems(child)

    # No start counts as one after a kill: every repeated event is a violation.
    wrong += problems_of(servers, tmp_path, begins=[])
    tally(GRACEFUL, cases=stops, hits=hits, violations=wrong)


async def test_second_signal_exits_at_once(command: Path, tmp_path: Path):
    """A daemon that waits for a hanging receiver ends with the next signal; nothing is lost."""
    random = SCALE.random("second signals")
    stops, begins, wrong = SCALE.cases(6, 50), [], []
    async with (
        serving(CountingServers(now, random, delay=BEYOND_TIMEOUT)) as servers,
        process_forker(command) as forker,
    ):
        for run in range(stops):
            servers.add_jobs(run)
            before = servers.in_flight
            child = await forker.start(environment(servers, tmp_path), tmp_path / "log")
            await until(lambda before=before: servers.in_flight > before)
            child.send(SIGTERM)
            await anyio.sleep(random.uniform(0.0, 0.5))
            wrong += [] if child.code is None else [f"{child.pid} did not wait"]
            child.send(SIGTERM)
            signalled_at = now()
            await child.end()
            wrong += (
                [f"ended after {now() - signalled_at:.1f} s"]
                if now() - signalled_at > QUICK_SECONDS
                else []
            )
            begins.append(now())
        servers.delay = 0.0
        child = await forker.start(environment(servers, tmp_path), tmp_path / "log")
        with anyio.move_on_after(120.0):
            await until(lambda: servers.is_reported, within=240.0)
        wrong += await stop_problems(child)

    wrong += problems_of(servers, tmp_path, begins=begins)
    tally(HARD, cases=stops, violations=wrong)
