"""Jobs that are not watched any more take no memory."""

from collections.abc import Collection, Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from poller.core.errors import NotFound, Rejected, ResponseTooLarge
from poller.core.jobs import Job
from poller.sutro.client import JobPage, no_known_jobs
from poller.sutro.list_planner import ListPlanner
from poller.sutro.port import Known
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.support.fakes import Answer, FakeApi, a_store, a_watcher, ended, half, running
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=90_000.0)
LATENCY = 0.5
BOUNDED = {"_logged", "_seen"}
"""What was logged once is remembered up to a limit."""
ENDS = {
    "ended": ended,
    "costless": lambda job_id: ended(job_id, "CANCELLED", job_cost=None),
    "lost": lambda _: NotFound("no such job"),
    "large": lambda _: ResponseTooLarge("over the cap"),
    "rejected": lambda _: Rejected("422"),
    "running": running,
}


class ListedApi(FakeApi):
    """A fake API whose list shows the jobs that it knows."""

    async def list_jobs(
        self, *, limit: int, cursor: str | None = None, known: Known = no_known_jobs
    ) -> JobPage:
        """Return the first page."""
        assert not cursor
        self.asked.append((anyio.current_time(), "page"))
        jobs = [answer for answer in self.answers.values() if isinstance(answer, Job)]
        return JobPage(tuple(jobs[:limit]), None)

    async def get_status(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return a status of a job whose object is too large."""
        return running(job_id)


def kept(part: object, name: str, met: set[int]) -> Iterator[tuple[str, int]]:
    """Return the collections that a part of the daemon holds, and their lengths."""
    if isinstance(part, Collection) and not isinstance(part, str):
        yield name, len(part)
    elif type(part).__module__.startswith("poller") and id(part) not in met:
        met.add(id(part))
        slots = [slot for kind in type(part).__mro__ for slot in getattr(kind, "__slots__", ())]
        for field in [*getattr(part, "__dict__", ()), *slots]:
            if field not in BOUNDED:
                yield from kept(getattr(part, field), f"{name}.{field}", met)


async def test_jobs_that_are_over_leave_nothing_behind():
    """Whatever became of jobs, and whenever they were removed, nothing of them is remembered."""
    clock, api, store = virtual_clock(), ListedApi(), a_store()
    source = SutroSource(
        api,
        RateLimiter(per_minute=6_000.0, now=clock.steady, random=half),
        planner=ListPlanner(clock.steady),
        now=clock.steady,
        renew_key=checkpoint,
    )
    watcher, sizes = a_watcher(source, store, clock), []
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        for wave in range(3):
            names = {f"{end}-{wave}": end for end in ENDS}
            answers: dict[str, Answer] = {job_id: running(job_id) for job_id in names}
            api.answers, api.latency = answers, 0.0
            await watcher.watch([*names, f"typo-{wave}"])
            await anyio.sleep(60.0)
            api.answers = {job_id: ENDS[end](job_id) for job_id, end in names.items()}
            await anyio.sleep(600.0)
            api.answers[f"costless-{wave}"] = ended(f"costless-{wave}", "CANCELLED")
            api.answers[f"brief-{wave}"] = running(f"brief-{wave}")
            await anyio.sleep(3_600.0)
            api.latency = LATENCY
            await watcher.watch([f"brief-{wave}"], [*names, f"typo-{wave}"])
            await anyio.sleep(LATENCY / 2)
            await watcher.watch([], [f"brief-{wave}"])
            api.answers = {}
            await anyio.sleep(7_200.0)
            sizes.append(dict(kept(watcher, "watcher", set())))
        group.cancel_scope.cancel()

    assert sizes[2] == sizes[1] == sizes[0]
