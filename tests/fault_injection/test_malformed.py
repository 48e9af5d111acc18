"""Malformed answers, each as the first, a middle and the last of a job's life, in virtual time."""

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from poller.core.errors import PollError
from tests.fault_injection.broken_transports import LARGE, SLOW, STATUSES
from tests.fault_injection.malformed import (
    CLASSES,
    POSITIONS,
    Api,
    Life,
    Turn,
    mixed,
    objects,
    speaking,
)
from tests.fault_injection.rig import SCALE, tally
from tests.fault_injection.world import World
from tests.support.builders import a_job_object
from tests.support.client_polls import client
from tests.support.http_peers import answers, peer
from tests.support.run_checker import examine
from tests.support.running_app import an_app, living, served
from tests.support.secret_canaries import KEY, SECRET
from tests.support.virtual_time import START

pytestmark = [pytest.mark.anyio, pytest.mark.virtual(limit=1e9)]

PROMISE = "a malformed response never changes a job's state, and the next good one counts"
SHARDS = 4
INTERVAL = 5.0
SETTLE = 30.0
PATIENCE = 240.0
"""Virtual seconds in which a life with one malformed answer is over."""

PACE = {
    "POLLER_LIST_PAGES": "off",
    "POLLER_MIN_INTERVAL": str(INTERVAL),
    "POLLER_MAX_INTERVAL": str(INTERVAL),
    "POLLER_REQUESTS_PER_MINUTE": "60000",
    "SUTRO_API_KEY": KEY,
    "POLLER_WEBHOOK_SECRET": SECRET,
    "POLLER_WEBHOOK_EVENTS": "*",
}


def healthy(job_id: str) -> Life:
    """Give a life of good answers that lasts as long as what is tried beside it."""
    queued, running, ended = objects(job_id)
    return Life(job_id, [*[Turn(queued)] * 3, *[Turn(running)] * 6, Turn(ended)])


@dataclass
class Run:
    """One life of the daemon among these jobs, and what was wrong with it."""

    lives: list[Life]
    patience: float = PATIENCE
    page: Any = None
    violations: list[str] = field(default_factory=list)

    async def through(self) -> list[str]:
        """Live until all is told and a while more; name every violation."""
        start = START.timestamp() - anyio.current_time()
        world = World(lambda: start + anyio.current_time(), SCALE.random("unused"))
        api = Api({it.job_id: it for it in self.lives}, world.now, self.page)
        with capture_logs() as lines:
            async with speaking(api), served(world.take) as hook:
                variables = PACE | {"POLLER_JOB_IDS": ",".join(api.lives)}
                variables |= {"POLLER_LIST_PAGES": "auto"} if self.page else {}
                async with living(an_app(api.base, hook, **variables)):
                    await self._wait(world)
                    await anyio.sleep(30.0)
        self._judge(world, api)
        self.violations += [f"bug: {it}" for it in lines if "exc_info" in it]
        return self.violations

    async def _wait(self, world: World) -> None:
        owed = set().union(*(it.owed for it in self.lives))
        with anyio.move_on_after(self.patience):
            while owed - {(it.job_id, it.type) for it in world.arrivals}:  # noqa: ASYNC110
                await anyio.sleep(1.0)

    def _judge(self, world: World, api: Api) -> None:
        owed = set().union(*(it.owed for it in self.lives))
        self.violations += examine(api.shown, world.arrivals).violations
        self.violations += [f"never told: {it}" for it in owed - {*_facts(world)}]
        self.violations += [f"followed: {it}" for it in api.followed]
        self.violations += [f"trouble: {it!r}" for it in world.troubles]
        self.violations += [f"late: {it}" for it in self._late(world, api)]
        looks = sum(len(it.asked) for it in self.lives)
        self.violations += [f"{api.listed} pages"] if api.listed > looks else []
        self.violations += [f"disturbed: {it}" for it in self._disturbed()]

    def _late(self, world: World, api: Api) -> list[str]:
        """Name what was told later than at once, or than an end without its cost has to wait."""
        shown = {(it.job_id, it.type): it.at for it in reversed(api.shown)}
        slow = api.curt | {it.job_id for it in self.lives if it.turns[-1].of}
        return [
            f"{it.type} of {it.job_id} by {lag:.1f} s"
            for it in world.arrivals
            if (lag := it.at - shown.get((it.job_id, it.type), it.at))
            > (SETTLE + 1.0 if it.job_id in slow else 1.0)
        ]

    def _disturbed(self) -> list[str]:
        """Name each healthy job that was not looked at for longer than its interval.

        A page that fails may have been its look: it is backed off as a GET that fails is.
        """
        longest = INTERVAL * (2.2 if self.page else 1.2)
        return [
            f"{it.job_id} for {after - before:.1f} s"
            for it in self.lives
            if it.job_id.startswith("a-")
            for before, after in zip(it.asked, it.asked[1:], strict=False)
            if after - before > longest
        ]


