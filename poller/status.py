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
from poller.core.issues import ADVICE, Trouble
from poller.core.outbox import SinkState
from poller.runtime.liveness import TURN, Pulses
from poller.store import Store
from poller.sutro.rate_limit import Budget

FRESH: Final = 1.0


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
    def pulses(self) -> Pulses:
        """Whether it turns."""


class Watched(Protocol):
    """The jobs that are watched."""

    @property
    def is_estranged(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for long."""

    @property
    def stretch(self) -> float:
        """How many times as long as it should be the last wait was."""

    def by_state(self) -> Mapping[str, int]:
        """Count the watched jobs by how they stand."""


class Watching(Turning, Protocol):
    """The loop that looks at jobs."""

    @property
    def roster(self) -> Watched:
        """Whom it looks at."""


@dataclass(slots=True)
class Vitals:
    """How the daemon is at this moment. Nothing here waits for the API or a receiver.

    The store and the loops are there from `begin` on. `now` is the clock of all of them.
    """

    budget: Budget
    now: Callable[[], float]
    _store: Store | None = field(default=None, init=False)
    _roster: Watched | None = field(default=None, init=False)
    _loops: tuple[Turning, ...] = field(default=(), init=False)
    _opening: str | None = field(default=None, init=False)
    _is_ending: bool = field(default=False, init=False)
    _sinks: Sequence[SinkState] = field(default=(), init=False)
    _counted_at: float = field(default=-math.inf, init=False)
    _counting: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    def await_store(self, trouble: str) -> None:
        """Note why the store cannot be opened yet."""
        self._opening = trouble

    def begin(self, store: Store, watcher: Watching, dispatcher: Turning) -> None:
        """Note that the store is open and both loops run."""
        self._store, self._roster, self._opening = store, watcher.roster, None
        self._loops = (watcher, dispatcher)

    def end(self) -> None:
        """Note that the daemon stops: nothing is looked at any more, and the store closes soon."""
        self._store, self._roster, self._loops = None, None, ()
        self._is_ending = True

    @property
    def health(self) -> Health:
        """How the daemon itself works."""
        stalled = tuple(name for loop in self._loops for name in loop.pulses.stalled)
        if self._is_failing:
            stalled = ()  # whoever waits for a store that goes on failing has not stalled
        return Health(is_running=bool(self._loops), is_ending=self._is_ending, stalled=stalled)

    @property
    def _is_failing(self) -> bool:
        """Whether the store has failed just now: a disk that is full, a file that is locked."""
        return self._store is not None and self.now() - self._store.troubled_at < TURN

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What keeps the daemon from its work."""
        hearing = self.budget.hearing
        is_estranged = self._roster is not None and self._roster.is_estranged
        troubles = {
            Trouble.KEY_REFUSED: self.budget.gate.is_refused,
            Trouble.MISCONFIGURED: hearing.is_elsewhere or is_estranged,
            Trouble.STALE: hearing.is_stale,
            Trouble.DEGRADED: self.store_trouble is not None,
        }
        return tuple(it for it, is_there in troubles.items() if is_there)

    @property
    def store_trouble(self) -> str | None:
        """Why the store did not do what it was asked last, or cannot be opened."""
        return self._store.trouble if self._store else self._opening

    @property
    def jobs(self) -> Mapping[str, int]:
        """The watched jobs by how they stand; MISSING counts as a state."""
        return self._roster.by_state() if self._roster else {}

    @property
    def stretch(self) -> float:
        """How many times as long as they should be waits are at the moment."""
        return self._roster.stretch if self._roster else 1.0

    async def backlog(self) -> Sequence[SinkState]:
        """Read what each sink has not got. None is known while the store cannot tell.

        Whoever asks within a second of another is told the same: the store has better to do.
        """
        async with self._counting:
            if self._store and self.now() - self._counted_at >= FRESH:
                try:
                    self._sinks = await self._store.sinks()
                except StoreUnavailable:
                    self._sinks = ()
                self._counted_at = self.now()
            return self._sinks if self._store else ()

    async def line(self) -> str:
        """Say it all in one line for people."""
        if self._is_ending:
            return "stopping"
        if self._store is None:
            return f"waiting for the store: {self._opening or 'it is being opened'}"
        sinks = await self.backlog()
        jobs = ", ".join(f"{count} {state}" for state, count in sorted(self.jobs.items()))
        waits = f"{sum(it.pending for it in sinks)} pending, {sum(it.dead for it in sinks)} dead"
        parts = (f"jobs: {jobs or 'none yet'}", waits, *(ADVICE[it] for it in self.troubles))
        return "; ".join(parts)
