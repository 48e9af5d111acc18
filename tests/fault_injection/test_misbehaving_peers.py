"""Twenty misbehaving peers beside two healthy jobs: their cost in memory and time."""

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.abc import ByteStream

from poller.runtime.http_client import LARGE_BODY_BYTES, MAX_LARGE_BODIES
from poller.sutro.client import JOB_BYTES_CAP
from tests.fault_injection.broken_transports import BROTLI_BOMB, chunk, gzip_bomb, zstd_bomb
from tests.fault_injection.harness import SCALE, ForkedProcess, process_forker, tally
from tests.fault_injection.malformed import job_objects
from tests.fault_injection.response_bodies import job_body
from tests.support.http_peers import (
    CHUNKED,
    HANG_UP,
    OK,
    ConnectionHandler,
    drips,
    floods,
    peer,
    responds,
    sends,
    stalls,
)
from tests.support.lateness import measured_lateness
from tests.support.secret_canaries import KEY
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PROMISE = (
    "twenty hostile peers at once cost at most 34 MiB, and delay other polls by at most 100 ms"
)
REQUEST_TIMEOUT: Final = 2.0
"""Seconds that one request may take."""

DEADLINE_TOLERANCE: Final = 4.0
"""Seconds by which a request may exceed that, without the lateness of the machine."""

GIVE_UP: Final = 10.0
"""Seconds after which a peer closes a connection that the client has not closed."""

INTERVAL: Final = 0.05
CALM_SECONDS: Final = 2.0
ATTACK_SECONDS: Final = 3.0
MAX_DELAY: Final = 0.1
"""Seconds by which the 99th percentile of healthy polls may be later than in calm times.

The time in which the daemon waited for a processor, or this process was late, is subtracted.
"""

MAX_GROWTH: Final = 3 * MAX_LARGE_BODIES * JOB_BYTES_CAP + 2 * 20 * LARGE_BODY_BYTES
"""Two bodies at a time are read up to the limit, the others up to 256 KiB and the same in buffers.

A large body is there three times for a moment: in parts, as a whole, and as text.
"""

LARGE_BODY: Final = OK + b"Content-Length: 9000000\r\n\r\n" + b" " * 300_000
BODY_AT_LIMIT: Final = b'{"job": {"x": "' + b"x" * (JOB_BYTES_CAP - 40) + b'"}}'

