"""Ten active jobs: the requests and the lag of the whole daemon, in virtual time."""

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
from tests.support.running_app import KEY, an_app, in_memory, running_app, served, served_app
from tests.support.virtual_time import VirtualLoop, virtual_clock

ACTIVE: Final = 10
JOBS: Final = 150
INTERVAL: Final = 5.0
FACTORS: Final = (1.0, 0.6)
LAG: Final = 10.0
TARGET: Final = 15.0
YEAR: Final = 365 * 86_400.0

HOW: Final = f"""\
{JOBS} of the synthetic LLM batches of `schedules.py`, {ACTIVE} at any time: whenever one ends the
next is submitted and named to the daemon. It runs in virtual time against the simulator, with its
default settings but for the factor. The SDK's loop polls each job every {INTERVAL:.0f} s. Lag is
what passes from a job's end to its webhook."""


class Watched(NamedTuple):
    """The number of requests, and how late each end was delivered, in seconds."""

    requests: int
    lags: list[float]


@dataclass(slots=True)
class Fleet:
    """An account with jobs, and a receiver of their ends."""

    api: Simulator
    timelines: Iterator[rules.Timeline]
    jobs: int
    ended: dict[str, float] = field(default_factory=dict)
    delivered_at: dict[str, float] = field(default_factory=dict)
    all_delivered: anyio.Event = field(default_factory=anyio.Event)

    async def submit_jobs(self, app: App) -> None:
        """Submit a job whenever the last one has ended, as a script that names its jobs does."""
        for timeline in self.timelines:
            job_id, run = self.api.free_id(), timeline.ended - timeline.started
            self.api.add(JobScript(job_id=job_id, queue_seconds=timeline.started, run_seconds=run))
            self.ended[job_id] = anyio.current_time() + timeline.ended
            app._watchlist._job_ids = dict.fromkeys(self.ended)
            app.reload()
            await anyio.sleep(timeline.ended)

    async def handle(self, request: web.Request) -> web.Response:
        """Accept an event."""
        job_id = json.loads(await request.read())["data"]["job"]["job_id"]
        self.delivered_at[job_id] = anyio.current_time()
        if len(self.delivered_at) == self.jobs:
            self.all_delivered.set()
        return web.Response(status=204)


def watch(timelines: Sequence[rules.Timeline], factor: float) -> Watched:
    """Watch ACTIVE jobs until all have ended."""
    with structlog.testing.capture_logs():
        options = {"loop_factory": partial(VirtualLoop, YEAR)}
        return anyio.run(_watch, timelines, factor, backend_options=options)


async def _watch(timelines: Sequence[rules.Timeline], factor: float) -> Watched:
    clock = virtual_clock()
    fleet = Fleet(Simulator(now=clock.steady, key=KEY), iter(timelines), len(timelines))
    async with served_app(application(fleet.api)) as url, served(fleet.handle) as hook:
        settings = {"POLLER_INTERVAL_FACTOR": str(factor)}
        draw = Random(schedules.SEED).random
        app = an_app(url, hook, clock=clock, new_store=in_memory, random=draw, **settings)
        async with running_app(app), anyio.create_task_group() as slots:
            for _ in range(ACTIVE):
                slots.start_soon(fleet.submit_jobs, app)
            await fleet.all_delivered.wait()
    lags = [fleet.delivered_at[job_id] - at for job_id, at in fleet.ended.items()]
    return Watched(sum(fleet.api.requests.values()), lags)


def chapter() -> Chapter:
    """Watch the same jobs with each factor."""
    timelines = schedules.sample(schedules.llm_batch, JOBS)
    theirs = schedules.measure(rules.FIXED, timelines, INTERVAL)
    loop = f"{theirs.requests:.0f} requests a job, mean lag {theirs.mean:.1f} s"
    rows = [Row(what="the SDK's loop", figure=loop)]
    for factor in FACTORS:
        requests, lags = watch(timelines, factor)
        fewer, lag = theirs.requests * JOBS / requests, fmean(lags)
        is_soon_enough = lag < LAG
        rows.append(
            Row(
                what=f"`POLLER_INTERVAL_FACTOR={factor:g}`: fewer requests than the SDK's loop",
                figure=f"{fewer:.1f} x ({requests / JOBS:.1f} a job), mean lag {lag:.1f} s",
                to_reach=f"{TARGET:g} x" if is_soon_enough else "",
                is_reached=fewer >= TARGET if is_soon_enough else None,
            )
        )
    return Chapter("Ten active jobs", HOW, rows)
