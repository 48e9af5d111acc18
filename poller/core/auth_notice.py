"""Remembers whether a rejected API key was announced."""

from dataclasses import dataclass, replace
from typing import Final, Self

from poller.core.events import DaemonEventType

AUTH_FLAG: Final = "auth"
REJECTED: Final = "rejected"
ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True)
class AuthNotice:
    """Remembers whether the rejection of the API key is announced, and how often that has happened.

    It is kept in the store: after a restart neither a rejection is announced twice nor a recovery
    missed. It holds at one deployment; `occurrence` counts the rejections at all of them.
    """

    is_rejected: bool = False
    occurrence: int = 0
    deployment: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return the notice that `format` wrote; None is the value of a new store."""
        word, count, deployment, *_ = [*(text or "").split(" "), "", "", ""]
        return cls(word == REJECTED, int(count) if count.isdecimal() else 0, deployment)

    def format(self) -> str:
        """Return the notice as text."""
        return f"{REJECTED if self.is_rejected else ACCEPTED} {self.occurrence} {self.deployment}"

    def at(self, deployment: str) -> Self:
        """Return the notice as it holds at a deployment: no other one has rejected the key."""
        is_same = self.deployment in {"", deployment}  # older versions recorded no deployment
        return type(self)(self.is_rejected and is_same, self.occurrence, deployment)

    def update(
        self, *, is_rejected: bool, is_accepted: bool
    ) -> tuple[Self, DaemonEventType | None]:
        """Return the notice after the latest responses, and the event to announce, if any.

        `is_accepted`: the API has accepted the key at least once.
        """
        if is_rejected and not self.is_rejected:
            after = replace(self, is_rejected=True, occurrence=self.occurrence + 1)
            return after, DaemonEventType.AUTH_FAILED
        if self.is_rejected and is_accepted and not is_rejected:
            return replace(self, is_rejected=False), DaemonEventType.AUTH_RECOVERED
        return self, None
