"""The daemon in virtual time while the API misbehaves: rows that stay stale, and outages."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import anyio

from tests.bench.results import Chapter, Row
from tests.bench.rules import Timeline
from tests.bench.virtual_api import NO_RESPONSE
from tests.bench.virtual_daemon import run_virtually, running_daemon

SEED: Final = 1
GIVE_UP: Final = 3
"""How many times the limit passes until an end counts as never detected."""
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
QUEUE_SECONDS: Final = 10.0

CONFIRM_SECONDS: Final = 600.0
CONFIRM_SHARE: Final = 0.1
"""A job is confirmed by a GET after ten minutes, or a tenth of the time that it is watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleRows:
    """Jobs of which some end, while their rows in the list stay as they were."""

    what: str
    stuck: int
    others: int
    ends_after: tuple[float, float]
    worlds: int = 1

    @property
    def limit(self) -> float:
        """The longest time until an end is detected."""
        return max(CONFIRM_SECONDS, CONFIRM_SHARE * self.ends_after[1])


STALE_ROWS: Final = (
    StaleRows(what="1 of 10 jobs", stuck=1, others=9, ends_after=(0.5 * HOUR, HOUR), worlds=5),
    StaleRows(what="90 of 90 jobs", stuck=90, others=0, ends_after=(0.5 * HOUR, HOUR)),
    StaleRows(what="1 of 10 day-old jobs", stuck=1, others=9, ends_after=(DAY, DAY)),
)

OUTAGES: Final = {"status 503": 503, "connections refused": NO_RESPONSE}
OUTAGE_JOBS: Final = (1, 10, 90)
OUTAGE: Final = (HOUR, 2 * HOUR)
"""When the outage begins and ends, after the jobs were created."""
MAX_RATIO: Final = 1.1

HOW: Final = f"""\
The parts of the daemon in virtual time, as in the chapter on lag. Stale rows: jobs end at random
times, and their rows in the list never change. Outages: jobs that run for long, and each request
fails for {(OUTAGE[1] - OUTAGE[0]) / MINUTE:.0f} min; the requests of that time, compared with those
of the same time without the outage."""


def longest_lag(case: StaleRows) -> float:
    """Return the longest time until an end is detected that the list never shows."""
    worlds = range(SEED, SEED + case.worlds)
    return max(max(run_virtually(_watch_stale_rows, case, seed)) for seed in worlds)


async def _watch_stale_rows(case: StaleRows, seed: int) -> Sequence[float]:
    random, forever = Random(seed), Timeline(QUEUE_SECONDS, 10 * DAY)
    ends = [random.uniform(*case.ends_after) for _ in range(case.stuck)]
    async with running_daemon(seed) as daemon:
        await daemon.submit(*(forever for _ in range(case.others)))
        timelines = [Timeline(0.0, end) for end in ends]
        stuck = await daemon.submit(*timelines, is_stuck=True)
        with anyio.move_on_after(case.ends_after[1] + GIVE_UP * case.limit):
            await daemon.wait_for_ends(stuck)
        return [daemon.lags.get(job_id, math.inf) for job_id in stuck]


async def requests(jobs: int, outage: int | None) -> int:
    """Return the requests of the time in which there is an outage, or would be one."""
    async with running_daemon(SEED) as daemon:
        await daemon.submit(*(Timeline(QUEUE_SECONDS, 10 * DAY) for _ in range(jobs)))
        await anyio.sleep(OUTAGE[0])
        before, daemon.api.outage = daemon.api.requests.total(), outage
        await anyio.sleep(OUTAGE[1] - OUTAGE[0])
        return daemon.api.requests.total() - before


def chapter() -> Chapter:
    """Measure all cases."""
    return Chapter("Stale rows and outages", HOW, [*_stale_rows(), *_outages()])


def _stale_rows() -> Iterator[Row]:
    for case in STALE_ROWS:
        lag = longest_lag(case)
        yield Row(
            what=f"the row of {case.what} stays stale: longest s until an end is detected",
            figure=f"{lag:.0f}" if lag < math.inf else f"more than {GIVE_UP * case.limit:.0f}",
            to_reach=f"at most {case.limit:.0f}",
            is_reached=lag <= case.limit,
        )


def _outages() -> Iterator[Row]:
    for jobs in OUTAGE_JOBS:
        healthy = run_virtually(requests, jobs, None)
        for name, outage in OUTAGES.items():
            ratio = run_virtually(requests, jobs, outage) / healthy
            yield Row(
                what=f"{jobs} watched, {name}: requests, compared with a healthy API",
                figure=f"{ratio:.2f} x",
                to_reach=f"at most {MAX_RATIO:g} x",
                is_reached=ratio <= MAX_RATIO,
            )
