"""Events in the HTTP API: list, show, replay."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.api.conftest import ENDS, RUNS
from tests.api.test_jobs import pages
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.builders import check_event
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
UNKNOWN = "evt_" + "a" * 52


async def event_of_the_end(daemon: LiveDaemon) -> str:
    """Return the id of the event of the end of job-2, once it is delivered."""
    (receipt,) = await until(
        lambda: [receipt for receipt in daemon.receiver.received if receipt.is_acknowledged]
    )
    while True:
        shown = (await daemon.get(f"/v1/events/{receipt.id}")).body
        if all(delivery["status"] == "delivered" for delivery in shown["deliveries"]):
            return receipt.id


async def test_events_show(daemon: LiveDaemon):
    """An event is shown with the body that was sent, and its deliveries."""
    event_id = await event_of_the_end(daemon)

    shown = (await daemon.get(f"/v1/events/{event_id}")).body

    assert (shown["type"], shown["subject"]) == ("job.succeeded", "job-2")
    assert shown["body"] == check_event(daemon.receiver.received[0].body)
    statuses = {delivery["sink"]: delivery["status"] for delivery in shown["deliveries"]}
    assert statuses == {"log": "delivered", "webhook": "delivered"}


async def test_events_show_without_a_damaged_body(daemon: LiveDaemon, tmp_path: Path):
    """An event whose stored body is damaged is shown without it."""
    event_id = await event_of_the_end(daemon)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as db:
        db.execute("UPDATE events SET body = ? WHERE id = ?", (b'{"id": "other"}', event_id))

    shown = (await daemon.get(f"/v1/events/{event_id}")).body

    assert (shown["id"], shown["body"]) == (event_id, None)


async def test_events_pages(daemon: LiveDaemon):
    """Pages together have every event once, the latest first."""
    await event_of_the_end(daemon)
    for number in range(3, 6):
        daemon.api.add(JobScript(job_id=f"job-{number}", queue_seconds=0.0, run_seconds=0.0))
        await daemon.post("/v1/jobs", {"job_ids": [f"job-{number}"]})
        await until(lambda n=number: f"job-{n}" in daemon.receiver.ends)

    found = await pages(daemon, "/v1/events?limit=3&type=job.succeeded", "events")

    assert [len(page) for page in found] == [3, 1]
    assert len({row for page in found for row in page}) == 4


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("job=job-2", 1),
        ("job=job", 0),
        ("type=job.succeeded", 1),
        ("type=job.failed", 0),
        ("sink=webhook", 1),
        ("sink=nobody", 0),
        ("state=delivered", 1),
        ("state=dead", 0),
        ("sink=log&state=delivered&since=2020-01-01T00:00:00Z", 1),
        ("since=2100-01-01T00:00:00Z", 0),
    ],
)
async def test_events_filters(daemon: LiveDaemon, query: str, count: int):
    """Events are filtered by job, type, sink, status and time; ids and names must be complete."""
    await event_of_the_end(daemon)

    assert len((await daemon.get(f"/v1/events?{query}")).body["events"]) == count


@pytest.mark.parametrize("query", ["type=job", "state=DEAD", "sink=X", "job=a,b", "state="])
async def test_events_reject_invalid_queries(daemon: LiveDaemon, query: str):
    """Invalid parameters are rejected, not ignored."""
    assert (await daemon.get(f"/v1/events?{query}")).problem == "invalid"


@pytest.fixture
def _seldom_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the outbox when something has changed, and hardly ever by itself."""
    for interval in ("STORE_POLL_INTERVAL", "HEARTBEAT_INTERVAL"):
        monkeypatch.setattr(f"poller.delivery.worker.{interval}", 3_600.0)


@pytest.mark.usefixtures("_seldom_read")
async def test_events_replay(daemon: LiveDaemon):
    """A replay is sent at once: the same id and bytes, marked as a replay."""
    event_id = await event_of_the_end(daemon)

    response = await daemon.post(f"/v1/events/{event_id}/replay?sink=webhook")
    again = await until(
        lambda: [receipt for receipt in daemon.receiver.received if receipt.is_replay]
    )

    assert response.body == {"deliveries": [{"sink": "webhook", "skipped_reason": None}]}
    first = daemon.receiver.received[0]
    assert [(receipt.id, receipt.body) for receipt in again] == [(first.id, first.body)]


async def test_events_replay_rejects_a_body(daemon: LiveDaemon):
    """A body is rejected: it may have been meant to limit the replay."""
    await until(lambda: daemon.receiver.ends)
    event_id = (await daemon.get("/v1/events?sink=webhook")).body["events"][0]["id"]
    response = await daemon.post(f"/v1/events/{event_id}/replay", {"sink": "nope"})

    assert (response.status, response.problem) == (400, "invalid")


async def test_events_replay_skips_pending_deliveries(tmp_path: Path):
    """A pending delivery is skipped, with the reason."""
    async with live_daemon(tmp_path, RUNS, ENDS, status=500, POLLER_JOB_IDS="job-2") as daemon:
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        (event,) = (await daemon.get("/v1/events")).body["events"]
        response = await daemon.post(f"/v1/events/{event['id']}/replay?sink=webhook")

    assert response.status == 200
    assert response.body["deliveries"] == [{"sink": "webhook", "skipped_reason": "already pending"}]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (UNKNOWN, "not-found"),
        ("evt_a", "invalid"),
        ("evt_", "invalid"),
        (UNKNOWN.upper(), "invalid"),
    ],
)
async def test_events_show_rejects_unknown_ids(daemon: LiveDaemon, path: str, problem: str):
    """An unknown id is not found; a prefix of one is invalid."""
    await event_of_the_end(daemon)

    shown = await daemon.get(f"/v1/events/{path}")
    again = await daemon.post(f"/v1/events/{path}/replay")

    assert (shown.problem, again.problem) == (problem, problem)


async def test_events_replay_rejects_an_unknown_sink(daemon: LiveDaemon):
    """A replay to an unknown sink is not found."""
    event_id = await event_of_the_end(daemon)

    response = await daemon.post(f"/v1/events/{event_id}/replay?sink=nobody")

    assert response.problem == "not-found"


async def test_events_replay_of_an_event_for_no_sink(tmp_path: Path):
    """An event for no sink can be sent to a sink by name only."""
    changes = {"POLLER_WEBHOOK_EVENTS": "job.failed", "POLLER_SINKS": "webhook"}
    async with live_daemon(tmp_path, RUNS, ENDS, POLLER_JOB_IDS="job-2", **changes) as daemon:
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        (event,) = (await daemon.get("/v1/events")).body["events"]
        rejected = await daemon.post(f"/v1/events/{event['id']}/replay")
        accepted = await daemon.post(f"/v1/events/{event['id']}/replay?sink=webhook")
        await until(lambda: daemon.receiver.received)

    assert (rejected.status, rejected.problem) == (409, "conflict")
    assert accepted.status == 200
