"""Hours of faults at both ends with crashes, and then the recovery."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import pytest

from poller.app import App
from poller.store.sqlite import SqliteStore
from poller.wiring import build_store
from tests.fault_injection.fake_servers import serving
from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.scheduled_faults import HOUR, MINUTE, SLOWEST_RESPONSE, ScheduledFaults
from tests.support.fakes import FailingStore
from tests.support.run_checker import ReceivedEvent, check_run
from tests.support.running_app import KEY, SECRET, an_app
from tests.support.virtual_time import virtual_clock

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=90 * 24 * HOUR),
    pytest.mark.usefixtures("quiet"),
]

SHARDS: Final = 6
PROBE, TIMEOUT, API_TIMEOUT = 300.0, 15.0, 30.0
PROMISE = "hours of faults and crashes lose nothing; two probes later everything is delivered"
PENDING: Final = """
SELECT event_id, max(due) OVER (PARTITION BY subject ORDER BY id)
  FROM deliveries
 WHERE status = 'pending'
"""
VERBS: Final = {
    "load_states",
    "get_flags",
    "write",
    "due_deliveries",
    "settle",
    "expedite",
    "disable_sink",
    "dead_letter_expired",
    "record_hang",
    "backlogs",
    "prune",
}


class CrashingStore(FailingStore):
    """A store on disk, in this thread, that writes nothing more after the crash of its daemon."""

    async def __aenter__(self) -> Self:
        """Open the file."""
        await self.store.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        await self.store.__aexit__(kind, error, traceback)


@asynccontextmanager
async def running_daemon(servers: ScheduledFaults, path: Path) -> AsyncIterator[App]:
    """Run a daemon while the block runs; then it crashes, and writes nothing more."""
    stores: list[CrashingStore] = []

    def inline(*of: object) -> CrashingStore:
        store = build_store(*of)
        assert isinstance(store, SqliteStore)
        store._in_thread = False
        stores.append(CrashingStore(store))
        return stores[0]

    app = an_app(
        servers.api_url,
        servers.hook_url,
        clock=virtual_clock(),
        random=servers.random.random,
        new_store=inline,
        POLLER_JOB_IDS=",".join(servers.jobs),
        POLLER_WEBHOOK_EVENTS="*",
        POLLER_STORE=str(path),
        POLLER_MAX_INTERVAL="15m",
        POLLER_INTERVAL_FACTOR="8",
    )
    servers.failed_at.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(app.serve)
        yield app
        stores[0].fails = VERBS
        group.cancel_scope.cancel()


async def run_with_crashes(
    servers: ScheduledFaults, path: Path, crashes: int
) -> tuple[list[float], int]:
    """Run daemons that crash in fault periods; return their starts and the critical crashes."""
    begins, hits, until = [servers.now()], 0, servers.faults_end_at - MINUTE
    periods = [period for period in servers.periods if period.begin < until]
    crashed = servers.random.sample(periods, min(crashes, len(periods)))
    for moment in sorted(
        servers.random.uniform(period.begin, min(period.end, until)) for period in crashed
    ):
        async with running_daemon(servers, path):
            await anyio.sleep(max(moment - servers.now(), MINUTE))
        hits += bool(servers.unacknowledged)
        await anyio.sleep(2 * SLOWEST_RESPONSE)  # deliveries in flight are recorded by then
        begins.append(servers.now())
    return begins, hits


async def run_after_faults(servers: ScheduledFaults, path: Path) -> list[str]:
    """End all faults during a run, and return the events that come too late.

    The end of an outage is detected by the second probe at the latest, which makes all deliveries
    due. Without an outage, a failed delivery is due by its own retry delay.
    """
    async with running_daemon(servers, path) as daemon:
        await anyio.sleep(servers.faults_end_at - servers.now())
        is_out = servers.is_receiver_out
        servers.stop_faults()
        await anyio.sleep(API_TIMEOUT)
        waiting = pending(path)
        latest = max(waiting.values(), default=0.0)
        await wait_until_delivered(servers, path, by=max(latest, servers.now()) + 3 * HOUR)
        daemon.stop()
        await anyio.sleep(TIMEOUT)
    delivered_at = {(event.event_id): event.acknowledged_at or 1e12 for event in servers.received}
    noticed = servers.faults_end_at + 2 * (PROBE + TIMEOUT) + API_TIMEOUT
    return [
        f"{event_id} came {delivered_at.get(event_id, 1e12) - servers.faults_end_at:.0f} s later"
        for event_id, due in waiting.items()
        if delivered_at.get(event_id, 1e12) > max(0.0 if is_out else due + TIMEOUT, noticed)
    ]


async def wait_until_delivered(servers: ScheduledFaults, path: Path, *, by: float) -> None:
    """Wait until nothing is pending, or until a time."""
    while (servers.unacknowledged or servers.stuck_jobs or pending(path)) and servers.now() < by:  # noqa: ASYNC110
        await anyio.sleep(MINUTE)


def pending(path: Path) -> dict[str, float]:
    """Return when each pending delivery may be sent: it and those before it are due."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return dict(db.execute(PENDING))


