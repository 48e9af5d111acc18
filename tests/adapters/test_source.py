"""The Sutro API as a source of observations: one request for each token."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import SecretStr

from poller.core.errors import (
    MalformedResponse,
    PollError,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
)
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.poll_queue import PollQueue
from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import OutboundSettings
from poller.sutro.client import JOB_BYTES_CAP, JobPage, SutroClient, no_known_jobs
from poller.sutro.list_planner import ListPlanner
from poller.sutro.port import Observation, PollRequest
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.support.builders import a_job
from tests.support.client_polls import REFUSED
from tests.support.http_peers import ConnectionHandler, Peer, drips, peer, responds, sends, stalls
from tests.support.virtual_time import START, virtual_clock

NOW = START.timestamp()
TOO_LARGE = responds(200, b" " * (JOB_BYTES_CAP + 1))


def a_status(status: str) -> ConnectionHandler:
    """Return a job's status alone."""
    return responds(200, json.dumps({"job_status": {"job-1": status}}).encode())


def a_page(*job_ids: str) -> ConnectionHandler:
    """Return a page of running jobs."""
    jobs = [{"job_id": job_id, "status": "RUNNING"} for job_id in job_ids]
    return responds(200, json.dumps({"jobs": jobs, "next_cursor": None}).encode())


def an_object(job_id: str = "job-1", status: str = "RUNNING") -> ConnectionHandler:
    """Return a job object."""
    return responds(200, json.dumps({"job": {"job_id": job_id, "status": status}}).encode())


@dataclass
class Poller:
    """Polls jobs of a source, as the watcher does."""

    source: SutroSource
    there: Peer
    keys: list[str]
    queue: PollQueue = field(default_factory=PollQueue)

    def due(self, *job_ids: str, is_single: bool = False) -> None:
        """Make jobs due now."""
        now = NOW + anyio.current_time()
        for job_id in job_ids:
            self.queue.put(job_id, due=now, now=now - 10.0, is_single=is_single)

    async def poll(self, job_id: str = "job-1", *, is_single: bool = False) -> Job | PollError:
        """Make a job due, and return the result of its poll."""
        self.due(job_id, is_single=is_single)
        request = await self.next_request()
        results = {seen.job_id: seen.result for seen in await request.send(no_known_jobs)}
        assert job_id in request.job_ids
        result = results[job_id]
        assert isinstance(result, Job | PollError)
        return result

    async def next_request(self) -> PollRequest:
        """Wait for the next request, and take its jobs."""
        while (request := await self.source.plan(self.queue)) is None:
            pass
        self.queue.take(request.job_ids)
        return request

    @property
    def paths(self) -> list[str]:
        """Return the paths of all requests."""
        return [line.split()[1] for line in self.there.lines]


@asynccontextmanager
async def polling(*handlers: ConnectionHandler, per_minute: float = 600.0) -> AsyncIterator[Poller]:
    """Poll a source whose API is a peer."""
    now, keys = virtual_clock().steady, ["sk_old"]

    async def renew_key() -> None:
        keys.append("sk_new")

    async with (
        peer(*handlers) as it,
        HttpClient(OutboundSettings(), timeout=30.0, limit=16) as http,
    ):
        client = SutroClient(
            http, base=f"{it.base}/v1", key=lambda: SecretStr(keys[-1]), now=lambda: NOW
        )
        rate_limiter = RateLimiter(per_minute=per_minute, now=now, random=lambda: 0.0)
        source = SutroSource(
            client,
            rate_limiter,
            planner=ListPlanner(now),
            now=now,
            renew_key=renew_key,
        )
        yield Poller(source, it, keys)


pytestmark = pytest.mark.virtual(limit=7_200.0)


async def test_source_polls_a_due_job():
    """A due job is polled by one request, whose response is an observation."""
    async with polling(an_object()) as poller:
        job = await poller.poll()

    assert isinstance(job, Job)
    assert (job.status, poller.paths) == (JobStatus.RUNNING, ["/v1/jobs/job-1"])


async def test_observation_has_the_time_of_its_request():
    """An observation is of the moment when its request began, not when it was planned or ended."""
    async with polling(drips(b"", b"x")) as poller:
        poller.due("job-1")
        request = await poller.source.plan(poller.queue)
        await anyio.sleep(5.0)
        assert request
        (seen,) = await request.send(no_known_jobs)

    assert seen.requested_at == NOW + 5.0
    assert isinstance(seen.result, Transient)


async def test_error_is_an_observation():
    """The result of a request is an observation, whatever it is."""
    async with polling(responds(500)) as poller:
        seen = await poller.poll()

    assert type(seen) is Transient


