"""A reusable event with many waiters."""

import math
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import checkpoint


@dataclass(slots=True)
class Wakeup:
    """Wakes tasks that wait for a change of some state.

    Where an `await` stands between reading the state and waiting, take `count` before reading it
    and pass it as `since`: a notification in between is then not lost.
    """

    count: int = field(default=0, init=False)
    _event: anyio.Event | None = field(default=None, init=False)

    def notify(self) -> None:
        """Wake all tasks that wait."""
        self.count += 1
        if self._event:
            self._event.set()
            self._event = None

    async def wait(self, timeout: float = math.inf, *, since: int | None = None) -> bool:  # noqa: ASYNC109 - the usual case is a bounded wait
        """Wait until the next notification, at most `timeout` seconds; return whether it came.

        With `since`, return at once when a notification has come after that count was taken.
        """
        since = self.count if since is None else since
        if self.count != since:
            await checkpoint()
            return True
        self._event = self._event or anyio.Event()
        with anyio.move_on_after(timeout):
            await self._event.wait()
        return self.count != since
