"""Whether the loops turn: each says within how many seconds its next turn begins.

A loop that waits for what may never come wakes every BEAT seconds to say so. What may rightly
take longer, such as a pause that a host asks for, is waited for in such turns too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import anyio

BEAT: Final = 10.0
"""The longest wait of a loop that is well."""
TURN: Final = 30.0
"""Seconds after which a turn counts as stalled, unless it said that it would take longer."""


@dataclass(slots=True)
class Pulse:
    """The turns of one loop."""

    now: Callable[[], float]
    _until: float = math.inf

    @property
    def is_stalled(self) -> bool:
        """Whether the next turn should have begun by now."""
        return self.now() > self._until

    def beat(self, within: float = TURN) -> None:
        """Begin a turn; the next one begins within so many seconds."""
        self._until = self.now() + within

    def rest(self) -> None:
        """Promise nothing."""
        self._until = math.inf


@dataclass(slots=True)
class Turnstile:
    """A lock that is held for one turn at most; while nobody holds it, its pulse rests."""

    pulse: Pulse
    _lock: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))

    async def __aenter__(self) -> None:
        """Wait for the lock, then begin a turn."""
        await self._lock.acquire()
        self.pulse.beat()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next one in."""
        self.pulse.rest()
        self._lock.release()


@dataclass(slots=True)
class Pulses:
    """The pulses of all loops, by name. `now` gives seconds of a monotonic clock."""

    now: Callable[[], float]
    _pulses: dict[str, Pulse] = field(default_factory=dict)

    def add(self, name: str) -> Pulse:
        """Give a loop its pulse; until its first turn it rests."""
        pulse = Pulse(self.now)
        self.include(name, pulse)
        return pulse

    def include(self, name: str, pulse: Pulse) -> None:
        """Take in a pulse that a loop has already."""
        self._pulses[name] = pulse

    @property
    def stalled(self) -> tuple[str, ...]:
        """Name the loops that do not turn."""
        return tuple(name for name, pulse in self._pulses.items() if pulse.is_stalled)
