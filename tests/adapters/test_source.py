"""The Sutro API as a source of observations: one request a turn."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import pytest
from pydantic import SecretStr

from poller.core.errors import (
    MalformedResponse,
    PollError,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
)
from poller.core.jobs import Job, JobStatus
from poller.polling.queue import PollQueue
from poller.runtime.http import HttpClient, OutboundSettings
from poller.sutro.client import JOB_BYTES_CAP, JobPage, SutroClient, no_known_jobs
from poller.sutro.list_planner import ListPlanner
from poller.sutro.port import Observation, PollRequest
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.support.builders import a_job
from tests.support.http_peers import Peer, Talk, answers, drips, peer, says, stalls
from tests.support.virtual_time import START, virtual_clock

NOW = START.timestamp()
TOO_LARGE = answers(200, b" " * (JOB_BYTES_CAP + 1))


def a_status(word: str) -> Talk:
    """Answer with a job's status alone."""
    return answers(200, json.dumps({"job_status": {"job-1": word}}).encode())


def an_object(job_id: str = "job-1", word: str = "RUNNING") -> Talk:
    """Answer with a job object."""
    return answers(200, json.dumps({"job": {"job_id": job_id, "status": word}}).encode())


@dataclass
class Asker:
    """Somebody who takes turns at a source, as the watcher does."""

    source: SutroSource
    there: Peer
    keys: list[str]
    queue: PollQueue = field(default_factory=PollQueue)

    def due(self, *job_ids: str) -> None:
        """Let jobs fall due now."""
        now = NOW + anyio.current_time()
        for job_id in job_ids:
            self.queue.put(job_id, due=now, now=now - 10.0)

    async def look(self, job_id: str = "job-1") -> Job | PollError:
        """Let a job fall due, and give what its look comes to."""
        self.due(job_id)
        chosen = await self.chosen()
        (seen,) = await chosen.send(no_known_jobs)
        assert seen.job_id == job_id
        assert isinstance(seen.result, Job | PollError)
        return seen.result

    async def chosen(self) -> PollRequest:
        """Wait for the host's turn, as long as it takes."""
        while (request := await self.source.plan(self.queue)) is None:
            pass
        self.queue.take(request.job_ids)
        return request

    @property
    def paths(self) -> list[str]:
        """Give the paths of all requests."""
        return [line.split()[1] for line in self.there.lines]


@asynccontextmanager
async def asking(*talks: Talk, per_minute: float = 600.0) -> AsyncIterator[Asker]:
    """Take turns at a source that asks a peer."""
    now, keys = virtual_clock().steady, ["sk_old"]
    async with peer(*talks) as it, HttpClient(OutboundSettings(), timeout=30.0, limit=16) as http:
        client = SutroClient(
            http, base=f"{it.base}/v1", key=lambda: SecretStr(keys[-1]), now=lambda: NOW
        )
        rate_limiter = RateLimiter(per_minute=per_minute, now=now, random=lambda: 0.0)
        source = SutroSource(
            client,
            rate_limiter,
            planner=ListPlanner(now),
            now=now,
            renew_key=lambda: keys.append("sk_new"),
        )
        yield Asker(source, it, keys)


pytestmark = pytest.mark.virtual(limit=7_200.0)


async def test_look():
    """A due job is asked about by one request, and its answer is an observation."""
    async with asking(an_object()) as asker:
        job = await asker.look()

    assert isinstance(job, Job)
    assert (job.status, asker.paths) == (JobStatus.RUNNING, ["/v1/jobs/job-1"])


async def test_moment_of_an_observation():
    """An observation is of the moment when its request began, not when it was chosen or ended."""
    async with asking(drips(b"", b"x")) as asker:
        asker.due("job-1")
        chosen = await asker.source.plan(asker.queue)
        await anyio.sleep(5.0)
        assert chosen
        (seen,) = await chosen.send(no_known_jobs)

    assert seen.requested_at == NOW + 5.0
    assert isinstance(seen.result, Transient)


