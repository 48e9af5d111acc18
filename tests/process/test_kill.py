"""`kill -9` at random moments: nothing is lost, nothing gets a second id."""

from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from random import Random

import anyio
import pytest

from poller.sutro.script import Script
from tests.process.daemon import Daemon, Place
from tests.process.waiting import until

pytestmark = pytest.mark.anyio

KILLS = 30
JOBS_A_LIFE = 8


@dataclass(frozen=True)
class Life:
    """When a process was started, and how many ends nobody had taken from it when it was killed."""

    began: float
    undelivered: int


def exposed(place: Place) -> set[str]:
    """Name the jobs whose end the API has shown to a poll."""
    looks = [it for it in place.api.log if it.status == 200 and "/jobs/" in it.path]
    return {
        job_id
        for job_id, at in ((it.path.rpartition("/")[2], it.at) for it in looks)
        if (life := place.api.find(job_id)) and life.completed <= at
    }


def young(random: Random, life: int) -> list[Script]:
    """Give jobs that end about when a process that is started now has begun to look."""
    return [
        Script(
            job_id=f"job-{life}-{number}",
            fate=random.choice(("succeeded", "failed", "cancelled")),
            queue_seconds=0.0,
            run_seconds=random.uniform(0.4, 1.0),
        )
        for number in range(JOBS_A_LIFE)
    ]


async def beginning(daemon: Daemon) -> float:
    """Say when a process wrote its first line: before that it has sent nothing."""
    started, *_ = await daemon.saying("poller.started")
    return datetime.fromisoformat(started["timestamp"]).timestamp()


async def live_and_be_killed(place: Place, jobs: str, moment: float) -> Life:
    """Run until some time after the first request, then kill without a warning."""
    asked = place.api.requests.total()
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        began = await beginning(daemon)
        await until(lambda: place.api.requests.total() > asked)
        await anyio.sleep(moment)
        daemon.process.kill()
        undelivered = len(exposed(place) - place.receiver.answered)
        await daemon.end()
    return Life(began, undelivered)


def unexplained(place: Place, lives: list[float]) -> list[str]:
    """Name what was sent twice by one and the same process.

    What a process had sent when it was killed may be taken in a moment later, but long before
    the next one has done its imports: a receipt belongs to the process that began last.
    """
    senders = Counter((it.id, bisect(lives, it.at)) for it in place.receiver.receipts)
    return [event_id for (event_id, _), times in senders.items() if times > 1]


async def test_thirty_kills_lose_nothing_and_double_nothing(place: Place):
    """Every end arrives, under one id, and twice only when a kill came between."""
    random, lives, jobs = Random(30), [], ""
    place.receiver.delay = 0.1
    for number in range(KILLS):
        jobs += place.jobs(*young(random, number)) + ","
        lives.append(await live_and_be_killed(place, jobs, random.uniform(0.0, 0.3)))
    watched = set(jobs.strip(",").split(","))
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        last_began = await beginning(daemon)
        with anyio.move_on_after(15.0):
            await until(lambda: place.receiver.answered == watched)
        code = await daemon.stop()

    facts = {(it.subject, it.type) for it in place.receiver.receipts}
    hits = sum(life.undelivered > 0 for life in lives)
    print(f"{hits} of {KILLS} kills hit while ends were undelivered")  # noqa: T201 - the figure
    assert code == 0
    assert watched - place.receiver.answered == set()
    assert len({it.id for it in place.receiver.receipts}) == len(facts) == len(watched)
    assert not unexplained(place, [*(life.began for life in lives), last_began])
    assert hits >= KILLS / 2
