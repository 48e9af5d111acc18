"""The HTTP API, and the commands that change the store, with hundreds of rows of each kind.

`tests/fault_injection/test_readonly_root.py` runs these and other tests without temporary files.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.api.test_cli import address_of, run_cli
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.large_database import Contents, make_large_database
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ROWS: Final = 500
SELDOM: Final = {"POLLER_MIN_INTERVAL": "1h", "POLLER_MAX_INTERVAL": "1h"}


@pytest.fixture
def store(tmp_path: Path) -> dict[str, str]:
    """Return the setting of a database with so many jobs, and events in each state."""
    path = tmp_path / "state.db"
    make_large_database(path, Contents(jobs=ROWS, delivered=ROWS, dead=ROWS, pending=ROWS))
    return {"POLLER_STORE": str(path)}


async def listed(daemon: LiveDaemon, name: str, query: str) -> list[dict[str, Any]]:
    """Return the rows of all pages."""
    rows, cursor = [], ""
    while cursor is not None:
        page = (await daemon.get(f"/v1/{name}?limit=100&{query}{cursor}")).body
        rows += page[name]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    return rows


async def test_many_rows_are_delivered_and_listed(tmp_path: Path, store):
    """Everything that is due is delivered, and the lists have every row."""
    async with live_daemon(tmp_path) as daemon:
        await until(lambda: len(daemon.receiver.received) == ROWS)

        jobs = await listed(daemon, "jobs", "")
        events = await listed(daemon, "events", "sink=webhook&state=dead")
        status = (await daemon.get("/v1/status")).body

    assert len({job["job_id"] for job in jobs} - {"job-1"}) == ROWS
    assert len({event["id"] for event in events}) == ROWS
    assert [sink["dead"] for sink in status["sinks"]] == [0, ROWS]


async def test_many_rows_of_a_disabled_sink(tmp_path: Path, store):
    """A 410 disables a sink with everything that is pending; enabling it sends all of that."""
    async with live_daemon(tmp_path, status=410) as daemon:
        await until(lambda: daemon.app.counters.events["poller.sink_disabled"])
        disabled = (await daemon.get("/v1/sinks")).body["sinks"]
        daemon.receiver.status = 204
        enabled = (await daemon.post("/v1/sinks/webhook/enable")).body
        # The delivery of the 410 stays dead if that is recorded after the sink was enabled.
        await until(lambda: len(daemon.receiver.received) >= ROWS - 1)

    assert (disabled[1]["pending"], disabled[1]["dead"]) == (0, 2 * ROWS)
    assert enabled["pending_again"] == ROWS


async def test_many_rows_are_added_and_removed(tmp_path: Path):
    """Jobs that are added at once are all watched, and all can be removed."""
    ids = [f"new-{number}" for number in range(ROWS)]
    async with live_daemon(tmp_path, **SELDOM) as daemon:
        at = address_of(daemon)
        added = await daemon.post("/v1/jobs", {"job_ids": ids})
        watched = await listed(daemon, "jobs", "watched=true")
        removed = await run_cli(at, "jobs", "rm", *ids)
        left = await listed(daemon, "jobs", "watched=true")

    assert added.status == 200
    assert {job["job_id"] for job in watched} == {"job-1", *ids}
    assert (removed.code, [job["job_id"] for job in left]) == (0, ["job-1"])


async def test_many_events_are_replayed_at_once(store):
    """Many events are replayed at once."""
    listing = await run_cli("off", "events", "ls", "-o", "json", **store)
    ids = [row["id"] for row in json.loads(listing.out)]
    replayed = await run_cli("off", "events", "replay", *ids, "-o", "json", **store)

    assert (len(ids), len(json.loads(replayed.out))) == (3 * ROWS, 3 * ROWS)


@pytest.mark.parametrize("verb", ["replay", "drop"])
async def test_many_dead_letters_are_changed_at_once(store, verb: str):
    """All dead letters are replayed, or dropped."""
    changed = await run_cli("off", "dead-letters", verb, "--all", "-o", "json", **store)
    left = await run_cli("off", "dead-letters", "ls", "-o", "json", **store)

    assert (changed.code, len(json.loads(changed.out))) == (0, ROWS)
    assert json.loads(left.out) == []
