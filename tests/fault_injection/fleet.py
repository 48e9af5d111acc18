"""A fleet: jobs come, end, and are named or not, while the API, its list and the store fail.

Watcher, source, pages, budget, discovery and ledger are real. There are no sockets, so a case
replays from its seed exactly, given the same PYTHONHASHSEED.
"""

from collections.abc import Callable
from itertools import chain
from random import Random
from typing import Any, Final

import anyio

from poller.core.errors import PollError
from poller.core.events import Event
from poller.core.jobs import format_rfc3339
from poller.core.outbox import WriteBatch
from poller.core.pacing import PollPolicy
from poller.core.state import JobEventType
from poller.polling.discovery import STARTED_AT_FLAG, Discovery, DiscoveryFilter
from poller.polling.missing_guard import GUARD_JOBS
from poller.polling.watcher import Watcher
from poller.sutro.list_planner import ListPlanner
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.fault_injection.faulty_source import ERRORS, UNKNOWN, Course, ShakyApi, Trouble
from tests.fault_injection.job_stories import FATES
from tests.support.fakes import FailingStore, a_store, a_watcher, recorded
from tests.support.virtual_time import START, virtual_clock

ENDS: Final = {f"job.{ends_as}" for ends_as in FATES}
CALM: Final = 9 * 3_600.0
"""Seconds after which all have ended, and what was put off has had its turn."""


