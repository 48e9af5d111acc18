"""A fleet: jobs start, end, and are added or removed while the API, its list and the store fail.

Watcher, source, pages, rate limiter, discovery and tracker are real. There are no sockets, so a
case replays exactly from its seed, given the same PYTHONHASHSEED.
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
from poller.polling.discovery import Discovery, DiscoveryFilter, start_flag
from poller.polling.missing_guard import GUARD_JOBS
from poller.polling.watcher import Watcher
from tests.fault_injection.late_fields import ENDS, LATE_DELAYS, late_fields_violations
from tests.fault_injection.list_faults import random_row
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.socketless_daemon import build_daemon
from tests.fault_injection.unreliable_api import (
    ERRORS,
    LATE_FIELDS,
    UNKNOWN,
    ApiFault,
    JobTimeline,
    Site,
    UnreliableApi,
)
from tests.fault_injection.unreliable_list import UnreliableList
from tests.support.fakes import FailingStore, a_store, recorded
from tests.support.virtual_time import START

RECOVERY_SECONDS: Final = 9 * 3_600.0
"""Seconds after which all jobs have ended and every deferred poll was made."""
RESTART_SECONDS: Final = 600.0


class Fleet:
    """Jobs under a daemon that is disturbed in every way, and then left alone."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.size = random.choice([1, 3, 8, 20])
        self.is_discovering = random.random() < 0.5
        self.policy = PollPolicy(
            minimum=random.choice([2.0, 20.0]), maximum=random.choice([60.0, 300.0, 900.0])
        )
        self.per_minute = random.choice([120.0, 600.0])
        names = random.choice([["first"], ["first"], ["first", "second"]])
        self.sites = [Site(name, UnreliableApi(random)) for name in names]
        self.site = self.sites[0]
        self.named_again: set[str] = set()
        self.store = FailingStore(a_store())
        self.databases: list[list[Event]] = []
        self.daemon_scope = anyio.CancelScope()
        self.watcher: Watcher | None = None
        self.discovery: Discovery | None = None
        self.misreported: list[str] = []
        for site in self.sites:
            site.watched_ids.update(random.choice([[], [], ["job-typo"]]))

    async def run(self) -> None:
        """Run the daemon while the fleet is disturbed, and then without faults."""
        await self._begin_store()
        async with anyio.create_task_group() as self.group:
            self.group.start_soon(self._restart_forever)
            while self._is_growing or self.random.random() < 0.95:
                if self.random.random() < 0.5:
                    self._submit(self.random.choice([1, 3, 20]))
                await self.random.choice(DISTURBANCES)(self)
                await anyio.sleep(self.random.choice([1.0, 5.0, 30.0, 100.0, 600.0]))
            for site in self.sites:
                site.api.faults, site.api.listing = {}, UnreliableList()
            self.store.fails, self.store.lies = set(), set()
            for site in self.sites:
                self._switch_to(site)
                await anyio.sleep(RECOVERY_SECONDS)
                self._check_not_found(site)
                self._switch_to(site)  # the next poll for late fields may be a day away
                await anyio.sleep(RESTART_SECONDS)
            self.group.cancel_scope.cancel()
        self._keep_events()

    @property
    def violations(self) -> list[str]:
        """Ends that were not reported once, duplicate ids, and false `job.missing` events."""
        found = [line for site in self.sites for line in self._violations_at(site)]
        return found + self.misreported

    def _check_not_found(self, site: Site) -> None:
        """Record when the daemon says of other jobs than of the mistyped ones that they are not."""
        assert self.watcher
        shown = {job_id for job_id in self.watcher.tracker if self.watcher.is_not_found(job_id)}
        if shown != site.watched_ids - site.api.timelines.keys():
            self.misreported.append(f"not found at {site.name}: {sorted(shown)}")

    def _violations_at(self, site: Site) -> list[str]:
        databases = [
            [event for event in events if event.data["deployment"] == site.name]
            for events in self.databases
        ]
        ids: dict[tuple[str, str], set[str]] = {}
        for event in chain.from_iterable(databases):
            ids.setdefault((event.subject, event.type), set()).add(event.id)
        found = [
            f"{timeline} was reported as {ends} at {site.name}"
            for timeline in site.api.timelines.values()
            if (ends := [end for end in ENDS if (timeline.job_id, end) in ids]) != [timeline.end]
        ]
        found += late_fields_violations(databases[-1], site)
        found += [
            f"ids of {key}: {of}" for key, of in ids.items() if key[1] in ENDS and len(of) > 1
        ]
        return found + [
            f"missing at {event.occurred_at}: {event.subject}"
            for events in databases
            for number, event in enumerate(events)
            if event.type == JobEventType.MISSING
            and _is_false(event.subject, events[:number], site.faulty_jobs)
        ]

    @property
    def _is_growing(self) -> bool:
        return any(len(site.api.timelines) < self.size for site in self.sites)

    def _switch_to(self, site: Site) -> None:
        """Restart the daemon with the URL of a site, on the same database."""
        self.site = site
        self.daemon_scope.cancel()

    # The daemon.

    async def _restart_forever(self) -> None:
        while True:
            self.store.store._deployment = self.site.name
            with anyio.CancelScope() as self.daemon_scope:
                await self._run_daemon()
            await anyio.sleep(200.0 * self.random.random())

    async def _run_daemon(self) -> None:
        site = self.site
        watcher, discovery = self.watcher, self.discovery = build_daemon(
            site,
            self.store,
            self.random,
            policy=self.policy,
            per_minute=self.per_minute,
            has_pages=self.random.random() < 0.8,
        )
        async with anyio.create_task_group() as group:
            if self.is_discovering:
                await watcher.discover(discovery.admits)
                group.start_soon(discovery.run, watcher.ingest)
            group.start_soon(watcher.run)
            group.start_soon(self._sync_watch_list, watcher, site)

    async def _sync_watch_list(self, watcher: Watcher, site: Site) -> None:
        await watcher.watch(())
        before: frozenset[str] = frozenset()
        while True:
            watched = frozenset(site.watched_ids)
            if watched != before or self.named_again:
                named_again, self.named_again = self.named_again, set()
                await watcher.watch(watched - before, before - watched, named_again)
                before = watched
            await anyio.sleep(2.0)

    # Disturbances.

    def _submit(self, jobs: int) -> None:
        site, now = self.random.choice(self.sites), anyio.current_time()
        number = len(site.api.timelines)
        for job_id in [f"job-{number}" for number in range(number, min(number + jobs, self.size))]:
            ended = now + 5.0 + self.random.choice([1.0, 30.0, 300.0, 2_000.0, 20_000.0])
            delays = self.random.choice(LATE_DELAYS)
            late = {name: ended + self.random.choice(delays) for name in LATE_FIELDS}
            ends_as = self.random.choice(OUTCOMES)
            is_named = not self.is_discovering or self.random.random() < 0.3
            row = random_row(self.random, now, is_named=is_named)
            site.api.timelines[job_id] = JobTimeline(
                job_id, ends_as, now, now + 5.0, ended, late, row
            )
            if is_named:
                site.watched_ids.add(job_id)

    async def crash(self) -> None:
        """Crash the daemon, which starts again after some time."""
        self.daemon_scope.cancel()

    async def fail_store(self) -> None:
        """Make store methods fail; some of them do their work first."""
        verbs = ["write", "load_states", "get_flags", "unfinished_ids"]
        self.store.fails = set(self.random.sample(verbs, self.random.randint(0, 3)))
        self.store.lies = set(self.random.sample(verbs, self.random.randint(0, 2)))

    async def restore_store(self) -> None:
        """Make the store work again."""
        self.store.fails, self.store.lies = set(), set()

    async def fail_api(self) -> None:
        """Make all requests fail with some probability."""
        self.site.api.faults[None] = self._random_fault(*ERRORS, odds=[0.1, 0.5, 1.0])

    async def fail_as_other_account(self) -> None:
        """Make the API return 404 for every job, as that of another account does."""
        self.site.api.faults[None] = ApiFault(UNKNOWN, 1.0)

    async def fail_one(self) -> None:
        """Make the polls of one job fail."""
        site = self.site
        if site.api.timelines:
            job_id = self.random.choice(list(site.api.timelines))
            site.api.faults[job_id] = self._random_fault(*ERRORS, UNKNOWN, odds=[0.3, 1.0])
            site.faulty_jobs.add(job_id)

    async def restore_api(self) -> None:
        """Make the API work again."""
        self.site.api.faults.clear()

    async def break_list(self) -> None:
        """Make the list late, and its cursors wrong."""
        listing = self.site.api.listing
        listing.lag = self.random.choice([0.0, 0.0, 5.0, 60.0, 400.0, 5_000.0, 20_000.0])
        listing.cursors = self.random.choice(["right", "right", "loop", "empty", "repeat"])

    async def remove_and_add_job(self) -> None:
        """Remove a job from the watch list, and add it again after a while."""
        watched_ids = self.site.watched_ids
        if watched_ids:
            job_id = self.random.choice(sorted(watched_ids))
            watched_ids.discard(job_id)
            await anyio.sleep(20.0 * self.random.random())
            watched_ids.add(job_id)

    async def name_again(self) -> None:
        """Name some jobs again that are watched, whatever is recorded of them."""
        self.named_again.update(
            job_id for job_id in sorted(self.site.watched_ids) if self.random.random() < 0.3
        )

    async def switch_site(self) -> None:
        """Change the URL of the API, and keep the database."""
        self._switch_to(self.random.choice(self.sites))

    async def lose_store(self) -> None:
        """Replace the database of a running daemon, which detects that after some seconds."""
        if self.watcher is None or self.discovery is None or self.daemon_scope.cancel_called:
            return  # the daemon would start with the new one
        self._keep_events()
        await self._begin_store()
        self.group.start_soon(self._detect_replacement, self.watcher, self.discovery)

    async def _begin_store(self) -> None:
        """Create a database with a start time, which a daemon cannot take from a new one."""
        self.store.store = store = a_store()
        store._deployment = self.site.name
        flags = [start_flag(site.name, DiscoveryFilter()) for site in self.sites]
        await store.write(WriteBatch(flags=dict.fromkeys(flags, format_rfc3339(START))))

    async def _detect_replacement(self, watcher: Watcher, discovery: Discovery) -> None:
        await anyio.sleep(10.0 * self.random.random())
        await watcher.resync()
        discovery.rescan()

    def _random_fault(self, *errors: PollError, odds: list[float]) -> ApiFault:
        return ApiFault(self.random.choice(errors), self.random.choice(odds))

    def _keep_events(self) -> None:
        self.databases.append(recorded(self.store))


def _is_false(job_id: str, before: list[Event], faulty_jobs: set[str]) -> bool:
    """Return whether a job was unknown together with all others, which is no fault of the job.

    `before` holds the events recorded before in the same database: it polls only what it knows.
    """
    going = {event.subject for event in before if event.type == JobEventType.STARTED}
    going -= {event.subject for event in before if event.type in ENDS} | faulty_jobs
    return job_id in going and len(going) >= GUARD_JOBS


Disturbance = Callable[[Fleet], Any]
DISTURBANCES: Final[tuple[Disturbance, ...]] = (
    Fleet.crash,
    Fleet.fail_store,
    Fleet.restore_store,
    Fleet.fail_api,
    Fleet.fail_as_other_account,
    Fleet.restore_api,
    Fleet.fail_one,
    Fleet.restore_api,
    Fleet.remove_and_add_job,
    Fleet.name_again,
    Fleet.switch_site,
    Fleet.break_list,
    Fleet.lose_store,
)
