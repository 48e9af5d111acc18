"""Compare our polling schedule with others, in simulation: python tests/bench/schedules.py.

Every rule polls the same jobs. The lag is the time from a job's end to the poll that detects it. A
request takes no time and never fails, and nothing but the rule delays it.

A rule is measured as it is used, and again with its pauses scaled until it makes as many requests
as ours. Its scores say how many times its requests a fixed interval needs for the same lag.

Our rule is for lengths of every size. If all are of one size a fixed interval is hard to beat, and
our rule detects the end of a rare long job late: `losses` returns where others do better.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from statistics import fmean, quantiles
from typing import Final, NamedTuple

from tests.bench import results
from tests.bench.rules import OURS, PEERS, Rule, Timeline

SEED: Final = 20240115
JOBS: Final = 2_000
HALVINGS: Final = 12


# The jobs.


class Kind(NamedTuple):
    """A reason to send a batch: medians, and the spreads of their logarithms."""

    share: float
    rows: float
    rows_spread: float
    queue_seconds: float
    queue_spread: float


KINDS: Final = (
    Kind(0.50, rows=100, rows_spread=1.0, queue_seconds=5, queue_spread=1.0),  # a trial
    Kind(0.35, rows=20_000, rows_spread=1.5, queue_seconds=120, queue_spread=1.5),  # daily work
    Kind(0.15, rows=500_000, rows_spread=1.0, queue_seconds=1_800, queue_spread=1.0),  # a backfill
)
LOADING_SECONDS: Final = (20.0, 0.5)
SECONDS_PER_ROW: Final = (0.02, 0.7)
HALF_AN_HOUR: Final = 1_800.0


def llm_batch(random: Random) -> Timeline:
    """Draw a job that is queued, loads its model and then processes its rows."""
    kind = random.choices(KINDS, [kind.share for kind in KINDS])[0]
    queue = _about(random, kind.queue_seconds, kind.queue_spread)
    rows = _about(random, kind.rows, kind.rows_spread)
    run = _about(random, *LOADING_SECONDS) + rows * _about(random, *SECONDS_PER_ROW)
    return Timeline(queue, queue + run)


def _about(random: Random, median: float, histogram: float) -> float:
    return random.lognormvariate(math.log(median), histogram)


Draw = Callable[[Random], Timeline]

WORKLOADS: Final[dict[str, Draw]] = {
    "LLM batches": llm_batch,
    "exponential": lambda random: Timeline(0.0, random.expovariate(1.0 / HALF_AN_HOUR)),
    "uniform": lambda random: Timeline(0.0, random.uniform(0.0, 2.0 * HALF_AN_HOUR)),
    "Pareto": lambda random: Timeline(0.0, 60.0 * random.paretovariate(1.16)),
}
"""The three plain ones have no queue. 1.16 is the index at which a fifth holds four fifths."""


def sample(draw: Draw, jobs: int = JOBS, seed: int = SEED) -> list[Timeline]:
    """Draw jobs of one workload."""
    random = Random(seed)
    return [draw(random) for _ in range(jobs)]


# The measurement.


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Requests per job, and lag in seconds."""

    requests: float
    mean: float
    median: float
    p95: float
    p99: float
    longest: float


