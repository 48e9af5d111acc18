"""Events as they are recorded, for whoever listens."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import anyio
import pytest

from poller.api import stream
from poller.api.context import ApiContext
from poller.sutro.simulator.script import JobScript
from tests.api.conftest import RUNS
from tests.support.api_server import House, a_house
from tests.support.builders import check_event
from tests.support.secret_canaries import found_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@dataclass
class Listener:
    """Somebody who listens: what was heard, as a browser's EventSource would read it."""

    status: int
    headers: dict[str, str]
    events: list[dict[str, str]] = field(default_factory=list)
    comments: int = 0
    has_ended: bool = False

    @property
    def subjects(self) -> list[str]:
        """The jobs that were heard of."""
        return [check_event(it["data"].encode())["data"]["job"]["job_id"] for it in self.events]

    def hear(self, block: str) -> None:
        """Take in one block of lines."""
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[:1].isalpha())
        self.comments += block.startswith(":")
        if "data" in fields:
            self.events.append(fields)


@asynccontextmanager
async def listening(house: House, query: str = "", **headers: str) -> AsyncIterator[Listener]:
    """Listen while the block runs."""
    async with house.session.get(f"{house.url}/v1/events/stream{query}", headers=headers) as answer:
        listener = Listener(answer.status, dict(answer.headers))
        async with anyio.create_task_group() as group:
            group.start_soon(_hear, answer, listener)
            yield listener
            group.cancel_scope.cancel()


async def _hear(answer: aiohttp.ClientResponse, listener: Listener) -> None:
    with suppress(aiohttp.ClientPayloadError):
        while not listener.has_ended:
            block = await answer.content.readuntil(b"\n\n")
            assert not found_in(block)
            listener.has_ended = not block
            listener.hear(block.decode().removesuffix("\n\n"))


async def end(house: House, job_id: str) -> None:
    """Let a job end, and its event be recorded."""
    house.api.add(JobScript(job_id=job_id, queue_seconds=0.0, run_seconds=0.0))
    await house.post("/v1/jobs", {"job_ids": [job_id]})
    await until(lambda: job_id in house.receiver.ends)


async def test_events_are_heard_at_once(house: House, monkeypatch):
    """Who listens hears of an event when it is recorded, with its id, its type and its body."""
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 3_600.0)
    await until(lambda: house.receiver.ends)
    async with listening(house, "?type=job.succeeded") as listener:
        await end(house, "job-3")
        await until(lambda: listener.events)

    assert listener.status == 200
    assert listener.headers["Content-Type"] == "text/event-stream"
    assert listener.subjects == ["job-3"]
    (heard,) = listener.events
    sent = next(it for it in house.receiver.receipts if it.subject == "job-3")
    assert (heard["id"], heard["event"]) == (sent.id, "job.succeeded")
    assert heard["data"].encode() == sent.body


async def test_who_comes_back_misses_nothing(house: House):
    """After the event that was heard last come all that were recorded meanwhile, in order."""
    await until(lambda: house.receiver.ends)
    (last,) = [it.id for it in house.receiver.receipts if it.subject == "job-2"]
    for number in range(3, 6):
        await end(house, f"job-{number}")
    async with (
        listening(house, "?type=job.succeeded", **{"Last-Event-ID": last}) as browser,
        listening(house, f"?type=job.succeeded&after={last}") as shell,
    ):
        await until(lambda: len(browser.events) == len(shell.events) == 3)

    assert browser.subjects == shell.subjects == ["job-3", "job-4", "job-5"]


async def test_a_browser_that_comes_back_by_itself(house: House):
    """A browser asks by the address that it began with: what it heard last counts before that."""
    await until(lambda: house.receiver.ends)
    for number in (3, 4):
        await end(house, f"job-{number}")
    ids = {it.subject: it.id for it in house.receiver.receipts}
    query = f"?type=job.succeeded&after={ids['job-2']}"
    async with listening(house, query, **{"Last-Event-ID": ids["job-3"]}) as browser:
        await until(lambda: browser.events)

    assert browser.subjects == ["job-4"]


