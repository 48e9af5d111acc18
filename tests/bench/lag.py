"""Requests per job against lag: the daemon in virtual time, and other programs in use today.

Jobs arrive at random, so that 1, 3, 10, 30 or 90 are active on average. Each is
named to the daemon when it is created. A request takes no time and never fails.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final, NamedTuple

import anyio

from poller.config import load
from tests.bench import lag_chart, schedules
from tests.bench.results import Chapter, Row
from tests.bench.rules import FIXED, Timeline
from tests.bench.schedules import Figures
from tests.bench.virtual_daemon import VARIABLES, run_virtually, running_daemon

SEED: Final = 1
JOBS: Final = 250
LOADS: Final = (1, 3, 10, 30, 90)
"""How many jobs are active on average."""
USUAL: Final = 10
FACTORS: Final = (0.3, 0.6, 1.0, 2.0)
"""The values of `POLLER_INTERVAL_FACTOR` that are compared with USUAL jobs."""
SDK_SECONDS: Final = 5.0
PAGE_SECONDS: Final = 5.0
PAGE_JOBS: Final = 100
AIRFLOW_SECONDS: Final = 60.0
"""The `poll_interval` of `OpenAITriggerBatchOperator(deferrable=True)`, which is no argument."""

OURS: Final = "sutro-poller"
SDK: Final = "the SDK's loop"
PAGE: Final = "a list page every 5 s"
AIRFLOW: Final = "Airflow, deferrable"

HOW: Final = f"""\
{JOBS} of the synthetic LLM batches of `schedules.py` (seed {SEED}), which arrive at random, so that
the given number is active on average. The daemon's watcher, planner, source and store run in
virtual time, with default settings, against an API inside the process (`virtual_api.py`); each job
is named to the daemon when it is created. A request takes no time. Lag is the time from a job's end
to the response that shows it. The others poll the same jobs:

- {SDK}, `await_job_completion` of sutro 0.1.67: a GET per job, at once and every
  {SDK_SECONDS:.0f} s;
- {PAGE}: of the pages of {PAGE_JOBS} jobs, newest first, those that show an active
  job;
- {AIRFLOW}: a GET per job, at once and every {AIRFLOW_SECONDS:.0f} s, the `poll_interval` of
  `OpenAITriggerBatchOperator(deferrable=True)` in apache-airflow-providers-openai 2.2.0."""


class Submitted(NamedTuple):
    """A job, and when it is created."""

    at: float
    timeline: Timeline


class Limit(NamedTuple):
    """The figures to reach with a number of active jobs. `fewer`: than the SDK's loop needs."""

    mean: float
    p99: float
    fewer: float


LIMITS: Final[Mapping[int, Limit]] = {
    1: Limit(mean=5.5, p99=26.0, fewer=5.0),
    10: Limit(mean=3.5, p99=15.0, fewer=10.0),
    90: Limit(mean=2.5, p99=18.0, fewer=18.0),
}


def arrivals(active: float, jobs: int = JOBS, seed: int = SEED) -> list[Submitted]:
    """Draw jobs, and when they arrive: so many are active on average."""
    timelines, random = schedules.sample(schedules.llm_batch, jobs, seed), Random(seed)
    rate = active / fmean(timeline.ended for timeline in timelines)
    at, submitted = 0.0, []
    for timeline in timelines:
        at += random.expovariate(rate)
        submitted.append(Submitted(at, timeline))
    return submitted


# The rules.


def sutro_poller(jobs: Sequence[Submitted], **variables: str) -> Figures:
    """Watch jobs with the daemon."""
    return run_virtually(_watch, jobs, variables)


async def _watch(jobs: Sequence[Submitted], variables: Mapping[str, str]) -> Figures:
    async with running_daemon(SEED, **variables) as daemon:
        job_ids = []
        for job in jobs:
            await anyio.sleep(job.at - anyio.current_time())
            job_ids += await daemon.submit(job.timeline)
        await daemon.wait_for_ends(job_ids)
        requests = daemon.api.requests.total() / len(jobs)
        return schedules.summarize(requests, list(daemon.lags.values()))


def single(jobs: Sequence[Submitted], seconds: float) -> Figures:
    """Poll each job alone, from its creation and then at an interval."""
    return schedules.measure(FIXED, [job.timeline for job in jobs], seconds)