LAGS: Final = ("mean", "median", "p95", "p99", "longest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The requests that a fixed interval needs for the same lag, in units of those used."""

    mean: float
    median: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rule on one workload. `is_scaled`: with as many requests as our rule."""

    workload: str
    rule: str
    is_scaled: bool
    figures: Figures
    scores: Scores


def measure(rule: Rule, timelines: Sequence[Timeline], factor: float = 1.0) -> Figures:
    """Poll every job by a rule."""
    random = Random(SEED)
    watched = [rule.watch(timeline, random, factor) for timeline in timelines]
    requests = fmean(job.requests for job in watched)
    return summarize(requests, [job.lag for job in watched])


def summarize(requests: float, lags: Sequence[float]) -> Figures:
    """Return the figures of so many requests per job, and of the lag of each job."""
    percentiles = quantiles(lags, n=100, method="inclusive")
    return Figures(
        requests=requests,
        mean=fmean(lags),
        median=percentiles[49],
        p95=percentiles[94],
        p99=percentiles[98],
        longest=max(lags),
    )


def score(timelines: Sequence[Timeline], used: Figures) -> Scores:
    """Compare with a fixed interval that begins at any moment.

    Its lags are spread evenly over the interval, and it polls once more than a job has intervals.
    """
    length = fmean(timeline.ended for timeline in timelines)

    def ratio(interval: float) -> float:
        return (1.0 + length / interval) / used.requests

    return Scores(
        mean=ratio(used.mean / 0.5), median=ratio(used.median / 0.5), p99=ratio(used.p99 / 0.99)
    )


def equal_factor(rule: Rule, timelines: Sequence[Timeline], requests: float) -> float:
    """Return the factor at which a rule makes so many requests per job, by bisection."""

    def is_over(factor: float) -> bool:
        return measure(rule, timelines, factor).requests > requests

    low = high = 1.0
    while not is_over(low):
        low /= 2.0
    while is_over(high):
        high *= 2.0
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_over(middle) else (low, middle)
    return high


def rows(jobs: int = JOBS, seed: int = SEED) -> list[Row]:
    """Measure every rule on every workload."""
    return [
        row
        for workload, draw in WORKLOADS.items()
        for row in compare(workload, sample(draw, jobs, seed))
    ]


def compare(workload: str, timelines: Sequence[Timeline]) -> Iterator[Row]:
    """Measure every rule on the same jobs, as it is used and then at as many requests as ours."""
    requests = measure(OURS, timelines).requests
    for rule in (OURS, *PEERS):
        for factor in rule.natural:
            yield _row(workload, timelines, rule, factor, is_scaled=False)
    for rule in PEERS:
        factor = equal_factor(rule, timelines, requests)
        yield _row(workload, timelines, rule, factor, is_scaled=True)


def _row(
    workload: str, timelines: Sequence[Timeline], rule: Rule, factor: float, *, is_scaled: bool
) -> Row:
    figures = measure(rule, timelines, factor)
    return Row(
        workload=workload,
        rule=rule.label.format(factor),
        is_scaled=is_scaled,
        figures=figures,
        scores=score(timelines, figures),
    )


# The report.


class Loss(NamedTuple):
    """A lag that is shorter by another rule with as many requests."""

    workload: str
    rule: str
    lag: str
    theirs: float
    ours: float


def losses(measured: Iterable[Row]) -> Iterator[Loss]:
    """Return where others do better than our rule, whose rows come first."""
    ours: dict[str, Figures] = {}
    for row in measured:
        best = ours.setdefault(row.workload, row.figures)
        for lag in LAGS if row.is_scaled else ():
            if (theirs := getattr(row.figures, lag)) < (mine := getattr(best, lag)):
                yield Loss(row.workload, row.rule, lag, theirs, mine)


def report(measured: Sequence[Row]) -> str:
    """Return everything as Markdown."""
    return "\n".join([*_table(measured), "", *_worst(measured)])


def _table(measured: Iterable[Row]) -> Iterator[str]:
    yield (
        "| jobs | rule | requests per job | mean lag, s | median | p95 | p99 | longest "
        "| score: mean | median | p99 |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in measured:
        lags = " | ".join(f"{getattr(row.figures, lag):.1f}" for lag in LAGS)
        scores = f"{row.scores.mean:.2f} | {row.scores.median:.2f} | {row.scores.p99:.2f}"
        rule = f"{row.rule} (equal)" if row.is_scaled else row.rule
        yield f"| {row.workload} | {rule} | {row.figures.requests:.1f} | {lags} | {scores} |"


def _worst(measured: Iterable[Row]) -> Iterator[str]:
    yield "At as many requests others have shorter lags than ours:"
    yield ""
    for (workload, rule), group in groupby(
        losses(measured), key=lambda loss: (loss.workload, loss.rule)
    ):
        lags = (f"{loss.lag} {loss.theirs:.1f} s against {loss.ours:.1f} s" for loss in group)
        yield f"- {workload}, {rule}: {', '.join(lags)}"


HOW: Final = f"""\
Simulated: {JOBS:,} jobs of each workload, seed {SEED}. A score says how many times our requests a
fixed interval needs for the same lag. In brackets what it uses is made equal to ours."""

TARGETS: Final = {"mean": 1.55, "median": 2.4}
"""Scores on LLM batches."""


def chapter() -> results.Chapter:
    """Measure everything; the targets are those of the first row."""
    measured = rows()
    ours = measured[0].scores
    scores = [
        results.Row(
            what=f"score on LLM batches: {lag} lag",
            figure=f"{getattr(ours, lag):.2f}",
            to_reach=f"{least:g}",
            is_reached=getattr(ours, lag) >= least,
        )
        for lag, least in TARGETS.items()
    ]
    return results.Chapter("Schedules", HOW, scores, report(measured))


if __name__ == "__main__":
    print(report(rows()))  # noqa: T201 - the figures