async def test_error_is_an_observation():
    """What a request came to is told, whatever it is."""
    async with asking(answers(500)) as asker:
        seen = await asker.look()

    assert type(seen) is Transient


async def test_most_overdue_job_is_taken():
    """Of the due jobs the queue's first choice is taken, and no longer in the queue."""
    async with asking(an_object()) as asker:
        asker.due("job-2")
        await anyio.sleep(60.0)
        asker.queue.put("job-1", due=NOW + 60.0, now=NOW + 59.0)
        chosen = await asker.chosen()
        (seen,) = await chosen.send(no_known_jobs)

    assert (seen.job_id, len(asker.queue)) == ("job-2", 1)


async def test_turn_without_a_due_job():
    """When no job is due after all, there is no look and the turn is not lost."""
    async with asking(an_object(), per_minute=1.0) as asker:
        nothing = await asker.source.plan(asker.queue)
        await asker.look()

    assert nothing is None
    assert anyio.current_time() == 0.0


async def test_skew_is_that_of_the_api():
    """The source's clock is as wrong as the API's answers say, which tell the second of it."""
    async with asking(answers(500, date="Mon, 15 Jan 2024 10:00:42 GMT")) as asker:
        await asker.look()

    assert asker.source.clock_skew == 42.5


# A refused key.


async def test_key_is_read_again_before_a_trial():
    """After a refusal the key is read again before each trial, and the new one is sent."""
    async with asking(answers(401), answers(401), an_object()) as asker:
        await asker.look()
        gated, refused = asker.source.is_gated, asker.source.is_key_rejected
        await asker.look()
        confirmed = asker.source.is_key_rejected
        await asker.look()

    assert (gated, refused, confirmed) == (True, False, True)
    assert asker.there.header("Authorization") == "Key sk_new"
    assert asker.keys == ["sk_old", "sk_new", "sk_new"]
    assert not asker.source.is_gated
    assert anyio.current_time() == pytest.approx(45.0, abs=0.5)


async def test_trial_takes_a_job_that_is_not_due():
    """A trial asks about any job, since none may be due for long."""
    async with asking(answers(401), an_object("job-2")) as asker:
        await asker.look()
        asker.queue.put("job-2", due=NOW + 3_600.0, now=NOW)
        chosen = await asker.chosen()
        (seen,) = await chosen.send(no_known_jobs)

    assert isinstance(seen.result, Job)


async def test_trial_after_a_403_asks_about_another_job():
    """A 403 is tried with another job at once, so that one forbidden job holds up no other."""
    async with asking(answers(403), an_object("job-2")) as asker:
        seen = await asker.look()
        asker.queue.put("job-1", due=NOW + 900.0, now=NOW, is_deferred=True)
        job = await asker.look("job-2")

    assert isinstance(seen, Unauthorized)
    assert isinstance(job, Job)
    assert anyio.current_time() < 1.0


# A job that is too large.


async def test_end_of_a_job_that_is_too_large():
    """A job whose object is over the cap is asked for its status, so that its end is seen."""
    async with asking(TOO_LARGE, a_status("SUCCEEDED")) as asker:
        job = await asker.look()

    assert isinstance(job, Job)
    assert job.status is JobStatus.SUCCEEDED
    assert asker.paths == ["/v1/jobs/job-1", "/v1/job-status/job-1"]


async def test_large_job_is_not_read_twice():
    """A job that was too large once is asked for its status alone from then on."""
    async with asking(TOO_LARGE, a_status("RUNNING")) as asker:
        for _ in range(3):
            await asker.look()

    assert asker.paths == ["/v1/jobs/job-1", *["/v1/job-status/job-1"] * 3]


async def test_large_job_is_warned_of_once(capsys):
    """A job that is too large is worth one warning."""
    async with asking(TOO_LARGE, a_status("RUNNING")) as asker:
        for _ in range(3):
            await asker.look()

    assert capsys.readouterr().out.count("job.too_large") == 1


