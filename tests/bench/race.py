"""Races: programs take turns on one core, so that whatever else the machine does hits them all.

All run at once, but all save one are stopped. So turns can be short, and what is compared has
happened within a second or two. They and the server share one core: waking an idle core for every
answer would be paid by whoever asks, the more the slower they are.
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
    """A program in a race, the kind of request that counts, and how many make it warm."""

    program: Callable[[Path], Program]
    kind: str
    warm_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """How many rounds, each with all programs started anew; how many turns a round, how long."""

    rounds: int
    turns: int = 4
    seconds: float = 0.6

    def run(self, server: Server, runners: Mapping[str, Runner]) -> dict[str, list[float]]:
        """Give what each did per CPU second in each of its turns."""
        results: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(self.rounds):
            with ExitStack() as stack:
                warm = {it: stack.enter_context(_warm(server, runners[it])) for it in runners}
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
    """Compare turn by turn."""
    return [this / that for this, that in zip(these, those, strict=True)]


def histogram(values: list[float], form: str = ",.0f") -> str:
    """Write the median, and from where to where the values go."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"
