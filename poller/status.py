"""Health, issues and backlog of the daemon.

Health is about the daemon alone, for probes and watchdogs: a restart does not repair an API that is
down. Issues are about everything outside it, for people.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from poller.core.counters import Counters
from poller.core.errors import StoreUnavailable
from poller.core.issues import REMEDIES, Issue, delayed_delivery
from poller.core.outbox import SinkBacklog
from poller.core.overdue_rule import is_overdue
from poller.polling.discovery import Discovery
from poller.polling.watcher import Watcher
from poller.runtime.liveness import STALL_TIMEOUT, HeartbeatRegistry
from poller.store import Store
from poller.sutro.rate_limit import RateLimiter

BACKLOG_MAX_AGE: Final = 1.0
"""Seconds for which the counts of a backlog are reused."""
OUTAGE_SECONDS: Final = 600.0
"""Seconds of failing requests after which a heartbeat reports a failure."""
OUTAGE: Final = "No response from the API for 10 minutes; polling continues, and nothing is lost."


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of the daemon itself; `stalled` has the names of the loops that are stuck."""

    is_running: bool
    is_stopping: bool = False
    stalled: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Return whether the process works; otherwise a restart may help."""
        return not self.stalled

    @property
    def is_ready(self) -> bool:
        """Return whether the store is open and all loops run."""
        return self.is_running and self.is_live

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons why the daemon is not ready."""
        reason = "it is stopping" if self.is_stopping else "the store is not open yet"
        return (
            *(() if self.is_running else (reason,)),
            *(f"the loop {name!r} has stalled" for name in self.stalled),
        )


