"""Races: programs take turns on one core, so that other load on the machine hits them all.

All are started, and all but one are stopped. So turns can be short, and what is compared happens
within a second or two. They and the server share one core: otherwise the wake-up of an idle core
for every response would count for the client, and more for slower clients.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.processes import Program, Running, Server

SETTLE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Runner:
    """A program in a race, the kind of request that counts, and the number that warms it up."""

    program: Callable[[Path], Program]
    kind: str
    warm_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """The rounds, in each of which all programs start anew; the turns a round, and their length."""

    rounds: int
    turns: int = 4
    seconds: float = 0.6

    def run(self, server: Server, runners: Mapping[str, Runner]) -> dict[str, list[float]]:
        """Return what each program did per CPU second in each of its turns."""
        results: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(self.rounds):
            with ExitStack() as stack:
                warm = {name: stack.enter_context(_warm(server, runners[name])) for name in runners}
                for _ in range(self.turns):
                    for name, running in warm.items():
                        results[name].append(self._turn(server, runners[name], running))
        return results

    def _turn(self, server: Server, runner: Runner, running: Running) -> float:
        running.resume()
        time.sleep(SETTLE)
        done, used = server.count(runner.kind), running.cpu_seconds
        time.sleep(self.seconds)
        done, used = server.count(runner.kind) - done, running.cpu_seconds - used
        running.pause()
        time.sleep(SETTLE)
        return done / used


@contextmanager
def _warm(server: Server, runner: Runner) -> Iterator[Running]:
    """Start a program, and stop it once it is warm."""
    before = server.count(runner.kind)
    with TemporaryDirectory() as name:
        folder = Path(name)
        with runner.program(folder).running(folder) as running:
            server.until(runner.kind, before + runner.warm_up)
            running.pause()
            time.sleep(SETTLE)
            yield running


@contextmanager
def on_one_core() -> Iterator[None]:
    """Start all processes on the last core while the block runs."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def ratios(these: list[float], those: list[float]) -> list[float]:
    """Return the ratios of each turn."""
    return [this / that for this, that in zip(these, those, strict=True)]


def histogram(values: list[float], form: str = ",.0f") -> str:
    """Return the median and the range."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"
