"""The event stream of the HTTP API."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import anyio
import pytest

from poller.api import stream
from poller.api.context import ApiContext
from poller.sutro.simulator.script import JobScript
from tests.api.conftest import RUNS
from tests.support.api_server import LiveDaemon, live_daemon, unread_bytes
from tests.support.builders import check_event
from tests.support.secret_canaries import found_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@dataclass
class StreamClient:
    """A client of the stream, which parses it as a browser's EventSource does."""

    status: int
    headers: dict[str, str]
    events: list[dict[str, str]] = field(default_factory=list)
    comments: int = 0
    has_ended: bool = False

    @property
    def subjects(self) -> list[str]:
        """The jobs of the events."""
        return [
            check_event(event["data"].encode())["data"]["job"]["job_id"] for event in self.events
        ]

    def receive(self, block: str) -> None:
        """Parse one block of lines."""
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[:1].isalpha())
        self.comments += block.startswith(":")
        if "data" in fields:
            self.events.append(fields)


@asynccontextmanager
async def streaming(
    daemon: LiveDaemon, query: str = "", **headers: str
) -> AsyncIterator[StreamClient]:
    """Read the stream while the block runs."""
    async with daemon.session.get(
        f"{daemon.url}/v1/events/stream{query}", headers=headers
    ) as response:
        client = StreamClient(response.status, dict(response.headers))
        async with anyio.create_task_group() as group:
            group.start_soon(_read_stream, response, client)
            yield client
            group.cancel_scope.cancel()


async def _read_stream(response: aiohttp.ClientResponse, client: StreamClient) -> None:
    with suppress(aiohttp.ClientPayloadError):
        while not client.has_ended:
            block = await response.content.readuntil(b"\n\n")
            assert not found_in(block)
            client.has_ended = not block
            client.receive(block.decode().removesuffix("\n\n"))


async def end_job(daemon: LiveDaemon, job_id: str) -> None:
    """Let a job end, and wait until its event is delivered."""
    daemon.api.add(JobScript(job_id=job_id, queue_seconds=0.0, run_seconds=0.0))
    await daemon.post("/v1/jobs", {"job_ids": [job_id]})
    await until(lambda: job_id in daemon.receiver.ends)


async def test_stream_sends_an_event_when_it_is_recorded(daemon: LiveDaemon, monkeypatch):
    """An event is streamed when it is recorded, with its id, type and body."""
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 3_600.0)
    await until(lambda: daemon.receiver.ends)
    async with streaming(daemon, "?type=job.succeeded") as client:
        await end_job(daemon, "job-3")
        await until(lambda: client.events)

    assert client.status == 200
    assert client.headers["Content-Type"] == "text/event-stream"
    assert client.subjects == ["job-3"]
    (event,) = client.events
    sent = next(receipt for receipt in daemon.receiver.received if receipt.subject == "job-3")
    assert (event["id"], event["event"]) == (sent.id, "job.succeeded")
    assert event["data"].encode() == sent.body


async def test_stream_sends_and_counts_a_disabled_sink_at_once(tmp_path: Path, monkeypatch):
    """That a sink is disabled is streamed when it is recorded, and counted once."""
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 3_600.0)
    async with (
        live_daemon(tmp_path, RUNS, status=410) as daemon,
        streaming(daemon, "?type=poller.sink_disabled") as client,
    ):
        for number in range(3):
            daemon.api.add(JobScript(job_id=f"end-{number}", queue_seconds=0.0, run_seconds=0.0))
        await daemon.post("/v1/jobs", {"job_ids": ["end-0", "end-1", "end-2"]})
        await until(lambda: client.events)
        scraped = (await daemon.get("/metrics")).text

    assert len(client.events) == 1
    assert 'events_recorded_total{type="poller.sink_disabled"} 1.0' in scraped


async def test_stream_resumes_after_an_event(daemon: LiveDaemon):
    """After a given event, all that were recorded since are streamed in order."""
    await until(lambda: daemon.receiver.ends)
    (last,) = [receipt.id for receipt in daemon.receiver.received if receipt.subject == "job-2"]
    for number in range(3, 6):
        await end_job(daemon, f"job-{number}")
    async with (
        streaming(daemon, "?type=job.succeeded", **{"Last-Event-ID": last}) as browser,
        streaming(daemon, f"?type=job.succeeded&after={last}") as shell,
    ):
        await until(lambda: len(browser.events) == len(shell.events) == 3)

    assert browser.subjects == shell.subjects == ["job-3", "job-4", "job-5"]


async def test_stream_prefers_last_event_id_to_after(daemon: LiveDaemon):
    """A browser reconnects to the same URL: its Last-Event-ID overrides `after`."""
    await until(lambda: daemon.receiver.ends)
    for number in (3, 4):
        await end_job(daemon, f"job-{number}")
    ids = {receipt.subject: receipt.id for receipt in daemon.receiver.received}
    query = f"?type=job.succeeded&after={ids['job-2']}"
    async with streaming(daemon, query, **{"Last-Event-ID": ids["job-3"]}) as browser:
        await until(lambda: browser.events)

    assert browser.subjects == ["job-4"]


