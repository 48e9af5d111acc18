"""Twenty hostile answers at once beside two healthy jobs: what they cost in memory and in time."""

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.abc import ByteStream

from poller.runtime.http import LARGE_BODY_BYTES, MAX_LARGE_BODIES
from poller.sutro.client import JOB_BYTES_CAP
from tests.fault_injection.broken_transports import BROTLI_BOMB, chunk, gzip_bomb, zstd_bomb
from tests.fault_injection.malformed import objects
from tests.fault_injection.odd_bodies import written
from tests.fault_injection.rig import SCALE, Child, nursery, tally
from tests.support.http_peers import (
    CHUNKED,
    HANG_UP,
    OK,
    Talk,
    answers,
    drips,
    floods,
    peer,
    says,
    stalls,
)
from tests.support.secret_canaries import KEY
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PROMISE = (
    "twenty hostile peers at once cost at most 34 MiB, and delay other polls by at most 100 ms"
)
LIMIT: Final = 2.0
"""Seconds that one request may take."""

SLACK: Final = 1.5
"""Seconds of a busy machine beyond that."""

INTERVAL: Final = 0.05
CALM: Final = 2.0
HOSTILE: Final = 3.0
DELAY: Final = 0.1
"""By so many seconds the 99th percentile of the healthy looks may be later than in calm times.

Time in which the daemon waited for a processor, or this process was late itself, is taken off.
"""

GROWTH: Final = 3 * MAX_LARGE_BODIES * JOB_BYTES_CAP + 2 * 20 * LARGE_BODY_BYTES
"""Two bodies at a time are read up to the cap, the others up to 256 KiB and as much in buffers.

A large one is there three times for a moment: its parts, the whole, and the text of it.
"""

BIG: Final = OK + b"Content-Length: 9000000\r\n\r\n" + b" " * 300_000
FULL: Final = b'{"job": {"x": "' + b"x" * (JOB_BYTES_CAP - 40) + b'"}}'

