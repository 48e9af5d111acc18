"""A wait ends when its terms are met, or when there is no hope of that."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import pytest
from anyio.lowlevel import checkpoint

from poller.core.errors import (
    Intercepted,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.jobs import Job
from poller.core.pacing import PollPolicy
from poller.core.state import JobEventType, LifecyclePolicy
from poller.polling.waiter import JobResult, JobWaiter, WaitOptions, find_latest
from poller.sutro import list_planner as listing
from poller.sutro.client import JobPage
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import UNLIKELY_ID, SutroSource
from tests.support.builders import a_job
from tests.support.fakes import ORIGIN, FakeApi, a_store, ended, half, running
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=20_000.0)
UNKNOWN = NotFound("404")


@dataclass
class Watching:
    """An onlooker that keeps what it is told, and every status that it is shown of each job."""

    told: list[str] = field(default_factory=list)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def report(self, text: str) -> None:
        """Keep a line."""
        self.told.append(text)

    def update(self, results: Sequence[JobResult]) -> None:
        """Keep each status that is new."""
        for it in results:
            seen = self.shown.setdefault(it.job_id, [])
            if it.job and seen[-1:] != [it.job.status]:
                seen.append(it.job.status)


def a_waiter(api: FakeApi, **changes: Any) -> JobWaiter:
    """Make a wait for jobs of a fake API."""
    clock = virtual_clock()
    rate_limiter = RateLimiter(per_minute=6_000.0, now=clock.steady, random=half)
    source = SutroSource(
        api,
        rate_limiter,
        planner=listing.ListPlanner(clock.steady, is_on=False),
        now=clock.steady,
        renew_key=checkpoint,
    )
    options = {"listener": Watching(), "random": half} | changes
    return JobWaiter(source=source, store=a_store(), origin=ORIGIN, clock=clock, **options)


async def waited(api: FakeApi, *job_ids: str, **changes: Any) -> tuple[dict[str, Any], float]:
    """Wait for jobs; give the end of each, and how long it took."""
    waiter = a_waiter(api, **changes)
    await waiter.run(job_ids)
    return {it.job_id: it.end for it in waiter.results}, anyio.current_time()


def at(seconds: float, before: Any, after: Any) -> Any:
    """Give an answer that changes at a moment; either may itself be such an answer."""

    def answer() -> Any:
        now = before if anyio.current_time() < seconds else after
        return now() if callable(now) else now

    return answer


# When it is over.


async def test_it_waits_for_all():
    """Without terms the last end ends the wait."""
    api = FakeApi(job_1=ended(), job_2=at(100.0, running("job-2"), ended("job-2", "FAILED")))

    ends, seconds = await waited(api, "job-1", "job-2")

    assert ends == {"job-1": JobEventType.SUCCEEDED, "job-2": JobEventType.FAILED}
    assert 100.0 <= seconds <= 115.0


async def test_any_end_is_enough():
    """With `is_any` the first end ends the wait."""
    api = FakeApi(job_1=running(), job_2=at(50.0, running("job-2"), ended("job-2", "CANCELLED")))

    ends, seconds = await waited(api, "job-1", "job-2", options=WaitOptions(is_any=True))

    assert ends == {"job-1": None, "job-2": JobEventType.CANCELLED}
    assert 50.0 <= seconds <= 65.0


@pytest.mark.parametrize("bad", [ended("job-2", "FAILED"), ended("job-2", "CANCELLED"), UNKNOWN])
async def test_the_first_bad_end_is_enough(bad):
    """With `is_fail_fast` a job that fails, is cancelled or is missing ends the wait."""
    api = FakeApi(job_1=running(), job_2=bad, job_3=ended("job-3"))

    ends, seconds = await waited(
        api, "job-1", "job-2", "job-3", options=WaitOptions(is_fail_fast=True)
    )

    assert ends["job-1"] is None
    assert ends["job-2"] in {JobEventType.FAILED, JobEventType.CANCELLED, JobEventType.MISSING}
    assert seconds <= 75.0


async def test_success_is_not_fast():
    """With `is_fail_fast` a job that succeeds does not end the wait for the others."""
    api = FakeApi(job_1=ended(), job_2=at(50.0, running("job-2"), ended("job-2")))

    ends, _ = await waited(api, "job-1", "job-2", options=WaitOptions(is_fail_fast=True))

    assert set(ends.values()) == {JobEventType.SUCCEEDED}


async def test_it_waits_for_the_cost():
    """A job that succeeded has ended when its cost is there."""
    api = FakeApi(job_1=at(12.0, ended(job_cost=None), ended()))
    waiter = a_waiter(api)

    await waiter.run(["job-1"])

    assert 12.0 <= anyio.current_time() <= 16.0
    assert waiter.results[0].job.job_cost == 0.5


async def test_it_does_not_wait_for_a_cost_that_never_comes():
    """After `settle_timeout` a job has ended without its cost."""
    _, seconds = await waited(FakeApi(job_1=ended(job_cost=None)), "job-1")

    assert seconds == pytest.approx(30.0)


async def test_every_status_is_shown():
    """The onlooker sees each status that was seen, and the end."""
    listener = Watching()
    api = FakeApi(job_1=at(20.0, a_job("QUEUED"), at(40.0, running(), ended())))

    await waited(api, "job-1", listener=listener)

    assert listener.shown == {"job-1": ["QUEUED", "RUNNING", "SUCCEEDED"]}
    assert listener.told == []


# Jobs that are not there.


async def test_wrong_ids_are_missing_after_a_minute():
    """Three unknown ids are missing, each warned of at its first 404: the URL is not suspected."""
    listener, ids = Watching(), ["job-7", "job-8", "job-9"]

    ends, seconds = await waited(FakeApi(), *ids, listener=listener)

    assert set(ends.values()) == {JobEventType.MISSING}
    assert 60.0 <= seconds <= 75.0
    assert sorted(listener.told) == [
        f"{job_id}: no such job (404); missing if that lasts 60 s" for job_id in ids
    ]


async def test_the_grace_can_be_shorter():
    """POLLER_NOT_FOUND_GRACE shortens the minute."""
    policy, rules = PollPolicy(minimum=1.0, maximum=1.0), LifecyclePolicy(not_found_grace=10.0)

    _, seconds = await waited(FakeApi(), "job-9", policy=policy, rules=rules)

    assert seconds == pytest.approx(10.0)


async def test_a_job_that_shows_late_is_waited_for():
    """A 404 within the grace is no end."""
    ends, _ = await waited(FakeApi(job_1=at(45.0, UNKNOWN, ended())), "job-1")

    assert ends == {"job-1": JobEventType.SUCCEEDED}


# What stands in the way.


async def test_a_wrong_key_ends_it_at_once():
    """A 401 before anything was answered is told after one request."""
    api = FakeApi()
    api.trouble = Unauthorized("401", status=401)

    with pytest.raises(Unauthorized):
        await waited(api, "job-1", "job-2")

    assert len(api.asked) == 1


async def test_a_key_that_may_not_read_ends_it():
    """A 403 for two jobs, and for one that does not exist, is about the key."""
    api = FakeApi()
    api.trouble = Unauthorized("403", status=403)

    with pytest.raises(Unauthorized):
        await waited(api, "job-1", "job-2")

    polled = [job_id for _, job_id in api.asked]
    assert sorted(polled[:2]) == ["job-1", "job-2"]
    assert polled[2:] == [UNLIKELY_ID]


async def test_a_page_of_a_proxy_is_waited_for():
    """The page of a proxy is reported, and however long it comes it is not about the key."""
    listener = Watching()
    page = Intercepted("a proxy or firewall, not the API, rejected the request (403)")
    api = FakeApi(job_1=at(4_000.0, page, ended()))

    ends, seconds = await waited(api, "job-1", listener=listener)

    assert ends == {"job-1": JobEventType.SUCCEEDED}
    assert 4_000.0 <= seconds <= 5_000.0
    assert all(line.startswith(f"{page}; retrying") for line in listener.told)
    assert len(api.asked) <= 12


async def test_a_page_of_a_proxy_is_no_response():
    """With `unreachable_after` a proxy that lets nothing through is an outage."""
    with pytest.raises(Transient, match=r"^no response for 60 s: a page$"):
        await waited(
            FakeApi(job_1=Intercepted("a page")),
            "job-1",
            options=WaitOptions(unreachable_after=60.0),
        )


async def test_one_forbidden_job_does_not_end_it():
    """A 403 for one job while another is answered leaves hope."""
    api = FakeApi(job_1=Unauthorized("403", status=403), job_2=ended("job-2"))

    ends, _ = await waited(api, "job-1", "job-2", options=WaitOptions(is_any=True))

    assert ends["job-2"] is JobEventType.SUCCEEDED


async def test_a_passing_refusal_does_not_end_it():
    """A 401 after good answers is tried again before it counts."""
    refusal = at(30.0, Unauthorized("401", status=401), ended())
    api = FakeApi(job_1=at(20.0, running(), refusal))

    ends, _ = await waited(api, "job-1")

    assert ends == {"job-1": JobEventType.SUCCEEDED}


async def test_a_key_that_is_revoked_ends_it():
    """A 401 that comes again at the trial is about the key."""
    with pytest.raises(Unauthorized):
        await waited(FakeApi(job_1=at(20.0, running(), Unauthorized("401", status=401))), "job-1")

    assert anyio.current_time() <= 60.0


async def test_a_wrong_url_ends_it_at_once():
    """A foreign 404 before anything was answered is told after one request."""
    with pytest.raises(WrongEndpoint):
        await waited(FakeApi(job_1=WrongEndpoint("404")), "job-1")

    assert anyio.current_time() == 0.0


async def test_a_passing_wrong_answer_does_not_end_it():
    """A foreign 404 after good answers is tried again."""
    api = FakeApi(job_1=at(5.0, running(), at(30.0, WrongEndpoint("404"), ended())))

    ends, _ = await waited(api, "job-1")

    assert ends == {"job-1": JobEventType.SUCCEEDED}


async def test_an_outage_is_waited_for():
    """However long nothing is heard, it goes on; the same trouble is told ever more seldom.

    What to check is said from the first failure on, while nothing has ever been heard.
    """
    listener = Watching()
    api = FakeApi(job_1=at(10_000.0, Transient("reset"), ended()))

    ends, _ = await waited(api, "job-1", listener=listener)

    assert ends == {"job-1": JobEventType.SUCCEEDED}
    assert set(listener.told) == {"reset; retrying; if this lasts, check SUTRO_API_URL"}
    assert len(listener.told) <= 9


@pytest.mark.parametrize("began", [0.0, 300.0])
async def test_a_long_silence_ends_it(began: float):
    """With `unreachable_after` it gives up after so long without an answer, and says why."""
    api = FakeApi(job_1=at(began, running(), Transient("reset")))

    with pytest.raises(Transient, match=r"^no response for 60 s: reset$"):
        await waited(api, "job-1", options=WaitOptions(unreachable_after=60.0))

    assert began + 60.0 <= anyio.current_time() <= began + 80.0


async def test_one_failure_is_no_silence():
    """A job that is looked at seldom is asked for again in time."""
    slow = PollPolicy(minimum=2.0, maximum=300.0, factor=100.0)
    api = FakeApi(job_1=at(50.0, running(), ended()))
    usual = api.answers["job-1"]
    api.answers["job-1"] = lambda: Transient("reset") if len(api.asked) == 2 else usual()

    ends, _ = await waited(api, "job-1", policy=slow, options=WaitOptions(unreachable_after=60.0))

    assert ends == {"job-1": JobEventType.SUCCEEDED}


async def test_an_api_that_asks_for_a_pause_is_there():
    """A 429 is an answer: it ends no wait with `unreachable_after`."""
    api = FakeApi(job_1=at(200.0, RateLimited("429", retry_after=100.0), ended()))

    ends, _ = await waited(api, "job-1", options=WaitOptions(unreachable_after=30.0))

    assert ends == {"job-1": JobEventType.SUCCEEDED}


async def test_every_look_is_read_whole():
    """A job that goes on is read anew at every look: whoever waits sees its tokens grow."""
    api = FakeApi(job_1=at(60.0, running(), ended()))

    await waited(api, "job-1")

    assert len(api.known) > 3
    assert not any(api.known)


async def test_nothing_is_known_before_it_runs():
    """A wait that was stopped early has nothing to say of its jobs."""
    waiter = a_waiter(FakeApi())

    assert waiter.results == []


UNSEEN: Final = (
    "api.sutro.example: the name does not resolve",
    "127.0.0.1: cannot connect (Connection refused)",
    "its TLS certificate is not trusted",
    "no response within 30 s",
    "the API returned 503",
)


@pytest.mark.parametrize(
    "error", [*map(Transient, UNSEEN), MalformedResponse("the response is not JSON")], ids=str
)
async def test_every_way_not_to_reach_the_api_is_a_silence(error: PollError):
    """`unreachable_after` counts for each, and the first line names SUTRO_API_URL."""
    listener = Watching()

    with pytest.raises(Transient, match=r"^no response for 60 s: "):
        await waited(
            FakeApi(job_1=error),
            "job-1",
            listener=listener,
            options=WaitOptions(unreachable_after=60.0),
        )

    assert anyio.current_time() <= 80.0
    assert listener.told[0] == f"{error}; retrying; if this lasts, check SUTRO_API_URL"


async def test_advice_is_given_once():
    """An error that already names SUTRO_API_URL is not followed by the same advice."""
    listener = Watching()
    refused = Transient("127.0.0.1:1: cannot connect (Connection refused); check SUTRO_API_URL")

    await waited(FakeApi(job_1=at(10.0, refused, ended())), "job-1", listener=listener)

    assert set(listener.told) == {f"{refused}; retrying"}


async def test_a_silence_after_answers_needs_no_hint():
    """Once the API has answered, its URL is right."""
    listener = Watching()
    api = FakeApi(job_1=at(50.0, running(), at(100.0, Transient("reset"), ended())))

    await waited(api, "job-1", listener=listener)

    assert set(listener.told) == {"reset; retrying"}


REJECTED: Final = Rejected("the API rejects this request (422)")


@pytest.mark.parametrize("began", [0.0, 300.0])
async def test_a_rejected_job_ends_it(began: float):
    """A job that is rejected twice in a row ends the wait: its ID will hardly become right."""
    api = FakeApi(job_1=at(began, running(), REJECTED))

    with pytest.raises(Rejected, match=r"^job-1: the API rejects this request \(422\)$"):
        await waited(api, "job-1")

    assert began + 60.0 <= anyio.current_time() <= began + 80.0


async def test_one_rejection_is_odd():
    """A rejection between answers does not end the wait, however often that happens."""
    api = FakeApi()
    answers = [REJECTED, running(), REJECTED, running(), REJECTED, ended()]
    api.answers["job-1"] = lambda: answers.pop(0)

    ends, _ = await waited(api, "job-1")

    assert ends == {"job-1": JobEventType.SUCCEEDED}


async def test_a_rejected_job_does_not_end_the_wait_for_others():
    """The others are waited for; only then is the rejection the end."""
    api = FakeApi(job_1=REJECTED, job_2=at(5_000.0, running("job-2"), ended("job-2")))
    waiter = a_waiter(api)

    with pytest.raises(Rejected):
        await waiter.run(["job-1", "job-2"])

    assert anyio.current_time() >= 5_000.0
    assert [it.end for it in waiter.results] == [None, JobEventType.SUCCEEDED]


async def test_a_rejected_job_is_a_bad_end():
    """With `is_fail_fast` a rejected job ends the wait for the others too."""
    api = FakeApi(job_1=REJECTED, job_2=running("job-2"))

    with pytest.raises(Rejected):
        await waited(api, "job-1", "job-2", options=WaitOptions(is_fail_fast=True))

    assert anyio.current_time() <= 80.0


async def test_any_end_counts_beside_a_rejected_job():
    """With `is_any` the first end of another job is enough."""
    api = FakeApi(job_1=REJECTED, job_2=at(5_000.0, running("job-2"), ended("job-2")))

    ends, _ = await waited(api, "job-1", "job-2", options=WaitOptions(is_any=True))

    assert ends == {"job-1": None, "job-2": JobEventType.SUCCEEDED}


COMPLETED: Final = {"datetime_completed": "2024-01-15T10:01:40Z"}


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (a_job("EXPIRED", job_cost=0.5, **COMPLETED), 600.0),
        (a_job("EXPIRED", failure_reason={"message": "too old"}), 600.0),
        (a_job("EXPIRED"), 86_400.0),
        (running(**COMPLETED), 86_400.0),
    ],
    ids=["completed", "reason", "word", "running"],
)
@pytest.mark.virtual(limit=200_000.0)
async def test_a_status_that_nobody_foresaw_is_an_end(job: Job, seconds: float):
    """What is announced as unrecognised is over; the results have the API's own word."""
    waiter = a_waiter(FakeApi(job_1=job))

    await waiter.run(["job-1"])

    (result,) = waiter.results
    assert seconds <= anyio.current_time() <= seconds + 300.0
    assert result.end is JobEventType.UNRECOGNISED
    assert result.job.as_dict()["status"] == job.as_dict()["status"]