async def test_stream_misses_no_event_recorded_during_a_read(daemon: LiveDaemon, monkeypatch):
    """An event that is recorded just after a read is streamed at once."""
    await until(lambda: daemon.receiver.ends)
    query, missed = ApiContext.query, iter(["job-3"])

    async def query_slowly(context, run, *args, **kwargs):
        rows = await query(context, run, *args, **kwargs)
        if rows == [] and (job_id := next(missed, None)):
            await end_job(daemon, job_id)
        return rows

    monkeypatch.setattr(ApiContext, "query", query_slowly)
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 3_600.0)
    async with streaming(daemon, "?type=job.succeeded") as client:
        await until(lambda: client.events)

    assert client.subjects == ["job-3"]


async def test_stream_after_an_unknown_event_sends_all(daemon: LiveDaemon):
    """After an event that is no longer stored, all stored events are streamed."""
    await until(lambda: daemon.receiver.ends)
    async with streaming(daemon, "?type=job.succeeded&after=evt_" + "a" * 52) as client:
        await until(lambda: client.events)

    assert client.subjects == ["job-2"]


async def test_stream_filters(daemon: LiveDaemon, monkeypatch):
    """A filtered stream has only matching events; others do not stop it."""
    monkeypatch.setattr(stream, "EVENTS_PER_READ", 1)
    await until(lambda: daemon.receiver.ends)
    async with (
        streaming(daemon, "?job=job-4") as one,
        streaming(daemon, "?type=job.failed") as other,
        streaming(daemon, "?type=job.succeeded") as all_of_them,
    ):
        await end_job(daemon, "job-3")
        await end_job(daemon, "job-4")
        await until(lambda: len(all_of_them.events) == 2 and one.events)

    assert (one.subjects, other.events) == (["job-4"], [])


async def test_stream_sends_keep_alive_comments(daemon: LiveDaemon, monkeypatch):
    """While no event is recorded, comments keep the connection alive."""
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 0.05)
    async with streaming(daemon) as client:
        await until(lambda: client.comments > 3)

    assert client.events == []


async def test_stream_ends_when_the_daemon_stops(tmp_path: Path):
    """A daemon that stops does not wait for streams."""
    async with live_daemon(tmp_path, RUNS) as daemon, streaming(daemon) as client:
        daemon.app.stop()
        await until(lambda: client.has_ended)

    assert not [entry for entry in daemon.log if entry["event"] == "api.request_failed"]


async def test_stream_limit(daemon: LiveDaemon, monkeypatch):
    """Above the limit, a stream is rejected; it can start when another has ended."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 0.05)
    async with streaming(daemon):
        rejected = await daemon.get("/v1/events/stream")
    await until(lambda: daemon.app._api.streams == 0)
    async with streaming(daemon) as client:
        pass

    assert (rejected.status, rejected.problem) == (503, "too-many-streams")
    assert client.status == 200


async def test_stream_closes_a_client_that_does_not_read(daemon: LiveDaemon, monkeypatch):
    """A client that stops reading costs one connection, and only for a short time."""
    monkeypatch.setattr(stream, "WRITE_TIMEOUT", 0.2)
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 0.0)
    monkeypatch.setattr(stream, "KEEP_ALIVE_COMMENT", b": " + b"x" * 1_000_000 + b"\n\n")
    async with daemon.session.get(f"{daemon.url}/v1/events/stream") as response:
        await until(lambda: daemon.app._api.streams == 1)
        await until(lambda: daemon.app._api.streams == 0)
        await until(lambda: unread_bytes(daemon) == 0)
        with pytest.raises(aiohttp.ClientError):  # the end is clear: it must connect again
            await response.read()


async def test_stream_keeps_few_bytes_of_each_client_that_does_not_read(
    daemon: LiveDaemon, tmp_path: Path
):
    """Of a long stream that nobody reads, little is in memory, however many events there are."""
    await until(lambda: daemon.receiver.ends)
    record_large_events(tmp_path / "state.db", 500)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            url = f"{daemon.url}/v1/events/stream?after=evt_" + "a" * 52
            await stack.enter_async_context(daemon.session.get(url))
        seen = [await until(lambda: unread_bytes(daemon))]
        while len(seen) < 20 or len({*seen[-20:]}) > 1:  # the buffers of the clients fill first
            seen.append(unread_bytes(daemon))
            await anyio.sleep(0.01)

    assert 0 < max(seen) < 4 * 160_000


def record_large_events(path: Path, count: int) -> None:
    """Record events of 19,900 bytes each."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(
            "INSERT INTO events VALUES (?, 'job.failed', 'job-9', '', 0, ?, x'', NULL)",
            [(f"evt_{number}", b"x" * 19_900) for number in range(count)],
        )


async def test_stream_rejects_invalid_queries(daemon: LiveDaemon):
    """An invalid query is rejected before anything is sent."""
    for query in ("?after=evt_", "?job=a,b", "?type=x", "?since=now"):
        assert (await daemon.get(f"/v1/events/stream{query}")).problem == "invalid"
    assert (await daemon.request("HEAD", "/v1/events/stream")).status == 400


def test_stream_frame_has_the_body_in_one_line():
    """A frame has the body in one line: encoded bodies contain no line break."""
    row = {"id": "evt_x", "type": "job.failed", "body": json.dumps({"a": "b\nc"}).encode()}

    assert stream._frame(row).count(b"\n") == 4
