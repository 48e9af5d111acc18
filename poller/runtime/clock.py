"""Two clocks: one to write, which may jump, and one to decide and wait by, which never does."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of one process.

    `steady` counts seconds since 1970 from one look at the wall clock when the process began, by
    the monotonic clock ever after: a wall clock that is set while the daemon runs moves nothing.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _offset: float = field(init=False)

    def __post_init__(self) -> None:
        """Look at the wall clock once."""
        object.__setattr__(self, "_offset", self.wall() - self.monotonic())

    def steady(self) -> float:
        """Give seconds since 1970 that never jump, to decide and to wait by."""
        return self.monotonic() + self._offset

    def now(self) -> datetime:
        """Give the wall clock's aware UTC time to the millisecond, to write and to show."""
        return self.wall_time_at(self.steady())

    def wall_time_at(self, steady: float) -> datetime:
        """Give what the wall clock, as it is now, would have shown at a moment of `steady`."""
        moment = datetime.fromtimestamp(self.wall() - (self.steady() - steady), UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