# The newest job.


class Listing:
    """An API of one verb, whose answers are given in turn."""

    def __init__(self, *answers: JobPage | PollError) -> None:
        self.answers = list(answers)

    async def list_jobs(self, *, limit: int, cursor: str | None = None) -> JobPage:
        """Give the next answer, the last one again and again."""
        assert (limit, cursor) == (1, None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, PollError):
            raise answer
        return answer


async def test_the_newest_job_is_found_through_trouble():
    """A failed request is repeated, and a pause that the API asks for is kept."""
    api = Listing(
        Transient("reset"),
        RateLimited("429", retry_after=90.0),
        JobPage((running("job-5"),), "more"),
    )
    listener = Watching()

    found = await find_latest(api, listener, WaitOptions())

    assert found == "job-5"
    assert 91.0 <= anyio.current_time() <= 92.0
    assert listener.told == [
        "reset; retrying; if this lasts, check SUTRO_API_URL",
        "429; retrying",
    ]


async def test_an_account_without_jobs_has_no_newest():
    """There is nothing to wait for, and the line says what to do."""
    with pytest.raises(NotFound, match="submit one first"):
        await find_latest(Listing(JobPage((), None)), Watching(), WaitOptions())


async def test_the_newest_job_is_not_looked_for_for_ever():
    """`unreachable_after` counts here too."""
    with pytest.raises(Transient, match=r"^no response for 60 s: reset$"):
        await find_latest(
            Listing(Transient("reset")), Watching(), WaitOptions(unreachable_after=60.0)
        )

    assert anyio.current_time() == pytest.approx(60.0)
