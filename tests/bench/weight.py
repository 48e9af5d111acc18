"""The start of the daemon, its memory, and its CPU while it watches at the default pace.

It runs as users run it, with the log and a webhook as sinks and SQLite.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.bench.processes import Program, Running, Server, daemon, newest
from tests.bench.race import histogram
from tests.bench.results import Chapter, Row

FLEETS: Final = (0, 1_000, 10_000, 100_000)
AT_REST: Final = 10_000
FIRST: Final = ("list-jobs", "jobs")
"""The first request, without and with jobs: until the API is known, it is for one job."""
SETTLED: Final = 3.0
WARM_UP: Final = 30.0
MEASURED: Final = 30.0
NOBODY: Final = "http://127.0.0.1:9/events"
ONCE: Final = {
    "POLLER_MIN_INTERVAL": "1d",
    "POLLER_MAX_INTERVAL": "1d",
    "POLLER_REQUESTS_PER_MINUTE": "1e9",
}
"""Settings with which every job is polled once, as fast as possible."""
KIB_A_MIB: Final = 1024

HOW: Final = f"""\
Started with a file of jobs that run (0 jobs: `POLLER_DISCOVER=on` with an empty account), with the
log and a webhook as sinks. CPU and wall time go from the start of the process to its first request:
by then every job is accepted. Memory is resident memory, once every job has been seen, for which
the daemon looks as fast as it can. {AT_REST:,} jobs at the default pace are measured for
{MEASURED:.0f} s, {WARM_UP:.0f} s after a restart, when each of them has been seen before."""


class Weight(NamedTuple):
    """The cost of one start."""

    seconds: float
    cpu_seconds: float
    resident_mib: float


def program(server: Server, folder: Path, jobs: int, **variables: str) -> Program:
    """Return a daemon that watches so many jobs, or an empty account."""
    if not jobs:
        variables["POLLER_DISCOVER"] = "on"
    return daemon(server, folder, newest(jobs, jobs), POLLER_WEBHOOK_URL=NOBODY, **variables)


@contextmanager
def _started(server: Server, folder: Path, jobs: int, **variables: str) -> Iterator[Running]:
    """Run a daemon, and yield it once it has sent a request."""
    before = server.count(FIRST[bool(jobs)])
    with program(server, folder, jobs, **variables).running(folder) as running:
        server.until(FIRST[bool(jobs)], before + 1)
        yield running


def weigh(jobs: int) -> Weight:
    """Start with so many jobs, wait until each was polled, and return the cost."""
    with Server.serving(jobs) as server, TemporaryDirectory() as name:
        began = time.monotonic()
        with _started(server, Path(name), jobs, **ONCE) as running:
            used = running.cpu_seconds
            seconds = server.counts()[f"first {FIRST[bool(jobs)]}"] - began
            server.until_quiet(SETTLED)
            return Weight(seconds, used, running.resident_mib)


def rest(jobs: int) -> float:
    """Watch so many jobs at the default pace, and return the CPU share of a core."""
    with Server.serving(jobs) as server, TemporaryDirectory() as name:
        with _started(server, Path(name), jobs, **ONCE):
            server.until_quiet(SETTLED)
        with _started(server, Path(name), jobs) as running:
            time.sleep(WARM_UP)
            used = running.cpu_seconds
            time.sleep(MEASURED)
            return (running.cpu_seconds - used) / MEASURED


def chapter(rounds: int) -> Chapter:
    """Measure fleets of all sizes by turns."""
    weights: dict[int, list[Weight]] = {jobs: [] for jobs in FLEETS}
    for _ in range(rounds):
        for jobs in FLEETS:
            weights[jobs].append(weigh(jobs))
    rows = [row for jobs, weighed in weights.items() for row in _rows(jobs, weighed)]
    rows.append(_growth(weights))
    share = rest(AT_REST)
    what = f"{AT_REST:,} jobs at the default pace: CPU"
    figure, most = f"{share:.1%} of a core", 0.02
    rows.append(Row(what=what, figure=figure, to_reach="at most 2 %", is_reached=share <= most))
    return Chapter("Start, memory, rest", HOW, rows)


def _rows(jobs: int, weighed: list[Weight]) -> Iterator[Row]:
    for name, unit, most in (
        ("seconds", "s to the first request", 5.0 if jobs == FLEETS[-1] else None),
        ("cpu_seconds", "CPU s to the first request", None if jobs else 0.6),
        ("resident_mib", "MiB resident", None if jobs else 60.0),
    ):
        values = [getattr(weight, name) for weight in weighed]
        yield Row(
            what=f"{jobs:,} jobs: {unit}",
            figure=histogram(values, ".2f"),
            to_reach=f"at most {most:g}" if most else "",
            is_reached=median(values) <= most if most else None,
        )


def _growth(weights: dict[int, list[Weight]]) -> Row:
    """Return the memory of each further job; the memory for reading pages is in both."""
    some, all_ = FLEETS[1], FLEETS[-1]
    pairs = zip(weights[some], weights[all_], strict=True)
    kib = [
        (more.resident_mib - less.resident_mib) * KIB_A_MIB / (all_ - some) for less, more in pairs
    ]
    return Row(
        what=f"from {some:,} to {all_:,} jobs: KiB a job",
        figure=histogram(kib, ".2f"),
        to_reach="at most 1.5",
        is_reached=median(kib) <= 1.5,
    )
