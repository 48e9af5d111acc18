"""The start of the daemon, its memory, and its CPU while it watches at the default pace.

It runs as users run it, with the log and a webhook as sinks and SQLite.
"""

import sys
import time
from collections.abc import Iterator, Mapping
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
MAX_SHARE: Final = 0.02
COMMANDS: Final = ("status", "jobs ls")
MAX_COMMAND_SECONDS: Final = 0.3
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
by then every job is accepted. Memory is resident memory, once every job was polled, as fast as
possible. {AT_REST:,} jobs at the default pace are measured for {MEASURED:.0f} s,
{WARM_UP:.0f} s after a restart, when each of them has been polled before. `status` and `jobs ls`
run after that; their CPU time is that of the command, with the start of Python."""


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


class Rest(NamedTuple):
    """The share of a core that watching takes, and the CPU seconds of each command."""

    share: float
    commands: Mapping[str, float]


def rest(jobs: int) -> Rest:
    """Watch so many jobs at the default pace."""
    with Server.serving(jobs) as server, TemporaryDirectory() as name:
        folder = Path(name)
        with _started(server, folder, jobs, **ONCE):
            server.until_quiet(SETTLED)
        with _started(server, folder, jobs) as running:
            time.sleep(WARM_UP)
            used = running.cpu_seconds
            time.sleep(MEASURED)
            share = (running.cpu_seconds - used) / MEASURED
            variables = program(server, folder, jobs).variables
            return Rest(share, {verb: _command(variables, verb) for verb in COMMANDS})


def _command(variables: Mapping[str, str], verb: str) -> float:
    """Return the CPU seconds of a command."""
    command = Program((sys.executable, "-m", "poller", *verb.split()), variables)
    with TemporaryDirectory() as name, command.running(Path(name)) as running:
        running.until_ended()
        return running.cpu_seconds


def chapter(rounds: int) -> Chapter:
    """Measure fleets of all sizes by turns."""
    weights: dict[int, list[Weight]] = {jobs: [] for jobs in FLEETS}
    for _ in range(rounds):
        for jobs in FLEETS:
            weights[jobs].append(weigh(jobs))
    rows = [row for jobs, weighed in weights.items() for row in _rows(jobs, weighed)]
    rows.append(_growth(weights))
    return Chapter("Start, memory, rest", HOW, [*rows, *_rest_rows(rest(AT_REST))])


def _rest_rows(measured: Rest) -> Iterator[Row]:
    yield Row(
        what=f"{AT_REST:,} jobs at the default pace: CPU",
        figure=f"{measured.share:.1%} of a core",
        to_reach=f"at most {MAX_SHARE:.0%}",
        is_reached=measured.share <= MAX_SHARE,
    )
    for verb, seconds in measured.commands.items():
        yield Row(
            what=f"{AT_REST:,} jobs: CPU s of `{verb}`",
            figure=f"{seconds:.2f}",
            to_reach=f"at most {MAX_COMMAND_SECONDS:g}",
            is_reached=seconds <= MAX_COMMAND_SECONDS,
        )


def _rows(jobs: int, weighed: list[Weight]) -> Iterator[Row]:
    for name, unit, most in (
        ("seconds", "s to the first request", 5.0 if jobs == FLEETS[-1] else None),
        ("cpu_seconds", "CPU s to the first request", None if jobs else 0.5),
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
        what=f"from {some:,} to {all_:,} jobs: KiB per job",
        figure=histogram(kib, ".2f"),
        to_reach="at most 1.5",
        is_reached=median(kib) <= 1.5,
    )