def polls_in_pauses(servers: ScheduledFaults, begins: list[float]) -> list[str]:
    """Return the polls during a pause, by the process that got its Retry-After."""
    found = []
    for start, end in servers.pauses:
        until = min([end, *(begin for begin in begins if begin > start)])
        # Requests in flight when the first response requests a pause arrive in the same instant.
        found += [
            f"a look in a pause at {moment}"
            for moment in servers.polled_at
            if start + 0.5 < moment < until
        ]
    return found


def repeated_auth_events(received: list[ReceivedEvent]) -> list[str]:
    """Return the events of the API key that do not alternate: rejected, accepted, rejected."""
    types = {event.event_id: event.type for event in sorted(received, key=lambda event: event.at)}
    kinds = ["poller.auth_recovered", *types.values()]
    return [f"{before} then {after}" for before, after in pairwise(kinds) if before == after]


async def run_case(seed: int, path: Path) -> tuple[list[str], int]:
    """Run one case; return what was wrong, and the number of crashes with pending events."""
    random = SCALE.random("storms", seed)
    servers = ScheduledFaults(
        virtual_clock().steady, random, odds=random.choice([4, 8]), key=KEY, secret=SECRET
    )
    servers.home = random.choice(["/v1", ""])
    servers.schedule(jobs=24, lasting=random.uniform(1.0, SCALE.cases(5, 24)) * HOUR)
    is_revoked = any(period.kind == "key revoked" for period in servers.periods)
    async with serving(servers):
        servers.api_url = servers.api_url.removesuffix("/v1")
        begins, hits = await run_with_crashes(servers, path, crashes=random.randrange(5))
        hits += bool(servers.unacknowledged)
        late = await run_after_faults(servers, path)
    of_jobs = [event for event in servers.received if event.job_id in servers.jobs]
    wrong = check_run(servers.expected, of_jobs, begins=begins, store=path).violations
    wrong = [line for line in wrong if "poller.auth" not in line]
    of_daemon = [event for event in servers.received if event.job_id not in servers.jobs]
    of_key = repeated_auth_events(of_daemon)
    if not is_revoked:
        of_key += [event.type for event in of_daemon if event.type == "poller.auth_failed"]
    wrong += late + servers.stuck_jobs + polls_in_pauses(servers, begins) + of_key
    return [f"case {seed}: {line}" for line in wrong], hits


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_all_events_come_after_the_faults(tmp_path: Path, shard: int):
    """After the faults each event has come once, in order, under one id, within two probes."""
    cases, violations, hits = range(shard, SCALE.cases(12, 60), SHARDS), [], 0
    for seed in cases:
        wrong, is_critical = await run_case(seed, tmp_path / f"{seed}.db")
        violations += wrong
        hits += bool(is_critical)

    tally(PROMISE, cases=len(cases), hits=hits, violations=violations)