async def test_source_plans_the_most_overdue_job():
    """Of the due jobs the queue's first choice is planned, and taken from the queue."""
    async with polling(an_object()) as poller:
        poller.due("job-2")
        await anyio.sleep(60.0)
        poller.queue.put("job-1", due=NOW + 60.0, now=NOW + 59.0)
        request = await poller.next_request()
        (seen,) = await request.send(no_known_jobs)

    assert (seen.job_id, len(poller.queue)) == ("job-2", 1)


async def test_source_returns_an_unused_token():
    """When no job is due after all, there is no request and the token is not lost."""
    async with polling(an_object(), per_minute=1.0) as poller:
        nothing = await poller.source.plan(poller.queue)
        await poller.poll()

    assert nothing is None
    assert anyio.current_time() == 0.0


async def test_source_has_the_apis_clock_skew():
    """The source's clock is as wrong as the API's responses say, which state the second of it."""
    async with polling(responds(500, date="Mon, 15 Jan 2024 10:00:42 GMT")) as poller:
        await poller.poll()

    assert poller.source.clock_skew == 42.5


# A rejected key.


async def test_key_is_read_before_a_probe():
    """After a rejection the key is read again before each probe, and the new one is sent."""
    async with polling(responds(401, REFUSED), responds(401, REFUSED), an_object()) as poller:
        await poller.poll()
        gated, rejected = poller.source.is_gated, poller.source.is_key_rejected
        await poller.poll()
        confirmed = poller.source.is_key_rejected
        await poller.poll()

    assert (gated, rejected, confirmed) == (True, False, True)
    assert poller.there.header("Authorization") == "Key sk_new"
    assert poller.keys == ["sk_old", "sk_new", "sk_new"]
    assert not poller.source.is_gated
    assert anyio.current_time() == pytest.approx(45.0, abs=0.5)


async def test_probe_takes_a_job_that_is_not_due():
    """A probe polls any job, since none may be due for long."""
    async with polling(responds(401, REFUSED), an_object("job-2")) as poller:
        await poller.poll()
        poller.queue.put("job-2", due=NOW + 3_600.0, now=NOW)
        request = await poller.next_request()
        (seen,) = await request.send(no_known_jobs)

    assert isinstance(seen.result, Job)


async def test_probe_after_a_403_polls_another_job():
    """A 403 is probed with another job at once, so that one forbidden job delays no other."""
    async with polling(responds(403, REFUSED), an_object("job-2")) as poller:
        seen = await poller.poll()
        poller.queue.put("job-1", due=NOW + 900.0, now=NOW, is_deferred=True)
        job = await poller.poll("job-2")

    assert isinstance(seen, Unauthorized)
    assert isinstance(job, Job)
    assert anyio.current_time() < 1.0


# A job that is too large.


async def test_large_job_is_polled_by_its_status():
    """A job whose object is over the cap is polled by its status, so that its end is seen."""
    async with polling(TOO_LARGE, a_status("SUCCEEDED")) as poller:
        job = await poller.poll()

    assert isinstance(job, Job)
    assert job.status is JobStatus.SUCCEEDED
    assert poller.paths == ["/v1/jobs/job-1", "/v1/job-status/job-1"]


async def test_large_job_is_not_read_twice():
    """A job that was too large once is polled by its status alone from then on."""
    async with polling(TOO_LARGE, a_status("RUNNING")) as poller:
        for _ in range(3):
            await poller.poll()

    assert poller.paths == ["/v1/jobs/job-1", *["/v1/job-status/job-1"] * 3]


async def test_large_job_is_read_again_at_its_end():
    """At its end the whole object is requested again: it may fit now, with the cost."""
    handlers = [TOO_LARGE, a_status("SUCCEEDED"), an_object(status="SUCCEEDED")]
    async with polling(*handlers) as poller:
        await poller.poll()
        await poller.poll(is_single=True)

    assert poller.paths == ["/v1/jobs/job-1", "/v1/job-status/job-1", "/v1/jobs/job-1"]


async def test_large_job_is_polled_by_a_page_without_a_status_endpoint():
    """Where the API has no status alone, a page of the list shows the job."""
    unknown = responds(404, b'{"message": "Not Found"}')
    async with polling(TOO_LARGE, unknown, a_page("other", "job-1")) as poller:
        seen = [await poller.poll() for _ in range(3)]

    assert [type(result) for result in seen] == [Transient, Job, Job]
    assert poller.paths[2:] == ["/v1/list-jobs?limit=100", "/v1/list-jobs?limit=7"]


async def test_large_job_that_a_page_shows_is_polled_by_that_page():
    """A page that shows a large job with all its fields is better than its status alone."""
    both = a_page("job-1", "job-2")
    handlers = [an_object("job-2"), both, TOO_LARGE, a_status("RUNNING"), both]
    async with polling(*handlers) as poller:
        await poller.poll("job-2")
        await poller.poll("job-1")
        await poller.poll("job-1", is_single=True)
        await poller.poll("job-1")

    pages = ["/v1/list-jobs?limit=100", "/v1/list-jobs?limit=6"]
    job = ["/v1/jobs/job-1", "/v1/job-status/job-1"]
    assert poller.paths == ["/v1/jobs/job-2", pages[0], *job, pages[1]]


