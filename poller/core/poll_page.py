"""What is polled: a job with a time of its own, and a page with the jobs that it shows."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from poller.core.pacing import PollPolicy
from poller.core.page_sum import PageSum
from poller.core.poll_order import Priority

WEIGHING_SHARE: Final = 0.1
"""The weights of a page's jobs are computed anew when the youngest is this much older."""


@dataclass(slots=True)
class WaitingJob:
    """A job that waits for its next poll; `PollQueue.put` says what the fields are.

    `page` is the one that shows it.
    """

    due: float
    polled_at: float
    is_deferred: bool
    is_single: bool
    priority: Priority
    began_at: float | None
    confirm_at: float
    page: "PollPage | None" = field(default=None, repr=False, compare=False)

    @property
    def sum_page(self) -> "PollPage | None":
        """The page in whose sum the job is while it waits."""
        return None if self.is_single or self.began_at is None else self.page

    def overdue(self, now: float) -> float:
        """Return the time since the last poll in units of the interval: 1 when due."""
        return (now - self.polled_at) / (self.due - self.polled_at or 1e-3)


@dataclass(slots=True, eq=False)
class PollPage:
    """A page, its `members`, which are in its sum, and `riders`, which have times of their own.

    `rows` are the jobs that it shows, of which so many are `placed` on it: those of the queue that
    no other page has shown since. `taken` are the riders that are away with it.
    """

    key: Hashable
    rows: Sequence[str] = ()
    placed: int = 0
    members: dict[str, WaitingJob] = field(default_factory=dict)
    riders: dict[str, WaitingJob] = field(default_factory=dict)
    taken: list[str] | None = None
    read_at: float = -math.inf
    requested_at: float = -math.inf
    due: float = math.inf
    is_weighed: bool = False
    _total: PageSum = field(default_factory=lambda: PageSum(0.0))
    _oldest_poll: float = math.inf
    _weigh_at: float = -math.inf

    def sum(self, now: float) -> float:
        """Return the sum of the rule: 1 or more when it is worth a request."""
        return self._total.at(now)

    def overdue(self, now: float) -> float:
        """Return the time since the last poll in units of the interval: 1 when due."""
        since = max(self.read_at, self._oldest_poll)
        return (now - since) / (self.due - since or 1e-3)

    def weigh(self, policy: PollPolicy) -> None:
        """Compute the sum of its jobs, and when it is due, if they have changed."""
        if self.is_weighed:
            return
        self.is_weighed = True
        polls = [(max(job.polled_at, self.read_at), job.began_at) for job in self.members.values()]
        newest, self._oldest_poll = max(polls)[0], min(polls)[0]
        self._total, youngest = PageSum(newest), math.inf
        for polled_at, began_at in polls:
            age = polled_at - (began_at or 0.0)
            self._total.add(policy.weight(age), polled_at)
            youngest = min(youngest, age)
        self._weigh_at = newest + WEIGHING_SHARE * policy.smoothed(youngest)
        self._schedule(policy)

    def mark_read(self, policy: PollPolicy, now: float) -> None:
        """Record that all its jobs were polled."""
        self.read_at = self._oldest_poll = now
        self.is_weighed = self.is_weighed and now < self._weigh_at
        self._total.restart(now)
        self._schedule(policy)

    def _schedule(self, policy: PollPolicy) -> None:
        soonest = max(self.read_at, self._oldest_poll) + policy.minimum
        latest = self._oldest_poll + policy.maximum
        self.due = min(max(self._total.reaches_one_at(), soonest), latest)
