"""A fake disk, whose reads may hang."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from poller.runtime.threads import complete


class FakeDisk:
    """A disk for virtual time, which does not see threads; `hung` are the reads that wait."""

    def __init__(self) -> None:
        self.hung: list[Callable[[], None]] = []
        self.is_hanging = False

    def begin(self, read: Callable[[], Any], _name: str) -> Future[Any]:
        """Begin a read, as `call_in_thread` does; it ends at once unless the disk hangs."""
        future = Future[Any]()
        future.set_running_or_notify_cancel()
        self.hung.append(partial(complete, future, read))
        if not self.is_hanging:
            self.respond()
        return future

    def respond(self) -> None:
        """Respond from now on, and end the reads that hang."""
        self.is_hanging = False
        while self.hung:
            self.hung.pop()()
