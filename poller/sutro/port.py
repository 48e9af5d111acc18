"""The source port: how jobs are polled, and the result of a poll."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from poller.core.errors import PollError
from poller.core.jobs import Job
from poller.core.overdue import Overdue
from poller.core.poll_queue import PollQueue
from poller.core.state import Signal

Known = Callable[[str], Job | None]
"""Returns what is known of a job by its id, or None."""


class Observation(NamedTuple):
    """The result of one poll for one job. `requested_at` is when the request was begun.

    `from_list`: a page of the list showed it, which may lag behind GET. An observation of
    Signal.TIMER or Overdue needs no request: time has passed.
    """

    job_id: str
    requested_at: float
    result: Job | PollError | Signal | Overdue
    from_list: bool = False


@dataclass(frozen=True, slots=True)
class PollRequest:
    """A request that may be sent now: for jobs by their ids, and for those of a page.

    `send` returns an observation for each job that the response says something about, a PageView if
    it is a page. It is passed a lookup of known jobs: a job that has not changed since is not
    parsed anew.
    """

    job_ids: tuple[str, ...]
    send: Callable[[Known], Awaitable[Sequence[Observation]]]
    page: Hashable = None


class Source(Protocol):
    """Plans requests to the API, one at a time."""

    @property
    def is_gated(self) -> bool:
        """Return whether only a probe may be sent, whether or not a job is due."""

    @property
    def is_key_rejected(self) -> bool:
        """Return whether the API key is rejected for all jobs, confirmed by a probe."""

    @property
    def is_key_accepted(self) -> bool:
        """Return whether the API has accepted the key at least once in this process."""

    @property
    def clock_skew(self) -> float:
        """The source's clock minus ours, in seconds."""

    async def plan(self, queue: PollQueue) -> PollRequest | None:
        """Return the next request once the rate limit allows one. The caller takes what it polls.

        Return None after some seconds without a token, or when no job is due.
        """

    def forget(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that are not polled any more."""
