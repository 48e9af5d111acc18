"""Ten active jobs: the requests and the lag of the whole product, in virtual time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from statistics import fmean
from typing import Final, NamedTuple

import anyio
import structlog
from aiohttp import web

from poller.app import App
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, application
from tests.bench import rules, schedules
from tests.bench.results import Chapter, Row
from tests.support.running_app import KEY, an_app, in_memory, living, served, served_app
from tests.support.virtual_time import VirtualLoop, virtual_clock

ACTIVE: Final = 10
JOBS: Final = 150
INTERVAL: Final = 5.0
FACTORS: Final = (1.0, 0.6)
LAG: Final = 10.0
TO_REACH: Final = 15.0
YEAR: Final = 365 * 86_400.0

HOW: Final = f"""\
{JOBS} of the synthetic LLM batches of `schedules.py`, {ACTIVE} at any time: whenever one ends the
next is submitted and named to the daemon. It runs in virtual time against the simulator, with its
default settings but for the factor. The SDK's loop asks for each job every {INTERVAL:.0f} s. Lag is
what passes from a job's end to its webhook."""


class Watched(NamedTuple):
    """Requests in all, and how late each end was told, in seconds."""

    requests: int
    lags: list[float]


@dataclass(slots=True)
class Fleet:
    """An account with jobs, and a receiver that is told of their ends."""

    api: Simulator
    lives: Iterator[rules.Life]
    jobs: int
    ended: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    all_told: anyio.Event = field(default_factory=anyio.Event)

    async def submit_on(self, app: App) -> None:
        """Submit a job whenever the last one has ended, as a script that names it would."""
        for life in self.lives:
            job_id, run = self.api.free_id(), life.ended - life.started
            self.api.add(JobScript(job_id=job_id, queue_seconds=life.started, run_seconds=run))
            self.ended[job_id] = anyio.current_time() + life.ended
            app._watchlist._job_ids = dict.fromkeys(self.ended)
            app.reload()
            await anyio.sleep(life.ended)

    async def take(self, request: web.Request) -> web.Response:
        """Take an event."""
        job_id = json.loads(await request.read())["data"]["job"]["job_id"]
        self.told[job_id] = anyio.current_time()
        if len(self.told) == self.jobs:
            self.all_told.set()
        return web.Response(status=204)


def watch(lives: Sequence[rules.Life], factor: float) -> Watched:
    """Let the product watch ACTIVE jobs until all have ended."""
    with structlog.testing.capture_logs():
        options = {"loop_factory": partial(VirtualLoop, YEAR)}
        return anyio.run(_watch, lives, factor, backend_options=options)


async def _watch(lives: Sequence[rules.Life], factor: float) -> Watched:
    clock = virtual_clock()
    fleet = Fleet(Simulator(now=clock.steady, key=KEY), iter(lives), len(lives))
    async with served_app(application(fleet.api)) as url, served(fleet.take) as hook:
        settings = {"POLLER_INTERVAL_FACTOR": str(factor)}
        draw = Random(schedules.SEED).random
        app = an_app(url, hook, clock=clock, new_store=in_memory, random=draw, **settings)
        async with living(app), anyio.create_task_group() as slots:
            for _ in range(ACTIVE):
                slots.start_soon(fleet.submit_on, app)
            await fleet.all_told.wait()
    lags = [fleet.told[job_id] - at for job_id, at in fleet.ended.items()]
    return Watched(sum(fleet.api.requests.values()), lags)


def chapter() -> Chapter:
    """Watch the same jobs at each factor."""
    lives = schedules.sample(schedules.llm_batch, JOBS)
    theirs = schedules.measure(rules.FIXED, lives, INTERVAL)
    loop = f"{theirs.requests:.0f} requests a job, mean lag {theirs.mean:.1f} s"
    rows = [Row(what="the SDK's loop", figure=loop)]
    for factor in FACTORS:
        requests, lags = watch(lives, factor)
        fewer, lag = theirs.requests * JOBS / requests, fmean(lags)
        is_soon_enough = lag < LAG
        rows.append(
            Row(
                what=f"`POLLER_INTERVAL_FACTOR={factor:g}`: fewer requests than the SDK's loop",
                figure=f"{fewer:.1f} x ({requests / JOBS:.1f} a job), mean lag {lag:.1f} s",
                to_reach=f"{TO_REACH:g} x" if is_soon_enough else "",
                is_reached=fewer >= TO_REACH if is_soon_enough else None,
            )
        )
    return Chapter("Ten active jobs", HOW, rows)