@dataclass(slots=True)
class DaemonStatus:
    """The current state of the daemon; nothing here waits for the API or a receiver.

    The store and the loops are known from `attach` to `detach`; until then, `open_error` is why the
    store cannot be opened. `now` is the clock of all of them, and `is_file_failing` returns whether
    the jobs file or a secret file cannot be read.
    """

    rate_limiter: RateLimiter
    now: Callable[[], float]
    counters: Counters = field(default_factory=Counters)
    is_file_failing: Callable[[], bool] = lambda: False
    open_error: str | None = field(default=None, init=False)
    _store: Store | None = field(default=None, init=False)
    _watcher: Watcher | None = field(default=None, init=False)
    _discovery: Discovery | None = field(default=None, init=False)
    _heartbeats: tuple[HeartbeatRegistry, ...] = field(default=(), init=False)
    _is_stopping: bool = field(default=False, init=False)
    _backlog: Sequence[SinkBacklog] = field(default=(), init=False)
    _backlog_read_at: float = field(default=-math.inf, init=False)
    _reading: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    def attach(
        self,
        store: Store,
        watcher: Watcher,
        delivery: HeartbeatRegistry,
        discovery: Discovery | None = None,
    ) -> None:
        """Record that the store is open and that polling and delivery run."""
        self._discovery = discovery
        self._store, self._watcher, self.open_error = store, watcher, None
        self._heartbeats = (watcher.heartbeats, delivery)

    def detach(self) -> None:
        """Record that the daemon stops: polling has ended, and the store closes soon."""
        self._store, self._watcher, self._heartbeats = None, None, ()
        self._is_stopping = True

    @property
    def health(self) -> Health:
        """The health of the daemon itself."""
        stalled = tuple(name for loops in self._heartbeats for name in loops.stalled)
        if self._store and self.now() - self._store.last_error_at < STALL_TIMEOUT:
            stalled = ()  # a loop that waits for a failing store has not stalled
        return Health(
            is_running=bool(self._heartbeats), is_stopping=self._is_stopping, stalled=stalled
        )

    def stalled(self) -> Sequence[str]:
        """Return the names of the loops that are stuck."""
        return self.health.stalled

    def blockers(self) -> Sequence[str]:
        """Return the reasons why the daemon does not work; without any, it sends heartbeats."""
        error = self.store_error
        return (*self.health.reasons, *([f"the store fails: {error}"] if error else ()))

    def outage(self) -> str | None:
        """Return why the daemon can observe no job although it works, or None."""
        if self.rate_limiter.gate.is_rejected:
            return REMEDIES[Issue.API_KEY_REJECTED]
        is_silent = self.rate_limiter.reachability.failing_seconds > OUTAGE_SECONDS
        return OUTAGE if is_silent else None

    @property
    def issues(self) -> tuple[Issue, ...]:
        """The issues outside the daemon that keep it from its work, as of the last `backlog`."""
        reachability = self.rate_limiter.reachability
        watcher = self._watcher
        knows_no_job = watcher is not None and watcher.is_wrong_endpoint
        is_not_found = watcher is not None and any(map(watcher.is_not_found, watcher.tracker))
        is_present = {
            Issue.API_KEY_REJECTED: self.rate_limiter.gate.is_rejected,
            Issue.WRONG_ENDPOINT: reachability.is_wrong_endpoint or knows_no_job,
            Issue.API_UNREACHABLE: reachability.is_stale,
            Issue.STORE_UNAVAILABLE: self.store_error is not None,
            Issue.JOB_NOT_FOUND: is_not_found and not knows_no_job,
            Issue.LIST_REJECTED: self._discovery is not None and self._discovery.is_rejected,
            Issue.FILE_UNREADABLE: self.is_file_failing(),
            Issue.EVENT_ID_COLLISION: self.counters.id_collisions > 0,
            Issue.DELIVERY_DELAYED: bool(self._delayed_deliveries),
        }
        return tuple(filter(is_present.get, is_present))

    def remedy(self, issue: Issue) -> str:
        """Return what an issue means now, and what to do."""
        if issue is Issue.DELIVERY_DELAYED:
            return " ".join(self._delayed_deliveries)
        return REMEDIES[issue]

    @property
    def _delayed_deliveries(self) -> Sequence[str]:
        now = self.now()
        return [text for sink in self._backlog if (text := delayed_delivery(sink, now))]

    @property
    def database_id(self) -> str | None:
        """The random id of the open database."""
        return self._store.database_id if self._store else None

    @property
    def instance_key(self) -> bytes:
        """The key that proves which database is open; empty while none is."""
        return self._store.instance_key if self._store else b""

    @property
    def store_error(self) -> str | None:
        """The error of the last call of the store, or why it cannot be opened."""
        return self._store.last_error if self._store else self.open_error

    @property
    def jobs(self) -> Mapping[str, int]:
        """The number of watched jobs by status; MISSING is one."""
        return self._watcher.status_counts if self._watcher else {}

    @property
    def lateness_ratio(self) -> float:
        """How late the last due job was polled, in units of its interval; 1 is on time."""
        return self._watcher.lateness_ratio if self._watcher else 1.0

    @property
    def stale_jobs(self) -> int:
        """The number of running jobs whose last successful poll was long ago."""
        return self._watcher.stale_count if self._watcher else 0

    @property
    def overdue_jobs(self) -> int:
        """The number of jobs that are in a stage in which they were announced as overdue."""
        if self._watcher is None:
            return 0
        tracker = self._watcher.tracker
        return sum(is_overdue(tracker[job_id]) for job_id in tracker)

    async def backlog(self) -> Sequence[SinkBacklog]:
        """Return the backlog of each sink; nothing while the store cannot be read.

        It is read at most once per second, to keep the store free for its other work.
        """
        async with self._reading:
            if self._store and self.now() - self._backlog_read_at >= BACKLOG_MAX_AGE:
                try:
                    self._backlog = await self._store.backlogs()
                except StoreUnavailable:
                    self._backlog = ()
                self._backlog_read_at = self.now()
            return self._backlog if self._store else ()

    @property
    def startup_line(self) -> str:
        """The summary in one line while the store is not open yet."""
        return f"waiting for the store: {self.open_error or 'not open yet'}"

    async def summary_line(self) -> str:
        """Return a summary in one line for people."""
        if self._is_stopping:
            return "stopping"
        if self._store is None:
            return self.startup_line
        sinks = await self.backlog()
        jobs = ", ".join(f"{count} {state}" for state, count in sorted(self.jobs.items()))
        pending, dead = sum(sink.pending for sink in sinks), sum(sink.dead for sink in sinks)
        remedies = map(self.remedy, self.issues)
        return "; ".join(
            (f"jobs: {jobs or 'none yet'}", f"{pending} pending, {dead} dead", *remedies)
        )
