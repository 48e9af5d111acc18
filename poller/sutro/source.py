"""Where jobs are looked at: the port, and the Sutro API behind it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from poller.errors import NotFound, PollError, TooLarge, Transient
from poller.jobs import Job
from poller.schedule import Schedule
from poller.states import NoJob
from poller.sutro.budget import Budget
from poller.sutro.client import SutroClient

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Observation:
    """What one request told about one job. `asked_at` is when the request was begun.

    The watcher makes those of ELAPSED itself: time passes without a request.
    """

    job_id: str
    asked_at: float
    result: Job | PollError | NoJob


Look = Callable[[], Awaitable[Sequence[Observation]]]
"""One request, ready to be made; it gives an observation for each job that it can speak of."""


class Source(Protocol):
    """Somebody who knows how jobs are. `skew` is the source's clock minus ours, in seconds."""

    @property
    def is_gated(self) -> bool:
        """Whether only a trial request may go, due job or not."""

    @property
    def is_refused(self) -> bool:
        """Whether the key is refused for all jobs, beyond doubt."""

    @property
    def skew(self) -> float:
        """The source's clock minus ours, in seconds."""

    async def choose(self, schedule: Schedule) -> Look | None:
        """Wait for the host's turn, then take from the schedule what one request can show."""


class SutroSource:
    """The Sutro API, one GET a job. `renew_key` reads the key's file again.

    A job whose object is too large is asked for its status alone from then on.
    """

    def __init__(
        self,
        client: SutroClient,
        budget: Budget,
        *,
        now: Callable[[], float],
        renew_key: Callable[[], None],
    ) -> None:
        self._client = client
        self._budget = budget
        self._now = now
        self._renew_key = renew_key
        self._large: set[str] = set()

    @property
    def is_gated(self) -> bool:
        """Whether only a trial request may go, due job or not."""
        return self._budget.gate.opens_at is not None

    @property
    def is_refused(self) -> bool:
        """Whether the key is refused for all jobs, beyond doubt."""
        return self._budget.gate.is_refused

    @property
    def skew(self) -> float:
        """The API's clock minus ours, in seconds."""
        return self._client.skew

    async def choose(self, schedule: Schedule) -> Look | None:
        """Wait for the host's turn, then take the most overdue job for one GET."""
        is_trial = await self._budget.turn()
        now = self._now()
        job_id = schedule.take_early(now) if is_trial else schedule.take(now)
        if job_id is None:
            self._budget.give_back()
            return None
        return partial(self._look, job_id, is_trial=is_trial)

    async def _look(self, job_id: str, *, is_trial: bool) -> Sequence[Observation]:
        if is_trial:
            self._renew_key()
        asked_at = self._now()
        is_large = job_id in self._large
        try:
            ask = self._client.get_status if is_large else self._client.get_job
            result: Job | PollError = await ask(job_id)
        except PollError as error:
            result = error
        if is_large and isinstance(result, NotFound):
            # Not every deployment has this way to ask: the job itself was there.
            self._large.discard(job_id)
            result = Transient(str(result))
        self._budget.report(result if isinstance(result, PollError) else None, is_trial=is_trial)
        if isinstance(result, TooLarge) and not is_large:
            log.warning("job.too_large", job_id=job_id, error=str(result))
            self._large.add(job_id)
            return await self._look(job_id, is_trial=await self._budget.turn())
        return (Observation(job_id, asked_at, result),)
