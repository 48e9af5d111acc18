"""Heartbeats: each loop promises when its next iteration starts.

A loop that waits without a limit wakes up every HEARTBEAT_INTERVAL for a beat, also in a long
pause that the API has demanded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

HEARTBEAT_INTERVAL: Final = 10.0
"""Seconds after which a waiting loop wakes up for a beat."""
STALL_TIMEOUT: Final = 30.0
"""Seconds after which an iteration counts as stalled, unless it announced more."""


@dataclass(slots=True)
class Heartbeat:
    """The heartbeat of one loop."""

    now: Callable[[], float]
    _until: float = math.inf

    @property
    def is_stalled(self) -> bool:
        """Return whether the next iteration is overdue."""
        return self.now() > self._until

    def beat(self, within: float = STALL_TIMEOUT) -> None:
        """Start an iteration; the next one starts within this many seconds."""
        self._until = self.now() + within

    def pause(self) -> None:
        """Promise nothing until the next beat."""
        self._until = math.inf


@dataclass(slots=True)
class MonitoredLock:
    """A lock whose heartbeat runs while it is held."""

    heartbeat: Heartbeat
    _lock: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))

    async def __aenter__(self) -> None:
        """Acquire the lock, then start the heartbeat."""
        try:
            self._lock.acquire_nowait()  # the usual case: `acquire` looks for cancellations first
        except anyio.WouldBlock:
            await self._lock.acquire()
        self.heartbeat.beat()

    async def __aexit__(self, *_error: object) -> None:
        """Release the lock."""
        self.heartbeat.pause()
        self._lock.release()


@dataclass(slots=True)
class HeartbeatRegistry:
    """The heartbeats of all loops, by name. `now` returns seconds of a monotonic clock."""

    now: Callable[[], float]
    _heartbeats: dict[str, Heartbeat] = field(default_factory=dict)

    def add(self, name: str) -> Heartbeat:
        """Return the heartbeat of a new loop; it promises nothing before its first beat."""
        heartbeat = self._heartbeats[name] = Heartbeat(self.now)
        return heartbeat

    @property
    def stalled(self) -> tuple[str, ...]:
        """The names of the loops that are overdue."""
        return tuple(name for name, heartbeat in self._heartbeats.items() if heartbeat.is_stalled)
