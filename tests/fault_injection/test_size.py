"""A database with many rows: its start, and its migration, are killed at any moment."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import pytest

from poller.store import schema
from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, process_forker, tally
from tests.support.large_database import Contents, make_large_database
from tests.support.secret_canaries import SECRET
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

PROMISE: Final = "a start with many rows that is killed at any moment loses nothing"
ROWS: Final = SCALE.cases(20_000, 100_000)
KILLS: Final = SCALE.cases(6, 40)
START_SECONDS: Final = 0.15
"""Seconds after its start at which a daemon is killed at the latest."""

SINKS: Final = {
    "POLLER_SINKS": "webhook,webhook.good",
    "POLLER_WEBHOOK_URL": "http://127.0.0.1:9/",
    "POLLER_WEBHOOK_GOOD_SECRET": SECRET,
    "POLLER_WEBHOOK_GOOD_EVENTS": "*",
    "POLLER_LOG_LEVEL": "info",
}
"""A sink that cannot be reached, for which the events wait, and another one."""


COUNTS: Final = (
    "SELECT count(*) FROM jobs WHERE job_id GLOB 'job-*'",
    "SELECT count(*) FROM events WHERE subject GLOB 'job-*'",
    "SELECT count(*) FROM deliveries WHERE subject GLOB 'job-*' AND status = 'pending'",
)


def problems_of(path: Path) -> list[str]:
    """Return what is wrong with the database in the end."""
    with closing(sqlite3.connect(path)) as db:
        counts = [db.execute(statement).fetchone()[0] for statement in COUNTS]
        verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
    copies = [file.name for file in path.parent.glob("*.corrupt-*")]
    is_whole = (counts, verdict, copies) == ([ROWS] * 3, "ok", [])
    return [] if is_whole else [f"jobs, events, pending: {counts}; {verdict}; {copies}"]


@pytest.mark.parametrize("version", [4, len(schema.MIGRATIONS)], ids=["older schema", "same"])
async def test_start_with_many_rows_is_killed(command: Path, tmp_path: Path, version: int):
    """After many kills during the start every row is there, and a new event is delivered."""
    random, path, hits = SCALE.random("size", version), tmp_path / "state.db", 0
    make_large_database(path, Contents(jobs=ROWS, pending=ROWS), version=version)
    async with serving(FakeServers(now, random)) as servers, process_forker(command) as forker:
        servers.add("live")
        variables = environment(servers, tmp_path, **SINKS)
        variables |= {"POLLER_WEBHOOK_GOOD_URL": servers.hook_url}
        for number in range(KILLS):
            child = await forker.start(variables, tmp_path / f"log-{number}")
            await anyio.sleep(random.uniform(0.0, START_SECONDS))
            hits += "poller.started" not in child.text
            await child.kill()
        child = await forker.start(variables, tmp_path / "log")
        await until(lambda: servers.is_reported and "poller.started" in child.text)
        code = await child.stop()

    violations = problems_of(path) + ([f"exit code {code}"] if code else [])
    tally(PROMISE, cases=KILLS, hits=hits, violations=violations)