async def test_what_is_recorded_during_a_look_is_heard_at_once(house: House, monkeypatch):
    """An event that just misses the last look before a wait does not wait with the listener."""
    await until(lambda: house.receiver.ends)
    look, missed = ApiContext.query, iter(["job-3"])

    async def look_slowly(context, run, *args, **kwargs):
        rows = await look(context, run, *args, **kwargs)
        if rows == [] and (job_id := next(missed, None)):
            await end(house, job_id)
        return rows

    monkeypatch.setattr(ApiContext, "query", look_slowly)
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 3_600.0)
    async with listening(house, "?type=job.succeeded") as listener:
        await until(lambda: listener.events)

    assert listener.subjects == ["job-3"]


async def test_who_names_what_is_forgotten_gets_all(house: House):
    """An event that is not known any more stands before all that are kept."""
    await until(lambda: house.receiver.ends)
    async with listening(house, "?type=job.succeeded&after=evt_" + "a" * 52) as listener:
        await until(lambda: listener.events)

    assert listener.subjects == ["job-2"]


async def test_filters(house: House, monkeypatch):
    """Who wants some events only hears of no others, and is not stopped by them."""
    monkeypatch.setattr(stream, "EVENTS_PER_READ", 1)
    await until(lambda: house.receiver.ends)
    async with (
        listening(house, "?job=job-4") as one,
        listening(house, "?type=job.failed") as other,
        listening(house, "?type=job.succeeded") as all_of_them,
    ):
        await end(house, "job-3")
        await end(house, "job-4")
        await until(lambda: len(all_of_them.events) == 2 and one.events)

    assert (one.subjects, other.events) == (["job-4"], [])


async def test_silence_is_told(house: House, monkeypatch):
    """While nothing happens a comment says that the connection still is one."""
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 0.05)
    async with listening(house) as listener:
        await until(lambda: listener.comments > 3)

    assert listener.events == []


async def test_a_stop_ends_the_streams(tmp_path: Path):
    """A daemon that stops does not wait for those who listen."""
    async with a_house(tmp_path, RUNS) as house, listening(house) as listener:
        house.app.stop()
        await until(lambda: listener.has_ended)

    assert not [it for it in house.log if it["event"] == "api.request_failed"]


async def test_too_many_who_listen(house: House, monkeypatch):
    """Of too many listeners the last is refused; it may come when another has gone."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 0.05)
    async with listening(house):
        refused = await house.get("/v1/events/stream")
    await until(lambda: house.app._api.streams == 0)
    async with listening(house) as listener:
        pass

    assert (refused.status, refused.problem) == (503, "too-many-streams")
    assert listener.status == 200


async def test_who_does_not_read_is_let_go_of(house: House, monkeypatch):
    """A listener that stops reading costs no more than its connection, and not that for long."""
    monkeypatch.setattr(stream, "WRITE_TIMEOUT", 0.2)
    monkeypatch.setattr(stream, "KEEP_ALIVE_INTERVAL", 0.0)
    monkeypatch.setattr(stream, "KEEP_ALIVE_COMMENT", b": " + b"x" * 1_000_000 + b"\n\n")
    async with house.session.get(f"{house.url}/v1/events/stream"):
        await until(lambda: house.app._api.streams == 1)
        await until(lambda: house.app._api.streams == 0)


async def test_odd_listeners(house: House):
    """What is not understood is refused before anything is sent."""
    for query in ("?after=evt_", "?job=a/b", "?type=x", "?since=now"):
        assert (await house.get(f"/v1/events/stream{query}")).problem == "invalid"
    assert (await house.ask("HEAD", "/v1/events/stream")).status == 400


def test_a_body_is_one_line():
    """A frame holds the body in one line, as its freezing leaves no line break in it."""
    row = {"id": "evt_x", "type": "job.failed", "body": json.dumps({"a": "b\nc"}).encode()}

    assert stream._frame(row).count(b"\n") == 4
