"""A wall clock that is set by days, during a run and between two runs."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from struct import pack
from typing import Final

import anyio
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, ForkedProcess, ProcessForker, process_forker, tally
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.syscall_shim import compiled
from tests.support.lateness import measured_lateness
from tests.support.run_checker import check_run
from tests.support.secret_canaries import leaks
from tests.support.waiting import now, until

CLOCK: Final = Path(__file__).with_name("clock.c")
DAY: Final = 86_400
DAYS: Final = (-400, -30, -8, -1, 1, 8, 30, 400)
PROMISE: Final = (
    "a wall clock that jumps by days, during a run or between two runs, holds up nothing"
)
MAX_GAP: Final = 1.0
"""Seconds between two polls of jobs with an interval of 0.1 s, without the machine's lateness."""
RECOVERY_SECONDS: Final = 120.0
"""Seconds in which every event must arrive: the first retry delays, on a slow machine."""

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc compiles the clock that can be set"),
]


@dataclass
class AnyDayServers(FakeServers):
    """Servers that accept signatures of any day, and no event while they are down."""

    is_down: bool = False
    rejected: int = 0

    def verify(self, headers: dict[str, str], body: bytes) -> None:
        """Verify a signature by its own timestamp."""
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        signed = Webhook(self.secret).sign(headers["webhook-id"], at, body.decode())
        assert signed in headers["webhook-signature"].split()

    async def handle_event(self, request: web.Request) -> web.StreamResponse:
        """Accept one event."""
        if self.is_down:
            self.rejected += 1
            return web.Response(status=500)
        return await FakeServers.handle_event(self, request)


@dataclass(frozen=True)
class ShiftedClock:
    """Daemons whose wall clock is that of this machine plus an offset from a file."""

    servers: AnyDayServers
    forker: ProcessForker
    folder: Path

    def set_clock(self, days: float) -> None:
        """Set the wall clock of all daemons, in one write."""
        with (self.folder / "clock").open("r+b", buffering=0) as file:
            file.write(pack("<q", round(days * DAY)))

    async def start(self) -> ForkedProcess:
        """Start a daemon."""
        return await self.forker.start(environment(self.servers, self.folder), self.folder / "log")

    async def wait_for_events(self) -> list[str]:
        """Wait until every event is acknowledged; return the jobs for which that failed."""
        with anyio.move_on_after(RECOVERY_SECONDS):
            await until(lambda: self.servers.is_reported, within=2 * RECOVERY_SECONDS)
        return [f"still: {job.job_id}" for job in self.servers.jobs.values() if not job.is_reported]


@asynccontextmanager
async def shifted_clock(command: Path, folder: Path, name: str) -> AsyncIterator[ShiftedClock]:
    """Run servers and daemons with a clock that can be set."""
    servers, shim = AnyDayServers(now, SCALE.random(name)), compiled(command.parents[2], CLOCK)
    (folder / "clock").write_bytes(pack("<q", 0))
    preloaded = {"LD_PRELOAD": str(shim), "WALL_CLOCK": str(folder / "clock")}
    async with serving(servers), process_forker(command, **preloaded) as forker:
        yield ShiftedClock(servers, forker, folder)


def add_jobs(servers: FakeServers, name: object) -> None:
    """Create a few jobs."""
    for number in range(3):
        servers.add(f"job-{name}-{number}", servers.random.choice(OUTCOMES))


async def poll_gaps(servers: FakeServers, child: ForkedProcess, seconds: float) -> list[str]:
    """Watch the polls for so long, and return a gap that their interval does not explain."""
    began, polls = now(), len(servers.polls)
    async with measured_lateness(child.pid) as lateness:
        await anyio.sleep(seconds)
        moments = [began, *servers.polls[polls:], now()]
        gap = max(after - before for before, after in pairwise(moments)) - lateness()
    return [f"no poll for {gap:.1f} s"] if gap > MAX_GAP else []


async def test_clock_jumps_during_a_run(command: Path, tmp_path: Path):
    """Polls continue at their interval, and failed deliveries are retried on time."""
    jumps, wrong = SCALE.cases(4, 40), []
    async with shifted_clock(command, tmp_path, "jumps") as clock:
        servers = clock.servers
        for jump in range(jumps):
            add_jobs(servers, jump)
            child = await clock.start()
            servers.is_down, rejected = True, servers.rejected
            await until(lambda rejected=rejected: servers.rejected > rejected)
            clock.set_clock(servers.random.choice(DAYS))
            wrong += await poll_gaps(servers, child, 2.5)
            servers.is_down = False
            wrong += await clock.wait_for_events()
            assert await child.stop() == 0

    wrong += check_run(servers.expected, servers.received, store=tmp_path / "state.db").violations
    tally(PROMISE, cases=jumps, hits=jumps, violations=wrong + leaks(tmp_path))


async def test_clock_jumps_between_runs(command: Path, tmp_path: Path):
    """A delivery deferred by a wrong clock comes soon in the next run, and does not expire."""
    runs, wrong, hits = SCALE.cases(4, 40), [], 0
    async with shifted_clock(command, tmp_path, "lives") as clock:
        servers = clock.servers
        for number in range(runs):
            add_jobs(servers, number)
            for is_down in (True, False):
                servers.is_down, rejected = is_down, servers.rejected
                clock.set_clock(servers.random.choice(DAYS))
                child = await clock.start()
                if is_down:
                    await until(lambda rejected=rejected: servers.rejected >= rejected + 3)
                    hits += 1
                else:
                    wrong += await clock.wait_for_events()
                assert await child.stop() == 0

    wrong += check_run(servers.expected, servers.received, store=tmp_path / "state.db").violations
    tally(PROMISE, cases=runs, hits=hits, violations=wrong + leaks(tmp_path))
