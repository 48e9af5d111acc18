"""A database with millions of rows: the start, the event loop, memory, and every query."""

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread, Timer
from typing import Final
from urllib.parse import urlsplit

from tests.bench.processes import API_SOCKET, Program, Running, Server, daemon, newest
from tests.bench.results import Chapter, Row
from tests.support.large_database import Contents, make_large_database
from tests.support.notify_socket import listening

JOBS: Final = 5_000_000
PENDING: Final = 1_000_000
DEAD: Final = 10_000
UNREACHABLE_URL: Final = "http://127.0.0.1:9/events"
WATCHED_SECONDS: Final = 45.0
"""Longer than from the start to the first deletion of old rows."""
PROBE_INTERVAL: Final = 0.01
QUERY_TIMEOUT: Final = 60.0
"""Seconds after which a query is given up."""
ACTION_NEEDED: Final = 1
"""The exit code of `status` for a sink that fails."""

MAX_START_SECONDS: Final = 5.0
MAX_STALL_SECONDS: Final = 0.1
MAX_MORE_MIB: Final = 50.0
MAX_QUERY_CPU_SECONDS: Final = 0.5

FIRST_JOB: Final = "job-00000001"
PATHS: Final = (
    "/v1/jobs",
    f"/v1/jobs/{FIRST_JOB}",
    "/v1/jobs?state=FAILED",
    "/v1/jobs?watched=true",
    "/v1/events",
    "/v1/events?state=dead",
    "/v1/sinks",
    "/v1/status",
    "/metrics",
    "/",
    f"/jobs/{FIRST_JOB}",
    "/dead-letters",
)
VERBS: Final = (
    "status",
    "jobs ls --limit 100",
    "jobs ls --watched",
    f"jobs show {FIRST_JOB}",
    "events ls --limit 100",
    f"events ls --job {FIRST_JOB}",
    "dead-letters ls --limit 100",
    "sinks ls",
    "costs",
)

HOW: Final = f"""\
A database with {JOBS:,} jobs that ended within the last 399 days, and {PENDING:,} events for a
webhook that cannot be reached, beside {DEAD:,} dead letters. When the daemon starts, the file is
not in the page cache. Wall and CPU time of a start go from the start of the process to `READY=1`.
Then `/livez` is requested all the time, for {WATCHED_SECONDS:.0f} s, in which old rows are deleted,
while the API is queried, and until the file and the kept counts are checked. Memory is the highest
resident memory, minus that of the same daemon with one job and one event. The figure of a query is
the CPU time of the daemon, or of the command with the start of Python."""


class UnixConnection(HTTPConnection):
    """A connection to the daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=QUERY_TIMEOUT)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(connection: HTTPConnection, path: str) -> None:
    """Send a GET request and read its response, which must be a success."""
    connection.request("GET", path)
    with connection.getresponse() as response:
        body = response.read()
        assert response.status == 200, (path, response.status, body[:500])


@dataclass(frozen=True, slots=True)
class Start:
    """The wall and CPU seconds of a start."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one daemon; a query that was given up has a figure of infinity."""

    start: Start
    longest_stall: float
    cpu_seconds: float
    peak_mib: float
    queries: Mapping[str, float]


@contextmanager
def started(program: Program, folder: Path) -> Iterator[tuple[Running, Start]]:
    """Run a daemon; yield it and the cost of its start once it is ready. It ends by SIGKILL."""
    with listening() as systemd:
        variables = {**program.variables, "NOTIFY_SOCKET": systemd.address}
        began = time.monotonic()
        with Program(program.command, variables).running(folder) as running:
            while "READY" not in systemd.names:
                assert running.process.poll() is None
                time.sleep(PROBE_INTERVAL)
            yield running, Start(time.monotonic() - began, running.cpu_seconds)


@contextmanager
def probing(path: Path) -> Iterator[list[float]]:
    """Request /livez all the time while the block runs; yield the seconds of each response."""
    seconds: list[float] = []
    is_over = Event()

    def probe() -> None:
        with closing(UnixConnection(path)) as connection:
            while not is_over.wait(PROBE_INTERVAL):
                began = time.monotonic()
                try:
                    get(connection, "/livez")
                except TimeoutError:
                    connection.close()
                seconds.append(time.monotonic() - began)

    thread = Thread(target=probe)
    thread.start()
    try:
        yield seconds
    finally:
        is_over.set()
        thread.join()


