"""Networks that forget idle connections, and servers that close them when a request arrives."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import connector
from anyio.abc import ByteStream, SocketAttribute

from tests.support.builders import a_job_object
from tests.support.http_peers import HANG_UP, NEVER, read_request, reply
from tests.support.running_app import Receiver, an_app, running_app, served
from tests.support.virtual_time import virtual_clock

ENDS_AT = 6_000.0
OLD = {"datetime_created": "2024-01-10T10:00:00Z", "datetime_started": "2024-01-10T10:00:00Z"}

pytestmark = pytest.mark.virtual(limit=100_000.0)


@pytest.fixture(autouse=True)
def _pool_in_virtual_time(monkeypatch):
    """Have the library's pool of connections read the clock of the loop."""
    monkeypatch.setattr(connector, "monotonic", anyio.current_time)


class ForgetfulApi:
    """An API behind a network that forgets a connection after so many idle seconds."""

    def __init__(self, forgets_after: float, *, is_reset: bool = False) -> None:
        self.forgets_after = forgets_after
        self.is_reset = is_reset
        self.answered: list[float] = []
        self.lost: list[float] = []

    async def handle(self, stream: ByteStream) -> None:
        """Serve one connection until it is forgotten."""
        try:
            used = anyio.current_time()
            while head := await read_request(stream):
                if anyio.current_time() - used > self.forgets_after:
                    self.lost.append(anyio.current_time())
                    await anyio.sleep(0.0 if self.is_reset else NEVER)
                    break
                used = anyio.current_time()
                self.answered.append(used)
                await stream.send(self.response(head.split()[1].decode().rpartition("/")[2]))
        except HANG_UP:
            pass
        finally:
            await stream.aclose()

    def response(self, job_id: str) -> bytes:
        """Return a job that ends at last."""
        is_done = anyio.current_time() >= ENDS_AT
        completed = "2024-01-15T11:40:00Z" if is_done else None
        status = "SUCCEEDED" if is_done else "RUNNING"
        job = a_job_object(job_id=job_id, status=status, datetime_completed=completed, **OLD)
        return reply(200, json.dumps({"job": job}).encode(), connection="keep-alive")


@asynccontextmanager
async def listening(api: ForgetfulApi) -> AsyncIterator[str]:
    """Serve an API on loopback."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, api.handle)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


async def lateness(api: ForgetfulApi, jobs: int, **settings: str) -> float:
    """Watch old jobs until they end; return how late the last end was reported."""
    receiver = Receiver()
    ids = ",".join(f"job-{number}" for number in range(jobs))
    async with listening(api) as base, served(receiver.take) as hook:
        settings |= {"POLLER_JOB_IDS": ids, "POLLER_LIST_PAGES": "off"}
        async with running_app(an_app(f"{base}/v1", hook, clock=virtual_clock(), **settings)):
            await anyio.sleep(ENDS_AT + 1_000.0)
    assert len(receiver.got) == jobs
    return max(at for at, *_ in receiver.got) - ENDS_AT


@pytest.mark.parametrize("jobs", [1, 5])
async def test_idle_connections_are_not_reused(jobs: int):
    """Where connections are forgotten after four minutes, not one poll is lost."""
    api = ForgetfulApi(240.0)

    late = await lateness(api, jobs, POLLER_MAX_INTERVAL="300s", POLLER_INTERVAL_FACTOR="5")

    assert late <= 340.0
    assert api.lost == []


@pytest.mark.parametrize(("is_reset", "seconds"), [(False, 30.0), (True, 0.0)])
async def test_stale_connections_are_replaced_at_once(is_reset: bool, seconds: float):
    """A poll on a forgotten connection is repeated on a new one as soon as it has failed."""
    api = ForgetfulApi(100.0, is_reset=is_reset)

    late = await lateness(api, 5, POLLER_MAX_INTERVAL="150s")

    assert api.lost
    assert late <= 165.0 + seconds + 5.0
    for lost in api.lost:
        assert any(lost <= at <= lost + seconds + 3.0 for at in api.answered)
