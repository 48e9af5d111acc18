"""What the answers say of the API as a whole, as opposed to any one job."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Self

from poller.errors import Misconfigured, NotFound, PollError, Rejected, TooLarge
from poller.events import PollerEvent
from poller.jobs import Job

MARK: Final = "auth"
GUARD_JOBS: Final = 3
GUARD_SHARE: Final = 0.9
STALE_AFTER: Final = 300.0
"""Seconds without an answer, though the API was asked, after which what is known is old."""
VOUCHED_FOR: Final = 60.0
"""Seconds for which nobody is asked whether the API still knows other jobs."""


@dataclass(slots=True)
class Hearing:
    """When the API was last heard, and since when it is not though it is asked.

    `heard_at` is None before the first answer about a job or the list, `failing_since` while
    nothing fails.
    """

    now: Callable[[], float]
    heard_at: float | None = None
    failing_since: float | None = None
    _error: PollError | None = None

    def note(self, error: PollError | None) -> None:
        """Take in what became of a request: an error, or None for an answer."""
        if error is None or isinstance(error, NotFound | TooLarge):
            self.heard_at, self.failing_since, self._error = self.now(), None, None
            return
        self._error = error
        if self.failing_since is None:
            self.failing_since = self.now()

    @property
    def is_stale(self) -> bool:
        """Whether nothing has been heard for long."""
        return self.failing_since is not None and self.now() - self.failing_since > STALE_AFTER

    @property
    def is_elsewhere(self) -> bool:
        """Whether what answers, if anything, is not the API."""
        return isinstance(self._error, Misconfigured)


@dataclass(frozen=True, slots=True)
class KeyMark:
    """Whether people were told that the key is refused, and how often that has happened.

    It is kept in the store: a restart must neither tell it twice nor forget to take it back.
    """

    is_refused: bool = False
    occurrence: int = 0

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Read what `write` wrote; None is a store's first time."""
        word, _, count = (text or "accepted 0").partition(" ")
        return cls(word == "refused", int(count) if count.isdecimal() else 0)

    def write(self) -> str:
        """Write the mark as text."""
        return f"{'refused' if self.is_refused else 'accepted'} {self.occurrence}"

    def follow(self, *, is_refused: bool, is_answered: bool) -> tuple[Self, PollerEvent | None]:
        """Give the mark after the latest answers, and what is to be announced."""
        if is_refused and not self.is_refused:
            return type(self)(True, self.occurrence + 1), PollerEvent.AUTH_FAILED
        if self.is_refused and is_answered and not is_refused:
            return type(self)(False, self.occurrence), PollerEvent.AUTH_RECOVERED
        return self, None


@dataclass(slots=True)
class Presence:
    """Which jobs the API knew when each was last asked, and since when or when that was.

    When nearly all of those that have been asked lately are unknown at once, it is not they that
    are missing: the URL or the tenant is wrong. Fewer than `guard_jobs` unknown ones do not tell
    that; then those that were present before are asked whether they still are.
    """

    now: Callable[[], float]
    guard_jobs: float = GUARD_JOBS
    _present: dict[str, float] = field(default_factory=dict)
    _absent: dict[str, float] = field(default_factory=dict)
    _vouched_at: float = -math.inf

    def note(self, job_id: str, result: object, asked_at: float) -> None:
        """Take in the latest answer about a job, and when it was asked for."""
        if isinstance(result, Job):
            self._absent.pop(job_id, None)
            self._present.pop(job_id, None)  # it goes to the end: the first is asked again first
            self._present[job_id] = self.now()
            self._vouched_at = max(self._vouched_at, asked_at)
        elif isinstance(result, NotFound):
            self._present.pop(job_id, None)
            self._absent.setdefault(job_id, self.now())
        elif isinstance(result, Rejected):
            self._present.pop(job_id, None)  # it will not answer soon

    def forget(self, job_id: str) -> None:
        """Leave out a job that is no longer asked for."""
        self._present.pop(job_id, None)
        self._absent.pop(job_id, None)

    @property
    def is_estranged(self) -> bool:
        """Whether nearly all jobs are unknown, of those asked since the first of them was."""
        absent = len(self._absent)
        if absent < self.guard_jobs:
            return False
        since = min(self._absent.values())
        present = sum(at >= since for at in self._present.values())
        return absent >= GUARD_SHARE * (absent + present)

    def is_alone(self, job_id: str) -> bool:
        """Tell whether an unknown job is unknown alone, as far as that needs to be known.

        Others were asked for after it was first unknown, and found.
        """
        return self._are_few or self._vouched_at >= self._absent.get(job_id, -math.inf)

    def witnesses(self, job_id: str) -> list[str]:
        """Name others that can tell whether it still is; none for a minute after one has."""
        if self._are_few:
            return []
        told_since = max(self._absent.get(job_id, -math.inf), self.now() - VOUCHED_FOR)
        return [] if self._vouched_at >= told_since else list(islice(self._present, GUARD_JOBS - 1))

    @property
    def _are_few(self) -> bool:
        return len(self._present) + len(self._absent) < self.guard_jobs