def measure(program: Program, folder: Path) -> Measured:
    """Start a daemon, let it run for a while, query its HTTP API, and run commands beside it."""
    api = folder / API_SOCKET
    with started(program, folder) as (running, start), probing(api) as responses:
        used = running.cpu_seconds
        time.sleep(WATCHED_SECONDS)
        used = running.cpu_seconds - used
        queries = {f"`GET {path}`": _request(running, api, path) for path in PATHS}
        queries |= {f"`{verb}`": _command(program.variables, verb) for verb in VERBS}
        _wait_for_check(running, folder / "out")
        peak = running.peak_mib
    return Measured(
        start=start,
        longest_stall=max(responses),
        cpu_seconds=used,
        peak_mib=peak,
        queries=queries,
    )


def _wait_for_check(running: Running, out: Path) -> None:
    """Wait until the log has the end of the check of the database."""
    while "store.check_completed" not in out.read_text("utf-8"):
        assert running.process.poll() is None
        time.sleep(PROBE_INTERVAL)


def _request(running: Running, api: Path, path: str) -> float:
    """Return the CPU seconds of the daemon for a response."""
    used = running.cpu_seconds
    with closing(UnixConnection(api)) as connection:
        try:
            get(connection, path)
        except TimeoutError:
            return math.inf
    return running.cpu_seconds - used


def _command(variables: Mapping[str, str], verb: str) -> float:
    """Return the CPU seconds of a command."""
    program = Program((sys.executable, "-m", "poller", *verb.split()), variables)
    with TemporaryDirectory() as name, program.running(Path(name)) as running:
        timer = Timer(QUERY_TIMEOUT, running.process.kill)
        timer.start()
        running.until_ended()
        timer.cancel()
        used = running.cpu_seconds
        code = running.process.wait()
    assert code in {0, ACTION_NEEDED, -signal.SIGKILL}, (verb, code)
    return used if code >= 0 else math.inf


def measure_with(contents: Contents) -> tuple[Measured, Start]:
    """Measure a daemon with a database of these contents, and its start after SIGKILL."""
    with Server.serving(1) as server, TemporaryDirectory() as name:
        folder = Path(name)
        program = daemon(server, folder, newest(1, 1), POLLER_WEBHOOK_URL=UNREACHABLE_URL)
        path, deployment = Path(program.variables["POLLER_STORE"]), urlsplit(server.http).netloc
        make_large_database(path, contents, deployment=deployment)
        _drop_from_page_cache(path)
        measured = measure(program, folder)
        with started(program, folder) as (_, again):
            return measured, again


def _drop_from_page_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def chapter(scale: float = 1.0) -> Chapter:
    """Measure a small database and a large one; a scale below 1 makes it smaller."""
    small, _ = measure_with(Contents(jobs=1, pending=1))
    jobs, pending, dead = (round(scale * count) for count in (JOBS, PENDING, DEAD))
    large, again = measure_with(Contents(jobs=jobs, pending=pending, dead=dead))
    rows = [
        _row("start: s to READY", large.start.seconds, MAX_START_SECONDS),
        _row("start: CPU s to READY", large.start.cpu_seconds, MAX_START_SECONDS),
        _row("start after SIGKILL: s to READY", again.seconds, MAX_START_SECONDS),
        _row("start after SIGKILL: CPU s to READY", again.cpu_seconds, MAX_START_SECONDS),
        _row("longest time for `/livez`, s", large.longest_stall, MAX_STALL_SECONDS),
        Row(
            what=f"CPU s in {WATCHED_SECONDS:.0f} s, more than with a small database",
            figure=f"{large.cpu_seconds - small.cpu_seconds:.2f}",
        ),
        _row("MiB more than with a small database", large.peak_mib - small.peak_mib, MAX_MORE_MIB),
    ]
    rows += [
        _row(f"{name}: CPU s", seconds, MAX_QUERY_CPU_SECONDS)
        for name, seconds in large.queries.items()
    ]
    return Chapter("Size", HOW, rows)


def _row(what: str, figure: float, most: float) -> Row:
    text = f"{figure:.2f}" if figure < math.inf else f"more than {QUERY_TIMEOUT:.0f} s"
    return Row(what=what, figure=text, to_reach=f"at most {most:g}", is_reached=figure <= most)