async def test_second_request_takes_a_turn_of_its_own():
    """The request for the status keeps the pace like any other."""
    async with asking(TOO_LARGE, a_status("RUNNING"), per_minute=6.0) as asker:
        await asker.look()

    assert anyio.current_time() == pytest.approx(10.0)


async def test_large_answer_proves_the_key():
    """A job that is too large is an answer of the API: a closed gate opens."""
    async with asking(answers(401), TOO_LARGE, a_status("RUNNING")) as asker:
        await asker.look()
        job = await asker.look()

    assert isinstance(job, Job)
    assert not asker.source.is_gated
    assert anyio.current_time() == pytest.approx(15.0, abs=0.5)


async def test_status_that_is_too_large():
    """A status that is itself too large is a failure like any other."""
    async with asking(TOO_LARGE) as asker:
        seen = await asker.look()

    assert type(seen) is ResponseTooLarge
    assert len(asker.paths) == 2


async def test_status_of_a_large_job_that_tells_nothing():
    """A status that cannot be read tells nothing, and is asked for again."""
    async with asking(TOO_LARGE, answers(200, b"{}"), a_status("FAILED")) as asker:
        seen = await asker.look()
        job = await asker.look()

    assert type(seen) is MalformedResponse
    assert isinstance(job, Job)
    assert job.status is JobStatus.FAILED


@pytest.mark.parametrize("talk", [TOO_LARGE, answers(200, b" " * 100), answers(500), says()])
async def test_error_lets_go_of_its_answer(talk: Talk):
    """An error that waits to be told keeps no frame, and so no answer of megabytes, alive."""
    async with asking(talk) as asker:
        error = await asker.look()

    assert isinstance(error, PollError)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


@pytest.mark.virtual(limit=60.0)
async def test_jobs_that_are_too_large_keep_no_body_while_their_status_is_asked():
    """Ten jobs whose status is slow to come after a body over the cap hold none of these bodies."""
    turns = [TOO_LARGE] * 10 + [stalls()]
    async with asking(*turns, per_minute=60_000.0) as asker, anyio.create_task_group() as group:
        tracemalloc.start()
        for number in range(10):
            asker.due(f"job-{number}")
            chosen = await asker.source.plan(asker.queue)
            assert chosen is not None
            asker.queue.take(chosen.job_ids)
            group.start_soon(chosen.send, no_known_jobs)
            await anyio.sleep(1.0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert held < 4_000_000


# The list.


class Book:
    """A client whose list has three pages; `turned` is told before each is given."""

    clock_skew = 0.0

    def __init__(self, turned: Callable[[str | None], None]) -> None:
        self.turned = turned

    async def list_jobs(self, *, limit: int, cursor: str | None = None, known: object) -> JobPage:
        """Give a page of some of the 250 jobs."""
        self.turned(cursor)
        begin = int(cursor or 0)
        end = min(begin + limit, 250)
        jobs = tuple(a_job(job_id=f"job-{number}") for number in range(begin, end))
        return JobPage(jobs, str(end) if end < 250 else None)


async def test_a_survey_that_is_cut_short_is_none():
    """When the list is begun anew while a survey goes deeper, what is below is not known yet."""
    listing = ListPlanner(lambda: NOW)
    cuts = ["100"]

    def cut(cursor: str | None) -> None:
        if cursor in cuts:
            cuts.remove(cursor)
            listing.fail(listing.first(), Rejected("a page of somebody else"))

    rate_limiter = RateLimiter(per_minute=1e6, now=virtual_clock().steady, random=lambda: 0.5)
    source = SutroSource(
        Book(cut), rate_limiter, planner=listing, now=lambda: NOW, renew_key=lambda: None
    )
    shown = [[it.job_id for seen in await survey(source) for it in seen] for _ in range(2)]

    assert [len(it) for it in shown] == [200, 250]


async def survey(source: SutroSource) -> list[Sequence[Observation]]:
    """Make a survey of all that there is."""
    return [seen async for seen in source.scan(START - timedelta(days=900))]
