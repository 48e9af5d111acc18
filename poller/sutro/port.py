"""The source port: how jobs are polled, and the result of a poll."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from poller.core.errors import PollError
from poller.core.jobs import Job
from poller.core.state import Signal

Known = Callable[[str], Job | None]
"""Returns what is known of a job by its id, or None."""


class Observation(NamedTuple):
    """The result of one poll for one job. `requested_at` is when the request was begun.

    `from_list`: a page of the list showed it, which may lag behind GET. An observation of
    Signal.TIMER needs no request: time has passed.
    """

    job_id: str
    requested_at: float
    result: Job | PollError | Signal
    from_list: bool = False


@dataclass(frozen=True, slots=True)
class PollRequest:
    """A request that may be sent now, and the ids of the jobs that it is expected to show.

    `send` returns an observation for each job that the response says something about. It is passed
    a lookup of known jobs: a job that has not changed since is not parsed anew.
    """

    job_ids: tuple[str, ...]
    send: Callable[[Known], Awaitable[Sequence[Observation]]]


class QueueView(Protocol):
    """The poll queue as a source reads it. The watcher alone takes jobs out of the queue."""

    def due_job(self, now: float) -> str | None:
        """Return the most overdue job, or None when none is due."""

    def probe_job(self) -> str | None:
        """Return the best job for a probe, due or not; None for an empty queue."""

    def is_due_soon(self, job_id: str, now: float) -> bool:
        """Return whether a job is waiting, and may be polled with others now."""

    def is_batchable(self, job_id: str) -> bool:
        """Return whether a job, waiting or being polled, may be polled with others at all."""


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

    async def plan(self, queue: QueueView) -> PollRequest | None:
        """Return the next request once the rate limit allows one.

        Return None after some seconds without a token, or when no job is due.
        """
