"""Two clocks: a wall clock, which may jump, and a steady one, which never does."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of one process.

    `steady` starts at the wall clock's time and then follows the monotonic clock, so that setting
    the wall clock while the daemon runs changes no wait.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _offset: float = field(init=False)

    def __post_init__(self) -> None:
        """Read the wall clock once."""
        object.__setattr__(self, "_offset", self.wall() - self.monotonic())

    def steady(self) -> float:
        """Return seconds since 1970 that never jump, to decide and to wait by."""
        return self.monotonic() + self._offset

    def now(self) -> datetime:
        """Return the wall clock's aware UTC time to the millisecond, to write and to show."""
        return self.wall_time_at(self.steady())

    def wall_time_at(self, steady: float) -> datetime:
        """Return the time at a moment of `steady` by the wall clock as it is set now."""
        moment = datetime.fromtimestamp(self.wall() - (self.steady() - steady), UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
