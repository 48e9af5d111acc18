"""The server of every benchmark, a process of its own: an API, and a receiver of webhooks.

It sends canned bodies over keep-alive as fast as Python can, so that the client is measured. Its
jobs, `job-0` the oldest, run until they are ended:

    GET  /v1/jobs/ID, /v1/list-jobs, /v1/job-status/ID   as the Sutro API, see the simulator
    GET  /v1/batches/ID                                  a batch in progress, as OpenAI responds
    POST /events...                                      a receiver that accepts every webhook
    GET  /bench/counts                                   the number of requests so far, by kind
    POST /bench/end?over=SECONDS                         end the jobs, one by one within that time
"""

import asyncio
import json
import os
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache, partial
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import trustme
import uvloop

from poller.core.jobs import format_rfc3339
from poller.sutro.simulator.script import JobScript, SimulatedJob

BATCH: Final = json.dumps(
    {
        "id": "batch_0",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-0",
        "completion_window": "24h",
        "status": "in_progress",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1_700_000_000,
        "request_counts": {"total": 100, "completed": 40, "failed": 0},
    }
).encode()


def template(at: float, begun: float) -> bytes:
    """Return a job of the simulator at a moment, without its number and its creation."""
    script = JobScript(job_id="job-0", queue_seconds=1.0, run_seconds=60.0)
    job = SimulatedJob(script=script, number=0, created=begun, speed=1.0).as_object(at)
    text = json.dumps(job | {"datetime_created": "created"}).replace("%", "%%")
    return text.replace('"job-0"', '"job-%d"').replace('"created"', '"%b"').encode()


@dataclass(slots=True)
class Api:
    """The jobs, and the number of requests."""

    jobs: int
    counts: Counter[str] = field(default_factory=Counter)
    moments: dict[str, float] = field(default_factory=dict)
    _end_times: tuple[float, float] = (float("inf"), 0.0)
    _created: list[bytes] = field(init=False)
    _running: bytes = field(init=False)
    _ended: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the parts of every job; each was created a tenth of a second after the last."""
        now = datetime.now(UTC)
        ages = (timedelta(seconds=200.0 + number / 10) for number in range(self.jobs, 0, -1))
        self._created = [format_rfc3339(now - age).encode() for age in ages]
        at = now.timestamp()
        self._running, self._ended = template(at, at - 10.0), template(at, at - 100.0)

    def end(self, over: float) -> None:
        """End the jobs, one by one within so many seconds."""
        self._end_times = time.monotonic(), over / max(self.jobs, 1)

    def has_ended(self, number: int) -> bool:
        """Return whether a job has ended."""
        begun, step = self._end_times
        return time.monotonic() >= begun + (number + 1) * step

    def job(self, number: int) -> bytes:
        """Return a job."""
        text = self._ended if self.has_ended(number) else self._running
        return text % (number, self._created[number])

    def response_body(self, path: str, query: str) -> bytes:
        """Return the body for a path."""
        kind, _, name = path.removeprefix("/v1").lstrip("/").partition("/")
        self._count(kind)
        match kind:
            case "jobs":
                return b'{"job": %b}' % self.job(int(name.removeprefix("job-")))
            case "list-jobs":
                return self._page(query)
            case "job-status":
                return self._status(name)
            case "batches":
                return BATCH
            case _:
                return b""

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1
        now = time.monotonic()
        self.moments.setdefault(f"first {kind}", now)
        self.moments[f"last {kind}"] = now

    def _page(self, query: str) -> bytes:
        parameters = parse_qs(query)
        limit = int(parameters.get("limit", [str(self.jobs)])[0])
        top = int(parameters.get("cursor", [str(self.jobs)])[0])
        bottom = max(top - limit, 0)
        self.counts["listed"] += top - bottom
        jobs = b", ".join(self.job(number) for number in range(top - 1, bottom - 1, -1))
        cursor = b'"%d"' % bottom if bottom else b"null"
        return b'{"jobs": [%b], "next_cursor": %b}' % (jobs, cursor)

    def _status(self, name: str) -> bytes:
        word = "SUCCEEDED" if self.has_ended(int(name.removeprefix("job-"))) else "RUNNING"
        response_body = {
            "message": "Job status retrieved.",
            "job_status": {name: word},
            "metadata": None,
        }
        return json.dumps(response_body).encode()


class Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, kept alive."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._text = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport

    def data_received(self, text: bytes) -> None:
        """Respond to every request that is complete."""
        self._text += text
        while (head := self._text.find(b"\r\n\r\n")) >= 0:
            size = head + 4 + self._length(self._text[:head])
            if len(self._text) < size:
                return
            target = self._text[: self._text.find(b"\r")].split(b" ")[1].decode()
            self._text = self._text[size:]
            self._transport.write(self._respond(target))

    @staticmethod
    def _length(head: bytes) -> int:
        if not head.startswith(b"POST"):
            return 0
        _, _, rest = head.lower().partition(b"\r\ncontent-length:")
        return int(rest.partition(b"\r\n")[0] or 0)

    def _respond(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        steer = {"/bench/counts": self._counts, "/bench/end": self._end}.get(path)
        body = steer(query) if steer else self._api.response_body(path, query)
        return b"%bContent-Length: %d\r\n\r\n%b" % (_head(int(time.time())), len(body), body)

    def _counts(self, _query: str) -> bytes:
        return json.dumps(self._api.counts | self._api.moments).encode()

    def _end(self, query: str) -> bytes:
        self._api.end(float(parse_qs(query)["over"][0]))
        return b"{}"


@lru_cache(maxsize=1)
def _head(now: int) -> bytes:
    """Return the first lines of the responses of a second."""
    lines = ("HTTP/1.1 200 OK", "Server: bench", f"Date: {formatdate(now, usegmt=True)}")
    return "\r\n".join((*lines, "Content-Type: application/json", "")).encode()


async def serve(api: Api, ca_file: Path) -> None:
    """Listen with and without TLS, print the URLs, and serve until stdin is closed."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    loop = asyncio.get_running_loop()
    urls = {}
    for scheme, context in {"http": None, "https": tls}.items():
        server = await loop.create_server(partial(Connection, api), "127.0.0.1", 0, ssl=context)
        urls[scheme] = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps(urls), flush=True)  # noqa: T201 - read by the parent process
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    _, number, ca_path = sys.argv
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    uvloop.run(serve(Api(int(number)), Path(ca_path)))
