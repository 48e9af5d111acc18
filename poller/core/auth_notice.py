"""Whether people were told that the API key is rejected."""

from dataclasses import dataclass
from typing import Final, Self

from poller.core.events import DaemonEventType

AUTH_FLAG: Final = "auth"


@dataclass(frozen=True, slots=True)
class AuthNotice:
    """Whether people were told that the key is refused, and how often that has happened.

    It is kept in the store: a restart must neither tell it twice nor forget to take it back.
    """

    is_rejected: bool = False
    occurrence: int = 0

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read what `write` wrote; None is a store's first time."""
        word, _, count = (text or "accepted 0").partition(" ")
        return cls(word == "refused", int(count) if count.isdecimal() else 0)

    def format(self) -> str:
        """Write the mark as text."""
        return f"{'refused' if self.is_rejected else 'accepted'} {self.occurrence}"

    def update(self, *, is_refused: bool, is_answered: bool) -> tuple[Self, DaemonEventType | None]:
        """Give the mark after the latest answers, and what is to be announced."""
        if is_refused and not self.is_rejected:
            return type(self)(True, self.occurrence + 1), DaemonEventType.AUTH_FAILED
        if self.is_rejected and is_answered and not is_refused:
            return type(self)(False, self.occurrence), DaemonEventType.AUTH_RECOVERED
        return self, None
