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

HEARTBEAT_INTERVAL: Final = 10.0
"""The longest wait of a loop that is well."""
STALL_TIMEOUT: Final = 30.0
"""Seconds after which a turn counts as stalled, unless it said that it would take longer."""


@dataclass(slots=True)
class Heartbeat:
    """The turns of one loop."""

    now: Callable[[], float]
    _until: float = math.inf

    @property
    def is_stalled(self) -> bool:
        """Whether the next turn should have begun by now."""
        return self.now() > self._until

    def beat(self, within: float = STALL_TIMEOUT) -> None:
        """Begin a turn; the next one begins within so many seconds."""
        self._until = self.now() + within

    def pause(self) -> None:
        """Promise nothing."""
        self._until = math.inf


@dataclass(slots=True)
class MonitoredLock:
    """A lock that is held for one turn at most; while nobody holds it, its pulse rests."""

    heartbeat: Heartbeat
    _lock: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))

    async def __aenter__(self) -> None:
        """Wait for the lock, then begin a turn."""
        await self._lock.acquire()
        self.heartbeat.beat()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next one in."""
        self.heartbeat.pause()
        self._lock.release()


@dataclass(slots=True)
class HeartbeatRegistry:
    """The pulses of all loops, by name. `now` gives seconds of a monotonic clock."""

    now: Callable[[], float]
    _heartbeats: dict[str, Heartbeat] = field(default_factory=dict)

    def add(self, name: str) -> Heartbeat:
        """Give a loop its pulse; until its first turn it rests."""
        heartbeat = Heartbeat(self.now)
        self.include(name, heartbeat)
        return heartbeat

    def include(self, name: str, heartbeat: Heartbeat) -> None:
        """Take in a pulse that a loop has already."""
        self._heartbeats[name] = heartbeat

    @property
    def stalled(self) -> tuple[str, ...]:
        """Name the loops that do not turn."""
        return tuple(name for name, heartbeat in self._heartbeats.items() if heartbeat.is_stalled)
