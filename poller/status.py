"""How the daemon is: whether it works by itself, what troubles it from outside, what waits.

The two are kept apart on purpose. Only what is local counts for probes and watchdogs: a restart
does not mend an API that is down. All the rest is status, for people.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from poller.core.errors import StoreUnavailable
from poller.core.issues import REMEDIES, Issue
from poller.core.outbox import SinkBacklog
from poller.runtime.liveness import STALL_TIMEOUT, HeartbeatRegistry
from poller.store import Store
from poller.sutro.rate_limit import RateLimiter

BACKLOG_MAX_AGE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the daemon itself works. `stalled` names the loops that do not turn."""

    is_running: bool
    is_ending: bool = False
    stalled: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether a restart would mend nothing."""
        return not self.stalled

    @property
    def is_ready(self) -> bool:
        """Whether the store is open and all loops turn."""
        return self.is_running and self.is_live

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say why it is not ready."""
        why = "it is stopping" if self.is_ending else "the store is not open yet"
        waits = () if self.is_running else (why,)
        return (*waits, *(f"the loop {name!r} has stalled" for name in self.stalled))


class Turning(Protocol):
    """A loop."""

    @property
    def heartbeats(self) -> HeartbeatRegistry:
        """Whether it turns."""


class Watching(Turning, Protocol):
    """The loop that polls jobs."""

    @property
    def is_wrong_endpoint(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for a minute."""

    @property
    def lateness_ratio(self) -> float:
        """How late the last due job was polled, in units of its interval; 1 is on time."""

    @property
    def status_counts(self) -> Mapping[str, int]:
        """The number of watched jobs by status; MISSING is one."""


@dataclass(slots=True)
class DaemonStatus:
    """How the daemon is at this moment. Nothing here waits for the API or a receiver.

    The store and the loops are there from `begin` on. `now` is the clock of all of them.
    """

    rate_limiter: RateLimiter
    now: Callable[[], float]
    _store: Store | None = field(default=None, init=False)
    _watcher: Watching | None = field(default=None, init=False)
    _loops: tuple[Turning, ...] = field(default=(), init=False)
    _opening: str | None = field(default=None, init=False)
    _is_ending: bool = field(default=False, init=False)
    _sinks: Sequence[SinkBacklog] = field(default=(), init=False)
    _counted_at: float = field(default=-math.inf, init=False)
    _counting: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    def note_store_unavailable(self, trouble: str) -> None:
        """Note why the store cannot be opened yet."""
        self._opening = trouble

    def attach(self, store: Store, watcher: Watching, dispatcher: Turning) -> None:
        """Note that the store is open and both loops run."""
        self._store, self._watcher, self._opening = store, watcher, None
        self._loops = (watcher, dispatcher)

    def detach(self) -> None:
        """Note that the daemon stops: nothing is looked at any more, and the store closes soon."""
        self._store, self._watcher, self._loops = None, None, ()
        self._is_ending = True

    @property
    def health(self) -> Health:
        """How the daemon itself works."""
        stalled = tuple(name for loop in self._loops for name in loop.heartbeats.stalled)
        if self._is_failing:
            stalled = ()  # whoever waits for a store that goes on failing has not stalled
        return Health(is_running=bool(self._loops), is_ending=self._is_ending, stalled=stalled)

    @property
    def _is_failing(self) -> bool:
        """Whether the store has failed just now: a disk that is full, a file that is locked."""
        return self._store is not None and self.now() - self._store.last_error_at < STALL_TIMEOUT

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What keeps the daemon from its work."""
        reachability = self.rate_limiter.reachability
        is_estranged = self._watcher is not None and self._watcher.is_wrong_endpoint
        troubles = {
            Issue.API_KEY_REJECTED: self.rate_limiter.gate.is_rejected,
            Issue.WRONG_ENDPOINT: reachability.is_wrong_endpoint or is_estranged,
            Issue.API_UNREACHABLE: reachability.is_stale,
            Issue.STORE_UNAVAILABLE: self.store_error is not None,
        }
        return tuple(it for it, is_there in troubles.items() if is_there)

    @property
    def store_error(self) -> str | None:
        """Why the store did not do what it was asked last, or cannot be opened."""
        return self._store.last_error if self._store else self._opening

    @property
    def jobs(self) -> Mapping[str, int]:
        """The watched jobs by how they stand; MISSING counts as a state."""
        return self._watcher.status_counts if self._watcher else {}

    @property
    def lateness_ratio(self) -> float:
        """How many times as long as they should be waits are at the moment."""
        return self._watcher.lateness_ratio if self._watcher else 1.0

    async def backlog(self) -> Sequence[SinkBacklog]:
        """Read what each sink has not got. None is known while the store cannot tell.

        Whoever asks within a second of another is told the same: the store has better to do.
        """
        async with self._counting:
            if self._store and self.now() - self._counted_at >= BACKLOG_MAX_AGE:
                try:
                    self._sinks = await self._store.backlogs()
                except StoreUnavailable:
                    self._sinks = ()
                self._counted_at = self.now()
            return self._sinks if self._store else ()

    @property
    def startup_line(self) -> str:
        """The summary while the store is not open yet."""
        return f"waiting for the store: {self._opening or 'it is being opened'}"

    async def summary_line(self) -> str:
        """Say it all in one line for people."""
        if self._is_ending:
            return "stopping"
        if self._store is None:
            return self.startup_line
        sinks = await self.backlog()
        jobs = ", ".join(f"{count} {state}" for state, count in sorted(self.jobs.items()))
        waits = f"{sum(it.pending for it in sinks)} pending, {sum(it.dead for it in sinks)} dead"
        parts = (f"jobs: {jobs or 'none yet'}", waits, *(REMEDIES[it] for it in self.issues))
        return "; ".join(parts)
