"""Malformed responses as the first, a middle and the last one of a job, in virtual time."""

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from poller.core.errors import PollError
from tests.fault_injection.broken_transports import LARGE, SLOW, STATUSES
from tests.fault_injection.fake_servers import FakeServers
from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.malformed import (
    CLASSES,
    POSITIONS,
    JobResponse,
    JobResponses,
    MalformedApi,
    job_objects,
    mixed,
    serving_api,
)
from tests.support.builders import a_job_object
from tests.support.client_polls import client
from tests.support.http_peers import peer, responds
from tests.support.run_checker import check_run
from tests.support.running_app import an_app, running_app, served
from tests.support.secret_canaries import KEY, SECRET
from tests.support.virtual_time import START

pytestmark = [pytest.mark.anyio, pytest.mark.virtual(limit=1e9)]

PROMISE = "a malformed response never changes a job's state, and the next good one counts"
SHARDS = 4
INTERVAL = 5.0
SETTLE = 30.0
LONGEST_RUN = 240.0
"""Virtual seconds in which a job with one malformed response ends."""

PACE = {
    "POLLER_LIST_PAGES": "off",
    "POLLER_MIN_INTERVAL": str(INTERVAL),
    "POLLER_MAX_INTERVAL": str(INTERVAL),
    "POLLER_REQUESTS_PER_MINUTE": "60000",
    "SUTRO_API_KEY": KEY,
    "POLLER_WEBHOOK_SECRET": SECRET,
    "POLLER_WEBHOOK_EVENTS": "*",
}


def healthy_job(job_id: str) -> JobResponses:
    """Return good responses of a job that runs as long as those beside it."""
    queued, running, ended = job_objects(job_id)
    return JobResponses(
        job_id, [*[JobResponse(queued)] * 3, *[JobResponse(running)] * 6, JobResponse(ended)]
    )


@dataclass
class Run:
    """One run of the daemon with these jobs, and what was wrong with it."""

    jobs: list[JobResponses]
    patience: float = LONGEST_RUN
    page: Any = None
    violations: list[str] = field(default_factory=list)

    async def run(self) -> list[str]:
        """Run until all events have come and a while longer; return the violations."""
        start = START.timestamp() - anyio.current_time()
        servers = FakeServers(lambda: start + anyio.current_time(), SCALE.random("unused"))
        api = MalformedApi({job.job_id: job for job in self.jobs}, servers.now, self.page)
        with capture_logs() as lines:
            async with serving_api(api), served(servers.handle_event) as hook:
                variables = PACE | {"POLLER_JOB_IDS": ",".join(api.jobs)}
                variables |= {"POLLER_LIST_PAGES": "auto"} if self.page else {}
                async with running_app(an_app(api.base, hook, **variables)):
                    await self._wait(servers)
                    await anyio.sleep(30.0)
        self._check(servers, api)
        self.violations += [f"bug: {line}" for line in lines if "exc_info" in line]
        return self.violations

    async def _wait(self, servers: FakeServers) -> None:
        expected_events = set().union(*(job.expected_events for job in self.jobs))
        with anyio.move_on_after(self.patience):
            while expected_events - {(event.job_id, event.type) for event in servers.received}:  # noqa: ASYNC110
                await anyio.sleep(1.0)

    def _check(self, servers: FakeServers, api: MalformedApi) -> None:
        expected_events = set().union(*(job.expected_events for job in self.jobs))
        self.violations += check_run(api.expected, servers.received).violations
        self.violations += [
            f"never reported: {event}" for event in expected_events - {*_events(servers)}
        ]
        self.violations += [f"followed: {path}" for path in api.redirected]
        self.violations += [f"trouble: {error!r}" for error in servers.errors]
        self.violations += [f"late: {line}" for line in self._late(servers, api)]
        polls = sum(len(job.polled_at) for job in self.jobs)
        self.violations += [f"{api.listed} pages"] if api.listed > polls else []
        self.violations += [f"disturbed: {line}" for line in self._polled_late()]

    def _late(self, servers: FakeServers, api: MalformedApi) -> list[str]:
        """Return the events that came late, allowing for the wait for a cost."""
        expected = {(event.job_id, event.type): event.at for event in reversed(api.expected)}
        slow = api.status_only | {job.job_id for job in self.jobs if job.responses[-1].malformed}
        return [
            f"{event.type} of {event.job_id} by {lag:.1f} s"
            for event in servers.received
            if (lag := event.at - expected.get((event.job_id, event.type), event.at))
            > (SETTLE + 1.0 if event.job_id in slow else 1.0)
        ]

    def _polled_late(self) -> list[str]:
        """Return the healthy jobs that were not polled within their interval.

        A failed page may have been the poll of a job: it is retried as a failed GET is.
        """
        longest = INTERVAL * (2.2 if self.page else 1.2)
        return [
            f"{job.job_id} for {after - before:.1f} s"
            for job in self.jobs
            if job.job_id.startswith("a-")
            for before, after in zip(job.polled_at, job.polled_at[1:], strict=False)
            if after - before > longest
        ]


def _events(servers: FakeServers) -> list[tuple[str, str]]:
    return [(event.job_id, event.type) for event in servers.received]


