"""The jobs whose ends are forecast: drawn ones, and those of a file."""

import csv
import gzip
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

SEED: Final = 20240115
JOBS: Final = 6_000
MEAN_GAP_SECONDS: Final = 300.0
CHANGE: Final = JOBS // 2
"""The number of the job at which a workload changes."""


class Draft(NamedTuple):
    """What is drawn of a job; times are in seconds."""

    queue: float
    run: float
    model: str
    rows: int = 1_000
    priority: int = 0


class Work(NamedTuple):
    """A job that was sent at a time, in seconds."""

    sent_at: float
    job: Draft

    @property
    def started_at(self) -> float:
        """When it started."""
        return self.sent_at + self.job.queue

    @property
    def ended_at(self) -> float:
        """When it ended."""
        return self.started_at + self.job.run


Draw = Callable[[Random, int], Draft]


class Model(NamedTuple):
    """A model: seconds to load it and for a row, and how often it is used."""

    name: str
    load: float
    per_row: float
    weight: float


MODELS: Final = (
    Model("qwen-3-4b", 20.0, 0.004, 0.5),
    Model("gemma-3-27b", 60.0, 0.02, 0.3),
    Model("llama-3.3-70b", 180.0, 0.08, 0.2),
)


def _about(random: Random, median: float, spread: float) -> float:
    """Return a positive number around a median; its logarithm is normal."""
    return random.lognormvariate(math.log(median), spread)


def _batch(random: Random, model: Model) -> Draft:
    """Draw a job of one model."""
    priority = random.choice((0, 1))
    rows = int(_about(random, 5_000.0, 1.6)) + 1
    queue = _about(random, 300.0 if priority else 20.0, 0.9)
    run = _about(random, model.load, 0.4) + rows * _about(random, model.per_row, 0.35)
    return Draft(queue, run, model.name, rows, priority)


def several_models(random: Random, _number: int = 0) -> Draft:
    """Draw a job of one of MODELS."""
    return _batch(random, random.choices(MODELS, [model.weight for model in MODELS])[0])


def one_model(random: Random, _number: int) -> Draft:
    """Draw a job of which its fields say nothing."""
    return Draft(_about(random, 30.0, 1.0), _about(random, 900.0, 1.0), "qwen-3-4b")


def heavy_tail(random: Random, _number: int) -> Draft:
    """Draw one of the jobs of which a fifth takes four fifths of the time."""
    return Draft(_about(random, 30.0, 1.0), 60.0 * random.paretovariate(1.16), "qwen-3-4b")


def two_kinds(random: Random, _number: int) -> Draft:
    """Draw a job that fails at once or a long one: nothing tells them apart beforehand."""
    run = _about(random, 20.0, 0.5) if random.random() < 0.3 else _about(random, 5_000.0, 0.4)
    return Draft(_about(random, 30.0, 1.0), run, "gemma-3-27b", 20_000)


def becomes_slower(random: Random, number: int) -> Draft:
    """Draw a job of a model that takes three times as long from CHANGE on."""
    job = _batch(random, MODELS[0])
    return job._replace(run=job.run * (3.0 if number >= CHANGE else 1.0))


def new_model(random: Random, number: int) -> Draft:
    """Draw a job: from CHANGE on, a third are of a model that was never used before."""
    is_new = number >= CHANGE and random.random() < 1 / 3
    return _batch(random, MODELS[2]) if is_new else _batch(random, MODELS[0])


STEADY: Final[dict[str, Draw]] = {
    "several models": several_models,
    "one model": one_model,
    "heavy tail": heavy_tail,
    "two kinds": two_kinds,
}
CHANGING: Final[dict[str, Draw]] = {
    "becomes slower": becomes_slower,
    "a new model": new_model,
}


def send(draw: Draw, jobs: int = JOBS) -> list[Work]:
    """Return the jobs of a workload, sent at random times."""
    random, at, sent = Random(SEED), 0.0, []
    for number in range(jobs):
        at += random.expovariate(1.0 / MEAN_GAP_SECONDS)
        sent.append(Work(at, draw(random, number)))
    return sent


def read(path: Path) -> list[Work]:
    """Return the jobs of a CSV file, in the order in which they were sent."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["run_s"]]
    return sorted(
        Work(
            float(row["submit_s"]),
            Draft(
                float(row["queue_s"] or 0.0),
                float(row["run_s"]),
                row["group"],
                int(float(row["feat"] or 0)),
            ),
        )
        for row in rows
    )