def _facts(world: World) -> list[tuple[str, str]]:
    return [(it.job_id, it.type) for it in world.arrivals]


@pytest.fixture(autouse=True)
def _quiet():
    """Let no other test's setting of the log drop what is captured here."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_there_are_all_classes():
    """At least 64 classes are tried, each under a name of its own."""
    assert len({it.name for it in CLASSES}) == len(CLASSES) >= 64


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_malformed_answers_are_no_state(shard: int):
    """A class in any place of a life brings no event of its own, and takes none away."""
    violations = []
    classes = CLASSES[shard::SHARDS]
    for of in classes:
        lives = [life(f"b-{name}", of) for name, life in POSITIONS.items()]
        found = await Run([healthy("a-healthy"), *lives]).through()
        violations += [f"{of.name}: {it}" for it in found]

    tally(PROMISE, cases=len(classes) * len(POSITIONS), violations=violations)


async def test_malformed_answers_in_any_mixture():
    """However many malformed answers lie between good ones, only the good ones count."""
    random, violations = SCALE.random("mixed"), []
    lost = [it for it in CLASSES if not it.tells]
    runs = SCALE.cases(2, 200)
    for number in range(runs):
        lives = [
            mixed(f"b-{one}", [random.choices(lost, k=random.randrange(4)) for _ in range(3)])
            for one in range(8)
        ]
        found = await Run([healthy("a-healthy"), *lives], patience=1_800.0).through()
        names = [[it.of.name for it in life.turns if it.of] for life in lives]
        violations += [f"{number}: {it} of {names}" for it in found]

    tally(PROMISE, cases=8 * runs, violations=violations)


async def test_what_tells_nothing_tells_nothing_for_long():
    """A job of which only malformed answers come for many minutes is neither ended nor missing."""
    quick = [it for it in CLASSES if not it.tells and it.name not in (*SLOW, *LARGE, *STATUSES)]
    some = SCALE.random("lasting").sample(quick, SCALE.cases(20, len(quick)))
    lasting = [it for it in CLASSES if it.name in STATUSES] + some
    # A 404 that was believed would be asked for at the usual pace, without any backing off.
    often = [[of] * (80 if "404" in of.name else 14) for of in lasting]
    lives = [mixed(f"b-{it}", [[], [], many]) for it, many in enumerate(often)]

    found = await Run([healthy("a-healthy"), *lives], patience=7_200.0).through()

    tally(PROMISE, cases=len(lives), violations=found)


async def test_cancelling_is_no_end():
    """A job that shows CANCELLING for minutes may yet succeed: only its end is told."""
    queued, running, ended = objects("b-life")
    cancelling = Turn(running | {"status": "CANCELLING"})
    life = Life("b-life", [Turn(queued), Turn(running), *[cancelling] * 30, Turn(ended)])

    violations = await Run([life]).through()

    tally(PROMISE, cases=1, violations=violations)


# Pages.

ONE = a_job_object(job_id="job-1")
PAGES = {
    "a cursor that repeats for ever": ({"jobs": [ONE], "next_cursor": "same"}, 1, "same"),
    "a job twice, with two statuses": ({"jobs": [ONE, ONE | {"status": "FAILED"}]}, 2, None),
    "more than was asked for": ({"jobs": [ONE] * 500}, 500, None),
    "a cursor that is a number": ({"jobs": [ONE], "next_cursor": 5}, 1, None),
    "a cursor that is a list": ({"jobs": [ONE], "next_cursor": ["x"]}, 1, None),
    "a cursor of 1 MB": ({"jobs": [], "next_cursor": "x" * 1_000_000}, 0, "x" * 1_000_000),
    "a cursor and no jobs": ({"jobs": None, "next_cursor": "more"}, None, None),
    "jobs by their ids": ({"jobs": {"job-1": ONE}}, None, None),
    "jobs that are none": ({"jobs": [None, 5, "job-1", [ONE], {}, ONE]}, 1, None),
    "countless jobs": ({"jobs": [0] * 300_000}, None, None),
    "a job and no list": ({"job": ONE}, None, None),
}


async def test_malformed_pages_tell_nothing_of_others():
    """Whatever the list is, jobs that it does not show keep their pace, and it is asked seldom."""
    violations = []
    for name, (page, _, _) in PAGES.items():
        run = Run([healthy(f"a-{number}") for number in range(3)], page=page)
        violations += [f"{name}: {it}" for it in await run.through()]

    tally(PROMISE, cases=len(PAGES), violations=violations)


@pytest.mark.parametrize("name", PAGES)
async def test_malformed_pages(name: str):
    """A page is what can be read of it, under any cursor, or an error that is foreseen."""
    body, count, following = PAGES[name]
    async with peer(answers(200, json.dumps(body).encode())) as it, client(it.base) as api:
        for cursor in (None, "same"):
            try:
                page = await api.list_jobs(limit=1, cursor=cursor)
            except PollError:
                assert count is None
            else:
                assert (len(page.jobs), page.next_cursor) == (count, following)

    tally(PROMISE, cases=1)