@pytest.fixture(autouse=True)
def _quiet():
    """Reset the log, so that what is captured here is not dropped by an earlier setting."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_malformed_classes_are_complete():
    """At least 64 classes are tested, each with its own name."""
    assert len({malformed.name for malformed in CLASSES}) == len(CLASSES) >= 64


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_malformed_responses_change_no_state(shard: int):
    """A malformed response anywhere causes no event, and prevents none."""
    violations = []
    classes = CLASSES[shard::SHARDS]
    for malformed in classes:
        jobs = [job(f"b-{name}", malformed) for name, job in POSITIONS.items()]
        found = await Run([healthy_job("a-healthy"), *jobs]).run()
        violations += [f"{malformed.name}: {line}" for line in found]

    tally(PROMISE, cases=len(classes) * len(POSITIONS), violations=violations)


async def test_malformed_responses_in_any_mixture():
    """Among any number of malformed responses, only the good ones count."""
    random, violations = SCALE.random("mixed"), []
    unusable = [malformed for malformed in CLASSES if not malformed.is_usable]
    runs = SCALE.cases(2, 200)
    for number in range(runs):
        jobs = [
            mixed(f"b-{one}", [random.choices(unusable, k=random.randrange(4)) for _ in range(3)])
            for one in range(8)
        ]
        found = await Run([healthy_job("a-healthy"), *jobs], patience=1_800.0).run()
        names = [
            [response.malformed.name for response in job.responses if response.malformed]
            for job in jobs
        ]
        violations += [f"{number}: {line} of {names}" for line in found]

    tally(PROMISE, cases=8 * runs, violations=violations)


async def test_malformed_responses_for_a_long_time_change_nothing():
    """A job that has only malformed responses for many minutes is neither ended nor missing."""
    quick = [
        malformed
        for malformed in CLASSES
        if not malformed.is_usable and malformed.name not in (*SLOW, *LARGE, *STATUSES)
    ]
    some = SCALE.random("lasting").sample(quick, SCALE.cases(20, len(quick)))
    lasting = [malformed for malformed in CLASSES if malformed.name in STATUSES] + some
    # A 404 that was trusted would be polled at the usual interval, without backoff.
    often = [[malformed] * (80 if "404" in malformed.name else 14) for malformed in lasting]
    jobs = [mixed(f"b-{number}", [[], [], many]) for number, many in enumerate(often)]

    found = await Run([healthy_job("a-healthy"), *jobs], patience=7_200.0).run()

    tally(PROMISE, cases=len(jobs), violations=found)


async def test_cancelling_is_no_end():
    """CANCELLING for minutes is no end: the job may yet succeed."""
    queued, running, ended = job_objects("b-cancelling")
    cancelling = JobResponse(running | {"status": "CANCELLING"})
    job = JobResponses(
        "b-cancelling",
        [JobResponse(queued), JobResponse(running), *[cancelling] * 30, JobResponse(ended)],
    )

    violations = await Run([job]).run()

    tally(PROMISE, cases=1, violations=violations)


# Pages.

ONE = a_job_object(job_id="job-1")
PAGES = {
    "a cursor that repeats for ever": ({"jobs": [ONE], "next_cursor": "same"}, 1, "same"),
    "a job twice, with two statuses": ({"jobs": [ONE, ONE | {"status": "FAILED"}]}, 2, None),
    "more than was requested": ({"jobs": [ONE] * 500}, 500, None),
    "a cursor that is a number": ({"jobs": [ONE], "next_cursor": 5}, 1, None),
    "a cursor that is a list": ({"jobs": [ONE], "next_cursor": ["x"]}, 1, None),
    "a cursor of 1 MB": ({"jobs": [], "next_cursor": "x" * 1_000_000}, 0, "x" * 1_000_000),
    "a cursor and no jobs": ({"jobs": None, "next_cursor": "more"}, None, None),
    "jobs by their ids": ({"jobs": {"job-1": ONE}}, None, None),
    "jobs that are none": ({"jobs": [None, 5, "job-1", [ONE], {}, ONE]}, 1, None),
    "countless jobs": ({"jobs": [0] * 300_000}, None, None),
    "a job and no list": ({"job": ONE}, None, None),
}


async def test_malformed_pages_do_not_delay_other_jobs():
    """With any list, jobs that it does not show keep their interval, and it is requested seldom."""
    violations = []
    for name, (page, _, _) in PAGES.items():
        run = Run([healthy_job(f"a-{number}") for number in range(3)], page=page)
        violations += [f"{name}: {line}" for line in await run.run()]

    tally(PROMISE, cases=len(PAGES), violations=violations)


@pytest.mark.parametrize("name", PAGES)
async def test_malformed_pages(name: str):
    """A page is what can be parsed of it, with any cursor, or a PollError."""
    body, count, following = PAGES[name]
    async with peer(responds(200, json.dumps(body).encode())) as server, client(server.base) as api:
        for cursor in (None, "same"):
            try:
                page = await api.list_jobs(limit=1, cursor=cursor)
            except PollError:
                assert count is None
            else:
                assert (len(page.jobs), page.next_cursor) == (count, following)

    tally(PROMISE, cases=1)
