"""Storms: all goes wrong at both ends for hours, processes die, and then it is calm."""

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
from tests.fault_injection.rig import SCALE, tally
from tests.fault_injection.storm import HOUR, MINUTE, SLOW, Storm
from tests.fault_injection.world import inhabited
from tests.support.fakes import FailingStore
from tests.support.run_checker import Arrival, examine
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
    "backlogs",
    "prune",
}


class Mortal(FailingStore):
    """A store on disk, in this thread, that writes nothing more once its process is dead."""

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
async def a_life(storm: Storm, path: Path) -> AsyncIterator[App]:
    """Let a daemon live while the block runs; then it is dead at once, and writes nothing."""
    stores: list[Mortal] = []

    def inline(*of: object) -> Mortal:
        store = build_store(*of)
        assert isinstance(store, SqliteStore)
        store._in_thread = False
        stores.append(Mortal(store))
        return stores[0]

    app = an_app(
        storm.api_url,
        storm.hook_url,
        clock=virtual_clock(),
        random=storm.random.random,
        new_store=inline,
        POLLER_JOB_IDS=",".join(storm.jobs),
        POLLER_WEBHOOK_EVENTS="*",
        POLLER_STORE=str(path),
        POLLER_MAX_INTERVAL="15m",
        POLLER_INTERVAL_FACTOR="8",
    )
    storm.refused.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(app.serve)
        yield app
        stores[0].fails = VERBS
        group.cancel_scope.cancel()


async def weather(storm: Storm, path: Path, deaths: int) -> tuple[list[float], int]:
    """Let daemons live, and die in some spells; give their begins, and deaths that met debts."""
    begins, hits, until = [storm.now()], 0, storm.calm_at - MINUTE
    spells = [it for it in storm.spells if it.begin < until]
    struck = storm.random.sample(spells, min(deaths, len(spells)))
    for moment in sorted(storm.random.uniform(it.begin, min(it.end, until)) for it in struck):
        async with a_life(storm, path):
            await anyio.sleep(max(moment - storm.now(), MINUTE))
        hits += bool(storm.owed)
        await anyio.sleep(2 * SLOW)  # what is still under way is taken before the next one begins
        begins.append(storm.now())
    return begins, hits


async def calm(storm: Storm, path: Path) -> list[str]:
    """Heal a storm in the middle of a life, and name what comes too late.

    A receiver that is back from an outage is noticed by the second probe at the latest, which makes
    all due. Without an outage, what was refused by itself comes when its own ladder has it.
    """
    async with a_life(storm, path) as daemon:
        await anyio.sleep(storm.calm_at - storm.now())
        is_out = storm.is_receiver_out
        storm.heal()
        await anyio.sleep(API_TIMEOUT)
        waiting = pending(path)
        latest = max(waiting.values(), default=0.0)
        await told(storm, path, by=max(latest, storm.now()) + 3 * HOUR)
        daemon.stop()
        await anyio.sleep(TIMEOUT)
    came = {(it.event_id): it.acknowledged_at or 1e12 for it in storm.arrivals}
    noticed = storm.calm_at + 2 * (PROBE + TIMEOUT) + API_TIMEOUT
    return [
        f"{event_id} came {came.get(event_id, 1e12) - storm.calm_at:.0f} s after the storm"
        for event_id, due in waiting.items()
        if came.get(event_id, 1e12) > max(0.0 if is_out else due + TIMEOUT, noticed)
    ]


async def told(storm: Storm, path: Path, *, by: float) -> None:
    """Wait until nothing is owed or waits any more, or for long enough."""
    while (storm.owed or storm.untold or pending(path)) and storm.now() < by:  # noqa: ASYNC110
        await anyio.sleep(MINUTE)


def pending(path: Path) -> dict[str, float]:
    """Read when each delivery that waits may go: it is due, and so are those before it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return dict(db.execute(PENDING))


def impatient(storm: Storm, begins: list[float]) -> list[str]:
    """Name each look that came inside a pause, of the process that was asked for it."""
    found = []
    for start, end in storm.pauses:
        until = min([end, *(it for it in begins if it > start)])
        # What was under way when the first answer asked for a pause arrives in the same instant.
        found += [f"a look in a pause at {it}" for it in storm.moments if start + 0.5 < it < until]
    return found


def told_of_key(arrivals: list[Arrival]) -> list[str]:
    """Name what was told of the key but not in turn: refused, accepted, refused."""
    told = {it.event_id: it.type for it in sorted(arrivals, key=lambda it: it.at)}
    kinds = ["poller.auth_recovered", *told.values()]
    return [f"{before} then {after}" for before, after in pairwise(kinds) if before == after]


async def weathered(seed: int, path: Path) -> tuple[list[str], int]:
    """Live through one storm, and give what was wrong and how often a death met debts."""
    random = SCALE.random("storms", seed)
    storm = Storm(
        virtual_clock().steady, random, odds=random.choice([4, 8]), key=KEY, secret=SECRET
    )
    storm.brew(jobs=24, lasting=random.uniform(1.0, SCALE.cases(5, 24)) * HOUR)
    async with inhabited(storm):
        begins, hits = await weather(storm, path, deaths=random.randrange(5))
        hits += bool(storm.owed)
        late = await calm(storm, path)
    of_jobs = [it for it in storm.arrivals if it.job_id in storm.jobs]
    wrong = examine(storm.due_to_come, of_jobs, begins=begins, store=path).violations
    wrong = [it for it in wrong if "poller.auth" not in it]
    of_key = told_of_key([it for it in storm.arrivals if it.job_id not in storm.jobs])
    wrong += late + storm.untold + impatient(storm, begins) + of_key
    return [f"storm {seed}: {it}" for it in wrong], hits


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_all_that_is_owed_comes_after_a_storm(tmp_path: Path, shard: int):
    """After any storm each event has come once, in order, under one id, within two probes."""
    storms, violations, hits = range(shard, SCALE.cases(12, 60), SHARDS), [], 0
    for seed in storms:
        wrong, met = await weathered(seed, tmp_path / f"{seed}.db")
        violations += wrong
        hits += bool(met)

    tally(PROMISE, cases=len(storms), hits=hits, violations=violations)