def list_pages(jobs: Sequence[Submitted], seconds: float = PAGE_SECONDS) -> Figures:
    """Poll at an interval each page that shows an active job, as if its cursor were known."""
    at, requests, created = 0.0, 0, 0
    lags: list[float] = []
    active: dict[int, float] = {}
    while len(lags) < len(jobs):
        if not active:
            at = max(at, seconds * math.ceil(jobs[created].at / seconds))
        while created < len(jobs) and jobs[created].at <= at:
            active[created] = sum((jobs[created].at, jobs[created].timeline.ended))
            created += 1
        requests += len({(created - 1 - number) // PAGE_JOBS for number in active})
        ended = {number: end for number, end in active.items() if end <= at}
        lags += [at - end for end in ended.values()]
        active = {number: end for number, end in active.items() if number not in ended}
        at += seconds
    return schedules.summarize(requests / len(jobs), lags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of each rule by the number of active jobs, and those of each factor."""

    rules: Mapping[str, Mapping[int, Figures]]
    factors: Mapping[float, Figures]


def measure(
    jobs: int = JOBS, loads: Sequence[int] = LOADS, factors: Sequence[float] = FACTORS
) -> Measured:
    """Measure all rules with each number of active jobs, and our factors with the usual one."""
    rules: Mapping[str, Callable[[Sequence[Submitted]], Figures]] = {
        OURS: sutro_poller,
        SDK: lambda submitted: single(submitted, SDK_SECONDS),
        PAGE: list_pages,
        AIRFLOW: lambda submitted: single(submitted, AIRFLOW_SECONDS),
    }
    worlds = {active: arrivals(active, jobs) for active in loads}
    figures = {
        name: {active: rule(submitted) for active, submitted in worlds.items()}
        for name, rule in rules.items()
    }
    usual, default = arrivals(USUAL, jobs), default_factor()
    others = {
        factor: sutro_poller(usual, POLLER_INTERVAL_FACTOR=f"{factor:g}")
        for factor in factors
        if factor != default
    }
    ours = figures[OURS].get(USUAL) or sutro_poller(usual)
    return Measured(rules=figures, factors=dict(sorted({default: ours, **others}.items())))


def default_factor() -> float:
    """Return the default of `POLLER_INTERVAL_FACTOR`."""
    return load(VARIABLES).poll_policy.factor


# The report.


def chapter() -> Chapter:
    """Measure everything, and draw the chart."""
    measured = measure()
    lag_chart.write(lines(measured))
    rows = [row for active in LIMITS for row in _rows(measured, active)]
    return Chapter("Lag and requests", HOW, rows, "\n".join(_table(measured)))


def lines(measured: Measured) -> list[lag_chart.Line]:
    """Return the lines of the chart, and the points of rules that do not depend on the load."""
    return [
        *(
            lag_chart.Line(
                name,
                [
                    (_load(by_load, active) if len(by_load) > 1 else name, figures)
                    for active, figures in by_load.items()
                ],
            )
            for name, by_load in _distinct(measured).items()
        ),
        lag_chart.Line(
            f"{OURS}, {USUAL} jobs, by POLLER_INTERVAL_FACTOR",
            [(f"factor {factor:g}", figures) for factor, figures in measured.factors.items()],
        ),
    ]


def _load(by_load: Mapping[int, Figures], active: int) -> str:
    """Return how many jobs are active where a rule has these figures."""
    if len(by_load) == 1:
        return "any number"
    return f"{active} job" if active == 1 else f"{active} jobs"


def _distinct(measured: Measured) -> Mapping[str, Mapping[int, Figures]]:
    """Return the figures of each rule, but only one of a rule that has the same for all loads."""
    return {
        name: by_load if len(set(by_load.values())) > 1 else dict([*by_load.items()][:1])
        for name, by_load in measured.rules.items()
    }


def _rows(measured: Measured, active: int) -> Iterator[Row]:
    """Return the rows that have a limit."""
    ours, theirs = measured.rules[OURS][active], measured.rules[SDK][active]
    limit, fewer = LIMITS[active], theirs.requests / ours.requests
    who = f"{active} {'job' if active == 1 else 'jobs'} active"
    for name in ("mean", "p99"):
        lag, most = getattr(ours, name), getattr(limit, name)
        yield Row(
            what=f"{who}: {name} lag, s",
            figure=f"{lag:.1f}",
            to_reach=f"at most {most:g}",
            is_reached=lag <= most,
        )
    yield Row(
        what=f"{who}: fewer requests than {SDK}",
        figure=f"{fewer:.1f} x ({ours.requests:.1f} against {theirs.requests:.1f} per job)",
        to_reach=f"{limit.fewer:g} x",
        is_reached=fewer >= limit.fewer,
    )


def _table(measured: Measured) -> Iterator[str]:
    yield "| rule | active | requests per job | mean lag, s | p95 | p99 | longest |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, by_load in _distinct(measured).items():
        for active, figures in by_load.items():
            yield _line(name, _load(by_load, active), figures)
    for factor, figures in measured.factors.items():
        yield _line(f"{OURS}, `POLLER_INTERVAL_FACTOR={factor:g}`", f"{USUAL} jobs", figures)


def _line(name: str, active: str, figures: Figures) -> str:
    lags = (figures.mean, figures.p95, figures.p99, figures.longest)
    cells = (f"{figures.requests:.1f}", *(f"{lag:.1f}" for lag in lags))
    return f"| {name} | {active} | {' | '.join(cells)} |"
