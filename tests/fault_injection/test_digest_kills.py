"""`kill -9` of a daemon whose sink gets digests: each event is in one message, under one ID."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, process_forker, tally
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.test_kills import wait_until_reported
from tests.support.plugin_packages import a_plugin
from tests.support.waiting import now, until

pytestmark = pytest.mark.anyio

PROMISE: Final = "`kill -9` while digests are sent loses nothing and makes no second id"
KILLS: Final = SCALE.cases(40, 400)
JOBS_A_RUN: Final = 3
WINDOW: Final = 0.2
TYPES: Final = "job.started,job.succeeded,job.failed,job.cancelled"

NOTED: Final = """
import json, time
from contextlib import asynccontextmanager
from pathlib import Path
from poller.sinks import DigestSettings, SinkKind, setting

class Settings(DigestSettings):
    folder: Path = setting(..., "The folder that gets a file for each message")

class Noted:
    def __init__(self, settings):
        self.folder = settings.value.folder

    async def send(self, delivery):
        part = self.folder / f"{time.monotonic_ns()}.part"
        event = delivery.event
        part.write_text(json.dumps({"id": event.id, "body": event.body.decode()}))
        part.rename(part.with_suffix(".json"))

@asynccontextmanager
async def open_sink(settings, context):
    yield Noted(settings)

KIND = SinkKind(Settings, open_sink)
"""
"""A sink whose receiver is a folder, which has a message whole or not at all."""

DELIVERIES: Final = """
SELECT event_id, type, status, digest_id
  FROM deliveries
  JOIN events ON events.id = event_id
 WHERE sink = 'noted'
"""


def messages(notes: Path) -> list[dict[str, Any]]:
    """Return the messages that have arrived."""
    return [json.loads(path.read_text("utf-8")) for path in notes.glob("*.json")]


def deliveries(store: Path) -> list[sqlite3.Row]:
    """Return all deliveries to the sink."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(DELIVERIES).fetchall()


def violations(notes: Path, store: Path, *, with_failures: bool) -> Iterator[str]:
    """Yield what breaks the promise."""
    bodies, carriers = defaultdict(set), defaultdict(set)
    for message in messages(notes):
        body = json.loads(message["body"])
        bodies[message["id"]].add(message["body"])
        for member in body["data"].get("events", [message]):
            carriers[member["id"]].add(message["id"])
            if member.get("type") == "job.failed" and not with_failures:
                yield f"waited: {member['id']}"
    yield from (f"changed: {name}" for name, found in bodies.items() if len(found) > 1)
    yield from (f"second id: {name}" for name, found in carriers.items() if len(found) > 1)
    for row in deliveries(store):
        if row["status"] != "delivered":
            yield f"{row['status']}: {row['event_id']}"
        elif (row["digest_id"] or row["event_id"]) not in bodies:
            yield f"lost: {row['event_id']}"


@pytest.mark.parametrize("with_failures", [False, True])
async def test_kills_lose_no_event_of_a_digest(
    command: Path, tmp_path: Path, *, with_failures: bool
) -> None:
    """Every event is delivered, by itself or in one digest, whose repetition is the same."""
    random, hits = SCALE.random("digests", with_failures), 0
    notes, store, plugins = (tmp_path / name for name in ("notes", "state.db", "plugins"))
    a_plugin(plugins, "noted", NOTED)
    notes.mkdir()
    given = {
        "POLLER_SINKS": "webhook,noted",
        "POLLER_NOTED_FOLDER": str(notes),
        "POLLER_NOTED_EVENTS": TYPES,
        "POLLER_NOTED_DIGEST": f"{WINDOW}s",
        "POLLER_NOTED_DIGEST_FAILURES": "on" if with_failures else "off",
    }
    async with (
        serving(FakeServers(now, random)) as servers,
        process_forker(command, PYTHONPATH=str(plugins)) as forker,
    ):
        for run in range(KILLS // 2):
            for number in range(JOBS_A_RUN):
                servers.add(f"job-{run}-{number}", random.choice(OUTCOMES))
            sent, polls = len(messages(notes)), len(servers.polls)
            child = await forker.start(environment(servers, tmp_path, **given), tmp_path / "log")
            await until(lambda polls=polls: len(servers.polls) > polls)
            if is_aimed := random.random() < 0.5:
                with anyio.move_on_after(1.0):
                    await until(lambda sent=sent: len(messages(notes)) > sent)
            await anyio.sleep(random.uniform(0.0, 0.01 if is_aimed else 2 * WINDOW))
            hits += len(messages(notes)) > sent
            await child.kill()
        child = await forker.start(environment(servers, tmp_path, **given), tmp_path / "log")
        await wait_until_reported(servers)
        with anyio.move_on_after(240.0):
            await until(
                lambda: all(row["status"] == "delivered" for row in deliveries(store)),
                within=480.0,
            )
        code = await child.stop()

    found = [*violations(notes, store, with_failures=with_failures)]
    found += [f"still: {job.job_id}" for job in servers.jobs.values() if not job.is_reported]
    assert code == 0
    assert any(row["digest_id"] for row in deliveries(store))
    tally(PROMISE, cases=KILLS // 2, hits=hits, violations=found)