async def test_large_job_is_logged_once(capsys):
    """A job that is too large is worth one warning."""
    async with polling(TOO_LARGE, a_status("RUNNING")) as poller:
        for _ in range(3):
            await poller.poll()

    assert capsys.readouterr().out.count("job.too_large") == 1


async def test_large_job_is_forgotten_when_it_is_polled_no_more():
    """A job that is named again is requested whole at first."""
    async with polling(TOO_LARGE, a_status("RUNNING"), an_object("job-1")) as poller:
        await poller.poll()
        poller.source.forget(["job-1"])
        await poller.poll()

    assert poller.paths[2:] == ["/v1/jobs/job-1"]


async def test_second_request_takes_its_own_token():
    """The request for the status keeps the rate limit like any other."""
    async with polling(TOO_LARGE, a_status("RUNNING"), per_minute=6.0) as poller:
        await poller.poll()

    assert anyio.current_time() == pytest.approx(10.0)


async def test_large_response_opens_the_gate():
    """A job that is too large is a response of the API: a closed gate opens."""
    async with polling(responds(401, REFUSED), TOO_LARGE, a_status("RUNNING")) as poller:
        await poller.poll()
        job = await poller.poll()

    assert isinstance(job, Job)
    assert not poller.source.is_gated
    assert anyio.current_time() == pytest.approx(15.0, abs=0.5)


async def test_status_that_is_too_large_is_a_failure():
    """A status that is itself too large is a failure like any other."""
    async with polling(TOO_LARGE) as poller:
        seen = await poller.poll()

    assert type(seen) is ResponseTooLarge
    assert len(poller.paths) == 2


async def test_malformed_status_of_a_large_job_is_retried():
    """A status that cannot be decoded is no observation of the job, and is requested again."""
    async with polling(TOO_LARGE, responds(200, b"{}"), a_status("FAILED")) as poller:
        seen = await poller.poll()
        job = await poller.poll()

    assert type(seen) is MalformedResponse
    assert isinstance(job, Job)
    assert job.status is JobStatus.FAILED


@pytest.mark.parametrize("handler", [TOO_LARGE, responds(200, b" " * 100), responds(500), sends()])
async def test_error_holds_no_response(handler: ConnectionHandler):
    """An error that waits to be logged keeps no frame, and so no body of megabytes, alive."""
    async with polling(handler) as poller:
        error = await poller.poll()

    assert isinstance(error, PollError)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


@pytest.mark.virtual(limit=60.0)
async def test_large_jobs_hold_no_body_during_the_status_request():
    """Ten jobs whose status is slow to come after a body over the cap hold none of these bodies."""
    handlers = [TOO_LARGE] * 10 + [stalls()]
    async with (
        polling(*handlers, per_minute=60_000.0) as poller,
        anyio.create_task_group() as group,
    ):
        tracemalloc.start()
        for number in range(10):
            poller.due(f"job-{number}")
            request = await poller.source.plan(poller.queue)
            assert request is not None
            poller.queue.take(request.job_ids)
            group.start_soon(request.send, no_known_jobs)
            await anyio.sleep(1.0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert held < 4_000_000


# The list.


class Book:
    """A client whose list has three pages; `turned` is called before each is returned."""

    clock_skew = 0.0

    def __init__(self, turned: Callable[[str | None], None]) -> None:
        self.turned = turned

    async def list_jobs(self, *, limit: int, cursor: str | None = None, known: object) -> JobPage:
        """Return a page of some of the 250 jobs."""
        self.turned(cursor)
        begin = int(cursor or 0)
        end = min(begin + limit, 250)
        jobs = tuple(a_job(job_id=f"job-{number}") for number in range(begin, end))
        return JobPage(jobs, str(end) if end < 250 else None)


async def test_scan_that_is_cut_short_starts_again():
    """When the list is forgotten while a scan goes deeper, the rest is not known yet."""
    planner = ListPlanner(lambda: NOW)
    cuts = ["100"]

    def cut(cursor: str | None) -> None:
        if cursor in cuts:
            cuts.remove(cursor)
            planner.fail(planner.first(), Rejected("no such cursor"))

    rate_limiter = RateLimiter(per_minute=1e6, now=virtual_clock().steady, random=lambda: 0.5)
    source = SutroSource(
        Book(cut), rate_limiter, planner=planner, now=lambda: NOW, renew_key=checkpoint
    )
    shown = [[it.job_id for seen in await scan_all(source) for it in seen] for _ in range(2)]

    assert [len(it) for it in shown] == [200, 250]


async def scan_all(source: SutroSource) -> list[Sequence[Observation]]:
    """Scan the whole list."""
    return [seen async for seen in source.scan(START - timedelta(days=900))]
