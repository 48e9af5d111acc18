"""Remembers whether a rejected API key was announced."""

from dataclasses import dataclass
from typing import Final, Self

from poller.core.events import DaemonEventType

AUTH_FLAG: Final = "auth"
REJECTED: Final = "rejected"
ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True)
class AuthNotice:
    """Remembers whether the rejection of the API key is announced, and how often that has happened.

    It is kept in the store: after a restart neither a rejection is announced twice nor a recovery
    missed.
    """

    is_rejected: bool = False
    occurrence: int = 0

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return the notice that `format` wrote; None is the value of a new store."""
        word, _, count = (text or f"{ACCEPTED} 0").partition(" ")
        return cls(word == REJECTED, int(count) if count.isdecimal() else 0)

    def format(self) -> str:
        """Return the notice as text."""
        return f"{REJECTED if self.is_rejected else ACCEPTED} {self.occurrence}"

    def update(
        self, *, is_rejected: bool, has_responded: bool
    ) -> tuple[Self, DaemonEventType | None]:
        """Return the notice after the latest responses, and the event to announce, if any.

        `has_responded`: the API has accepted the key at least once.
        """
        if is_rejected and not self.is_rejected:
            return type(self)(True, self.occurrence + 1), DaemonEventType.AUTH_FAILED
        if self.is_rejected and has_responded and not is_rejected:
            return type(self)(False, self.occurrence), DaemonEventType.AUTH_RECOVERED
        return self, None