RESPONSES: Final[Sequence[ConnectionHandler]] = (
    *[stalls(), drips(OK + b"X-Slow: ", b"a", every=0.2), drips(OK, b"X-Slow: 1\r\n", every=0.2)],
    *[drips(LARGE_BODY, b" ", every=0.1)] * 4,
    *[drips(CHUNKED, chunk(b" "), every=0.1)] * 2,
    drips(b"", b"HTTP/1.1 102 Processing\r\n\r\n", every=0.1),
    *[floods(CHUNKED, chunk(b" " * 65_536))] * 2,
    *[floods(OK + b"Content-Length: 8000000000\r\n\r\n", b" " * 65_536)] * 2,
    responds(200, gzip_bomb(), content_encoding="gzip"),
    responds(200, BROTLI_BOMB, content_encoding="br"),
    responds(200, zstd_bomb(), content_encoding="zstd"),
    responds(200, b'{"job": [' + b"[]," * (JOB_BYTES_CAP // 3 - 10) + b"[]]}"),
    responds(200, BODY_AT_LIMIT),
    sends(OK + b"X-Long: " + b"a" * 4_000_000 + b"\r\n\r\n"),
)
"""The response for each of twenty jobs."""


@dataclass
class MisbehavingApi:
    """An API over bare TCP.

    `healthy` holds when each healthy job was polled, and the lateness of the machine until then.
    `durations` are without that lateness.
    """

    misbehaving: dict[str, ConnectionHandler]
    lateness: Callable[[], float] = float
    is_over: bool = False
    healthy: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    durations: list[tuple[str, float]] = field(default_factory=list)

    async def answer(self, stream: ByteStream, line: str) -> None:
        """Answer one request well, or as its job misbehaves."""
        began, late_before = time.monotonic(), self.lateness()
        job_id = line.split()[1].rpartition("/")[2]
        if handler := self.misbehaving.get(job_id):
            await _send_until_closed(stream, handler)
            late = self.lateness() - late_before
            self.durations.append((job_id, time.monotonic() - began - late))
            return
        self.healthy[job_id].append((began, late_before))
        _, running, ended = job_objects(job_id)
        await responds(200, job_body(ended if self.is_over else running))(stream)

    def delays(self, spans: Sequence[tuple[float, float]]) -> list[float]:
        """Return by how much each healthy poll in some spans was late."""
        return [
            max(0.0, (after - before) - 1.1 * INTERVAL - (late_after - late_before))
            for poll_times in self.healthy.values()
            for (before, late_before), (after, late_after) in pairwise(poll_times)
            if any(start <= before and after <= end for start, end in spans)
        ]


async def _send_until_closed(stream: ByteStream, handler: ConnectionHandler) -> None:
    """Send until the client has closed the connection."""

    async def send_all() -> None:
        try:
            await handler(stream)
            await stream.send_eof()
            await anyio.sleep(GIVE_UP)
        except HANG_UP:
            talking.cancel_scope.cancel()

    async with anyio.create_task_group() as talking:
        talking.start_soon(send_all)
        try:
            while True:
                await stream.receive()
        except HANG_UP:
            talking.cancel_scope.cancel()


def environment(base: str, folder: Path) -> dict[str, str]:
    """Return the environment of the daemon."""
    return {
        "HOME": str(folder),
        "SUTRO_API_URL": f"{base}/v1",
        "SUTRO_API_KEY": KEY,
        "POLLER_JOBS_FILE": str(folder / "jobs"),
        "POLLER_SINKS": "log",
        "POLLER_LIST_PAGES": "off",
        "POLLER_LISTEN": "off",
        "POLLER_STORE": str(folder / "state.db"),
        "POLLER_MIN_INTERVAL": str(INTERVAL),
        "POLLER_MAX_INTERVAL": str(INTERVAL),
        "POLLER_REQUESTS_PER_MINUTE": "60000",
        "POLLER_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
        "POLLER_CONCURRENCY": "32",
    }


def kilobytes(child: ForkedProcess, name: str) -> int:
    """Return a figure of a process's memory."""
    lines = Path(f"/proc/{child.pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def counts(child: ForkedProcess) -> tuple[int, int]:
    """Return the numbers of threads and open files of a process."""
    folder = Path(f"/proc/{child.pid}")
    return len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all values does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


@dataclass
class Measurement:
    """Measures a daemon in calm times and under attack."""

    child: ForkedProcess
    jobs: Path
    servers: MisbehavingApi
    calm: list[tuple[float, float]] = field(default_factory=list)
    attacked: list[tuple[float, float]] = field(default_factory=list)

    async def measure_calm(self) -> None:
        """Watch the healthy jobs alone for a while."""
        await self._watch(self.servers.healthy)
        await anyio.sleep(REQUEST_TIMEOUT + 0.5)
        began = time.monotonic()
        await anyio.sleep(CALM_SECONDS)
        self.calm.append((began, time.monotonic()))

    async def measure_attack(self) -> None:
        """Watch all jobs for a while."""
        await self._watch([*self.servers.healthy, *self.servers.misbehaving])
        began = time.monotonic()
        await anyio.sleep(ATTACK_SECONDS)
        self.attacked.append((began, time.monotonic()))

    async def _watch(self, job_ids: Sequence[str]) -> None:
        self.jobs.write_text("".join(f"{job_id}\n" for job_id in job_ids))
        self.child.send(signal.SIGHUP)


async def test_twenty_misbehaving_peers_at_once(command: Path, tmp_path: Path):
    """Each request ends at its deadline, memory grows by two bodies, healthy polls stay on time."""
    servers = MisbehavingApi(
        {f"misbehaving-{number}": handler for number, handler in enumerate(RESPONSES)}
    )
    jobs = tmp_path / "jobs"
    jobs.write_text("a-healthy\nb-healthy\n")

    async def handler(stream: ByteStream) -> None:
        await servers.answer(stream, server.lines[-1])

    async with (
        peer(handler) as server,
        process_forker(command) as forker,
        AsyncExitStack() as stack,
    ):
        child = await forker.start(environment(server.base, tmp_path), tmp_path / "log")
        servers.lateness = await stack.enter_async_context(measured_lateness(child.pid))
        await until(lambda: len(servers.healthy) == 2)
        measurement = Measurement(child, jobs, servers)
        await measurement.measure_calm()
        start_rss, threads = kilobytes(child, "VmRSS"), counts(child)
        for _ in range(SCALE.cases(3, 12)):
            await measurement.measure_attack()
            await measurement.measure_calm()
        growth = (kilobytes(child, "VmHWM") - start_rss) * 1024
        left = counts(child)
        servers.is_over = True
        await until(lambda: sum(line["event"] == "job.succeeded" for line in child.lines) == 2)
        code = await child.stop()

    calm, attacked = (
        percentile(servers.delays(spans), 0.99)
        for spans in (measurement.calm, measurement.attacked)
    )
    samples = len(servers.delays(measurement.calm)), len(servers.delays(measurement.attacked))
    figures = f"RSS +{growth / 2**20:.1f} MiB; p99 {calm:.3f} and {attacked:.3f} s {samples}"
    print(figures)  # noqa: T201 - the figures
    violations = [
        f"{job_id} lasted {s:.1f} s"
        for job_id, s in servers.durations
        if s > REQUEST_TIMEOUT + DEADLINE_TOLERANCE
    ]
    violations += [f"grown by {growth} bytes"] if growth > MAX_GROWTH else []
    violations += (
        [f"late by {attacked:.3f} s, not {calm:.3f}"] if attacked - calm > MAX_DELAY else []
    )
    violations += [f"threads, files: {threads}, {left}"] if left[0] > threads[0] + 1 else []
    assert code == 0
    tally(PROMISE, cases=len(servers.durations), violations=violations)
    assert min(samples) > 50
    assert len({name for name, _ in servers.durations}) == 20
