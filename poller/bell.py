"""Something that many wait for, again and again."""

from dataclasses import dataclass, field

import anyio


@dataclass(slots=True)
class Bell:
    """Take `next` before you look at what it announces, then wait for it."""

    next: anyio.Event = field(default_factory=anyio.Event)

    def ring(self) -> None:
        """Wake all who wait."""
        self.next.set()
        self.next = anyio.Event()