class Fleet:
    """Jobs under a daemon that is disturbed in every way until it grows calm."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.size = random.choice([1, 3, 8, 20])
        self.is_discovering = random.random() < 0.5
        self.policy = PollPolicy(
            minimum=random.choice([2.0, 20.0]), maximum=random.choice([60.0, 300.0, 900.0])
        )
        self.per_minute = random.choice([120.0, 600.0])
        self.api = ShakyApi(random)
        self.store = FailingStore(a_store())
        self.named: set[str] = set()
        self.troubled: set[str] = set()
        self.databases: list[list[Event]] = []
        self.life = anyio.CancelScope()
        self.watcher: Watcher | None = None
        self.discovery: Discovery | None = None

    async def run(self) -> None:
        """Live one life after the other while the fleet is disturbed, and then in calm."""
        await self._begin_store()
        async with anyio.create_task_group() as self.group:
            self.group.start_soon(self._live_on)
            while len(self.api.courses) < self.size or self.random.random() < 0.95:
                if self.random.random() < 0.5:
                    self._submit(self.random.choice([1, 3, 20]))
                await self.random.choice(DISTURBANCES)(self)
                await anyio.sleep(self.random.choice([1.0, 5.0, 30.0, 100.0, 600.0]))
            self.api.troubles, self.api.lag = {}, 0.0
            self.store.fails, self.store.lies = set(), set()
            await anyio.sleep(CALM)
            self.group.cancel_scope.cancel()
        self._keep_what_was_told()

    @property
    def violations(self) -> list[str]:
        """Name each end that was not told once, each second id, and each false `job.missing`."""
        ids: dict[tuple[str, str], set[str]] = {}
        for event in chain.from_iterable(self.databases):
            ids.setdefault((event.subject, event.type), set()).add(event.id)
        found = [
            f"{course} was told as {ends}"
            for course in self.api.courses.values()
            if (ends := [it for it in ENDS if (course.job_id, it) in ids]) != [course.end]
        ]
        found += [
            f"ids of {key}: {of}" for key, of in ids.items() if key[1] in ENDS and len(of) > 1
        ]
        return found + [
            f"missing at {it.occurred_at}: {it.subject}"
            for told in self.databases
            for number, it in enumerate(told)
            if it.type == JobEventType.MISSING and self._is_false(it.subject, told[:number])
        ]

    def _is_false(self, job_id: str, before: list[Event]) -> bool:
        """Tell whether a job was unknown with all others: no trouble was ever its own alone.

        `before` is what the same database had told by then: what it does not know nobody asks for.
        """
        going = {it.subject for it in before if it.type == JobEventType.STARTED}
        going -= {it.subject for it in before if it.type in ENDS} | self.troubled
        return job_id in going and len(going) >= GUARD_JOBS

    # A daemon's lives.

    async def _live_on(self) -> None:
        while True:
            with anyio.CancelScope() as self.life:
                await self._live()
            await anyio.sleep(200.0 * self.random.random())

    async def _live(self) -> None:
        clock = virtual_clock()
        source = SutroSource(
            self.api,  # type: ignore[arg-type]
            RateLimiter(per_minute=self.per_minute, now=clock.steady, random=self.random.random),
            planner=ListPlanner(clock.steady, is_on=self.random.random() < 0.8),
            now=clock.steady,
            renew_key=lambda: None,
        )
        watcher = self.watcher = a_watcher(source, self.store, clock, policy=self.policy)
        discovery = self.discovery = Discovery(
            source,
            self.store,
            job_filter=DiscoveryFilter(),
            interval=30.0,
            clock=clock,
            random=self.random.random,
        )
        async with anyio.create_task_group() as group:
            if self.is_discovering:
                await watcher.discover(discovery.admits)
                group.start_soon(discovery.run, watcher.ingest)
            group.start_soon(watcher.run)
            group.start_soon(self._name_jobs, watcher)

    async def _name_jobs(self, watcher: Watcher) -> None:
        known: frozenset[str] | None = None
        while True:
            if known != self.named:
                known = frozenset(self.named)
                await watcher.watch(known)
            await anyio.sleep(2.0)

    # What becomes of it.

    def _submit(self, jobs: int) -> None:
        number, now = len(self.api.courses), anyio.current_time()
        for job_id in [f"job-{it}" for it in range(number, min(number + jobs, self.size))]:
            ended = now + 5.0 + self.random.choice([1.0, 30.0, 300.0, 2_000.0, 20_000.0])
            cost_at = ended + self.random.choice([0.0, 0.0, 10.0, 100.0])
            ends_as = self.random.choice(FATES)
            self.api.courses[job_id] = Course(job_id, ends_as, now, now + 5.0, ended, cost_at)
            if not self.is_discovering or self.random.random() < 0.3:
                self.named.add(job_id)

    async def kill(self) -> None:
        """Let the daemon die, and begin anew after some time."""
        self.life.cancel()

    async def fail_store(self) -> None:
        """Let verbs of the store fail; of some nobody knows whether they did."""
        verbs = ["write", "load_states", "get_flags", "unfinished_ids"]
        self.store.fails = set(self.random.sample(verbs, self.random.randint(0, 3)))
        self.store.lies = set(self.random.sample(verbs, self.random.randint(0, 2)))

    async def heal_store(self) -> None:
        """Let the store work."""
        self.store.fails, self.store.lies = set(), set()

    async def fail_api(self) -> None:
        """Let all requests meet some trouble."""
        self.api.troubles[None] = self._trouble(*ERRORS, odds=[0.1, 0.5, 1.0])

    async def forget(self) -> None:
        """Let the API know no job, as that of another account does."""
        self.api.troubles[None] = Trouble(UNKNOWN, 1.0)

    async def fail_one(self) -> None:
        """Let the looks at one job meet some trouble."""
        if self.api.courses:
            job_id = self.random.choice(list(self.api.courses))
            self.api.troubles[job_id] = self._trouble(*ERRORS, UNKNOWN, odds=[0.3, 1.0])
            self.troubled.add(job_id)

    async def heal_api(self) -> None:
        """Let the API work."""
        self.api.troubles.clear()

    async def lag(self) -> None:
        """Let the list be late."""
        self.api.lag = self.random.choice([0.0, 5.0, 60.0, 400.0])

    async def rename(self) -> None:
        """Name a job no more, and again after a while."""
        if self.named:
            job_id = self.random.choice(sorted(self.named))
            self.named.discard(job_id)
            await anyio.sleep(20.0 * self.random.random())
            self.named.add(job_id)

    async def lose_store(self) -> None:
        """Replace the database of a living daemon, which notices it after some seconds."""
        if self.watcher is None or self.discovery is None or self.life.cancel_called:
            return  # it would begin with the new one
        self._keep_what_was_told()
        await self._begin_store()
        self.group.start_soon(self._start_over, self.watcher, self.discovery)

    async def _begin_store(self) -> None:
        """Begin a database that knows its age: a daemon that finds a new one has no other way."""
        self.store.store = a_store()
        await self.store.store.write(WriteBatch(flags={STARTED_AT_FLAG: format_rfc3339(START)}))

    async def _start_over(self, watcher: Watcher, discovery: Discovery) -> None:
        await anyio.sleep(10.0 * self.random.random())
        await watcher.resync()
        discovery.rescan()

    def _trouble(self, *errors: PollError, odds: list[float]) -> Trouble:
        return Trouble(self.random.choice(errors), self.random.choice(odds))

    def _keep_what_was_told(self) -> None:
        self.databases.append(recorded(self.store))


Disturbance = Callable[[Fleet], Any]
DISTURBANCES: Final[tuple[Disturbance, ...]] = (
    Fleet.kill,
    Fleet.fail_store,
    Fleet.heal_store,
    Fleet.fail_api,
    Fleet.forget,
    Fleet.heal_api,
    Fleet.fail_one,
    Fleet.heal_api,
    Fleet.rename,
    Fleet.lag,
    Fleet.lose_store,
)
