"""The daemon's watcher, planner, source and store in virtual time, against `virtual_api.py`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, TypeVar

import anyio
import structlog

from poller import config as configuration
from poller.core.jobs import Job
from poller.polling.tracker import JobTracker
from poller.polling.watcher import Watcher
from poller.sutro.port import Observation
from poller.wiring import SecretFiles, build_client, build_rate_limiter, build_source
from tests.bench.rules import Timeline
from tests.bench.virtual_api import VirtualApi
from tests.support.running_app import in_memory
from tests.support.virtual_time import VirtualLoop, virtual_clock

LIMIT_SECONDS: Final = 100 * 365 * 86_400.0
VARIABLES: Final = {
    "SUTRO_API_KEY": "sk_bench",
    "SUTRO_API_URL": "https://api.invalid/v1",
    "POLLER_STORE": "memory:",
    "POLLER_DISCOVER": "on",
}
"""Discovery does not run; the setting stands for the jobs that are named later."""

T = TypeVar("T")


def run_virtually(function: Callable[..., Awaitable[T]], *values: object) -> T:
    """Run an async function in virtual time, without a log."""
    with structlog.testing.capture_logs():
        options = {"loop_factory": partial(VirtualLoop, LIMIT_SECONDS)}
        return anyio.run(function, *values, backend_options=options)


@dataclass(slots=True, eq=False)
class VirtualDaemon:
    """A running daemon: which of its jobs have not ended, and how late each end was detected."""

    api: VirtualApi
    watcher: Watcher = field(init=False)
    lags: dict[str, float] = field(default_factory=dict)
    _watched: dict[str, None] = field(default_factory=dict)
    _detected: anyio.Event = field(default_factory=anyio.Event)

    async def submit(self, *timelines: Timeline, is_stuck: bool = False) -> list[str]:
        """Create jobs and name them to the daemon; return their IDs."""
        job_ids = [self.api.add(timeline, is_stuck=is_stuck) for timeline in timelines]
        self._watched |= dict.fromkeys(job_ids)
        await self.watcher.watch(job_ids)
        return job_ids

    def observe(self, seen: Observation) -> None:
        """Record the lag of an end that a response shows."""
        if not isinstance(seen.result, Job) or not seen.result.status.is_terminal:
            return
        if seen.job_id in self._watched:
            del self._watched[seen.job_id]
            self.lags[seen.job_id] = self.api.now() - self.api.jobs[seen.job_id].ends_at
            self._detected.set()

    async def wait_for_ends(self, job_ids: list[str]) -> None:
        """Wait until the ends of these jobs are detected."""
        while not self.lags.keys() >= set(job_ids):
            self._detected = anyio.Event()
            await self._detected.wait()


@asynccontextmanager
async def running_daemon(seed: int, **variables: str) -> AsyncIterator[VirtualDaemon]:
    """Run a daemon with these settings while the block runs."""
    clock, random = virtual_clock(), Random(seed).random
    config = configuration.load(VARIABLES | variables)
    api = VirtualApi(clock.steady)
    source = build_source(
        config,
        build_client(config, api, clock),
        build_rate_limiter(config, clock, random),
        clock,
        secrets=SecretFiles(config),
        on_reload_error=print,
    )
    tracker = JobTracker(
        in_memory(config, clock),
        rules=config.lifecycle_policy,
        origin=config.origin,
        clock=clock,
        wake=lambda: None,
    )
    daemon = VirtualDaemon(api)
    daemon.watcher = Watcher(
        source,
        tracker,
        policy=config.poll_policy,
        random=random,
        concurrency=config.settings.concurrency,
        on_observation=daemon.observe,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.watcher.run)
        yield daemon
        group.cancel_scope.cancel()