TALKS: Final[Sequence[Talk]] = (
    *[stalls(), drips(OK + b"X-Slow: ", b"a", every=0.2), drips(OK, b"X-Slow: 1\r\n", every=0.2)],
    *[drips(BIG, b" ", every=0.1)] * 4,
    *[drips(CHUNKED, chunk(b" "), every=0.1)] * 2,
    drips(b"", b"HTTP/1.1 102 Processing\r\n\r\n", every=0.1),
    *[floods(CHUNKED, chunk(b" " * 65_536))] * 2,
    *[floods(OK + b"Content-Length: 8000000000\r\n\r\n", b" " * 65_536)] * 2,
    answers(200, gzip_bomb(), content_encoding="gzip"),
    answers(200, BROTLI_BOMB, content_encoding="br"),
    answers(200, zstd_bomb(), content_encoding="zstd"),
    answers(200, b'{"job": [' + b"[]," * (JOB_BYTES_CAP // 3 - 10) + b"[]]}"),
    answers(200, FULL),
    says(OK + b"X-Long: " + b"a" * 4_000_000 + b"\r\n\r\n"),
)
"""How each of twenty jobs is answered."""


@dataclass
class Strangers:
    """An API over bare TCP.

    `healthy` says when each healthy job was asked for, and what `noise` was until then.
    """

    hostile: dict[str, Talk]
    noise: Callable[[], float] = float
    is_over: bool = False
    healthy: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    lasted: list[tuple[str, float]] = field(default_factory=list)

    async def answer(self, stream: ByteStream, line: str) -> None:
        """Answer one request well, or as its job does."""
        began, job_id = time.monotonic(), line.split()[1].rpartition("/")[2]
        if talk := self.hostile.get(job_id):
            await _until_gone(stream, talk)
            self.lasted.append((job_id, time.monotonic() - began))
            return
        self.healthy[job_id].append((began, self.noise()))
        _, running, ended = objects(job_id)
        await answers(200, written(ended if self.is_over else running))(stream)

    def delays(self, spans: Sequence[tuple[float, float]]) -> list[float]:
        """Say by how much each healthy look in some spans was later than it was due at the most."""
        return [
            max(0.0, (after - before) - 1.1 * INTERVAL - (loud - quiet))
            for looks in self.healthy.values()
            for (before, quiet), (after, loud) in pairwise(looks)
            if any(start <= before and after <= end for start, end in spans)
        ]


async def _until_gone(stream: ByteStream, talk: Talk) -> None:
    """Talk until the other end is gone."""

    async def go_on() -> None:
        try:
            await talk(stream)
            await stream.send_eof()
            await anyio.sleep(LIMIT + 2 * SLACK)
        except HANG_UP:
            talking.cancel_scope.cancel()

    async with anyio.create_task_group() as talking:
        talking.start_soon(go_on)
        try:
            while True:
                await stream.receive()
        except HANG_UP:
            talking.cancel_scope.cancel()


def environment(base: str, folder: Path) -> dict[str, str]:
    """Give all that the process gets to know."""
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
        "POLLER_REQUEST_TIMEOUT": str(LIMIT),
        "POLLER_CONCURRENCY": "32",
    }


def kilobytes(child: Child, name: str) -> int:
    """Read a figure of a process's memory."""
    lines = Path(f"/proc/{child.pid}/status").read_text("ascii").splitlines()
    return next(int(it.split()[1]) for it in lines if it.startswith(name))


@dataclass
class Noise:
    """Seconds that the machine took: from the daemon, and from this process."""

    child: Child
    late: float = 0.0

    async def listen(self) -> None:
        """Note how late this process is."""
        while True:
            due = time.monotonic() + 0.005
            await anyio.sleep(0.005)
            self.late += max(0.0, time.monotonic() - due - 0.002)

    def __call__(self) -> float:
        """Give what there has been by now."""
        _, waited, _ = Path(f"/proc/{self.child.pid}/schedstat").read_text("ascii").split()
        return self.late + int(waited) / 1e9


def counts(child: Child) -> tuple[int, int]:
    """Count a process's threads and open files."""
    folder = Path(f"/proc/{child.pid}")
    return len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that so large a share does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


@dataclass
class Trial:
    """A process that is watched through calm and hostile times."""

    child: Child
    jobs: Path
    world: Strangers
    calm: list[tuple[float, float]] = field(default_factory=list)
    stormy: list[tuple[float, float]] = field(default_factory=list)

    async def rest(self) -> None:
        """Let only healthy jobs be watched for a while."""
        await self._watch(self.world.healthy)
        await anyio.sleep(LIMIT + 0.5)
        began = time.monotonic()
        await anyio.sleep(CALM)
        self.calm.append((began, time.monotonic()))

    async def suffer(self) -> None:
        """Let all be watched for a while."""
        await self._watch([*self.world.healthy, *self.world.hostile])
        began = time.monotonic()
        await anyio.sleep(HOSTILE)
        self.stormy.append((began, time.monotonic()))

    async def _watch(self, job_ids: Sequence[str]) -> None:
        self.jobs.write_text("\n".join(job_ids))
        self.child.send(signal.SIGHUP)


async def test_twenty_hostile_peers_at_once(command: Path, tmp_path: Path):
    """Each ends at its deadline, memory grows by two bodies, healthy jobs keep their pace."""
    world = Strangers({f"hostile-{number}": it for number, it in enumerate(TALKS)})
    jobs = tmp_path / "jobs"
    jobs.write_text("a-healthy\nb-healthy")

    async def talk(stream: ByteStream) -> None:
        await world.answer(stream, it.lines[-1])

    async with (
        peer(talk) as it,
        nursery(command) as births,
        anyio.create_task_group() as listening,
    ):
        child = await births.bear(environment(it.base, tmp_path), tmp_path / "log")
        world.noise = Noise(child)
        listening.start_soon(world.noise.listen)
        await until(lambda: len(world.healthy) == 2)
        trial = Trial(child, jobs, world)
        await trial.rest()
        before, threads = kilobytes(child, "VmRSS"), counts(child)
        for _ in range(SCALE.cases(3, 12)):
            await trial.suffer()
            await trial.rest()
        grown = (kilobytes(child, "VmHWM") - before) * 1024
        left = counts(child)
        world.is_over = True
        await until(lambda: sum(it["event"] == "job.succeeded" for it in child.lines) == 2)
        code = await child.stop()
        listening.cancel_scope.cancel()

    calm, stormy = (percentile(world.delays(it), 0.99) for it in (trial.calm, trial.stormy))
    samples = len(world.delays(trial.calm)), len(world.delays(trial.stormy))
    figures = f"RSS +{grown / 2**20:.1f} MiB; p99 {calm:.3f} and {stormy:.3f} s {samples}"
    print(figures)  # noqa: T201 - the figures
    violations = [f"{it} lasted {s:.1f} s" for it, s in world.lasted if s > LIMIT + SLACK]
    violations += [f"grown by {grown} bytes"] if grown > GROWTH else []
    violations += [f"late by {stormy:.3f} s, not {calm:.3f}"] if stormy - calm > DELAY else []
    violations += [f"threads, files: {threads}, {left}"] if left[0] > threads[0] + 1 else []
    assert code == 0
    tally(PROMISE, cases=len(world.lasted), violations=violations)
    assert min(samples) > 50
    assert len({name for name, _ in world.lasted}) == 20
