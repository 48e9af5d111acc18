"""Where jobs are looked at: the port, and the Sutro API behind it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from poller.core.errors import (
    NotFound,
    PollError,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
)
from poller.core.jobs import Job
from poller.core.state import Signal
from poller.polling.queue import PollQueue
from poller.sutro.client import JobPage, Known, SutroClient, no_known_jobs
from poller.sutro.list_planner import ListPlanner, PageRequest, is_list_error
from poller.sutro.rate_limit import RateLimiter

log = structlog.get_logger()


class Observation(NamedTuple):
    """What one request told about one job. `asked_at` is when the request was begun.

    `is_listed`: a page of the list told it, which may lag behind what the API says of single jobs.
    The watcher makes those of ELAPSED itself: time passes without a request.
    """

    job_id: str
    requested_at: float
    result: Job | PollError | Signal
    from_list: bool = False


PollRequest = Callable[[Known], Awaitable[Sequence[Observation]]]
"""One request, ready to be made; it gives an observation for each job that it can speak of.

It is told how to find what is known of a job: one that still stands so is not read anew.
"""


class Source(Protocol):
    """Somebody who knows how jobs are. `skew` is the source's clock minus ours, in seconds."""

    @property
    def is_gated(self) -> bool:
        """Whether only a trial request may go, due job or not."""

    @property
    def is_key_rejected(self) -> bool:
        """Whether the key is refused for all jobs, beyond doubt."""

    @property
    def has_answered(self) -> bool:
        """Whether the API has ever answered this process, and so has taken the key."""

    @property
    def clock_skew(self) -> float:
        """The source's clock minus ours, in seconds."""

    async def plan(self, schedule: PollQueue) -> PollRequest | None:
        """Take from the schedule what one request can show.

        None after some seconds in which it was not the host's turn, or when nothing is due.
        """


class SutroSource:
    """The Sutro API: a page of the list where that shows several due jobs, else one GET a job.

    `renew_key` reads the key's file again. A job whose object is too large is asked for its
    status alone from then on.
    """

    def __init__(
        self,
        client: SutroClient,
        rate_limiter: RateLimiter,
        *,
        listing: ListPlanner,
        now: Callable[[], float],
        renew_key: Callable[[], None],
    ) -> None:
        self._client = client
        self._rate_limiter = rate_limiter
        self._planner = listing
        self._now = now
        self._renew_key = renew_key
        self._large: set[str] = set()

    @property
    def is_gated(self) -> bool:
        """Whether only a trial request may go, due job or not."""
        return self._rate_limiter.gate.opens_at is not None

    @property
    def is_key_rejected(self) -> bool:
        """Whether the key is refused for all jobs, beyond doubt."""
        return self._rate_limiter.gate.is_rejected

    @property
    def has_answered(self) -> bool:
        """Whether the API has ever answered this process, and so has taken the key."""
        return self._rate_limiter.has_answered

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds."""
        return self._client.clock_skew

    async def plan(self, schedule: PollQueue) -> PollRequest | None:
        """Take the most overdue job, and who shares its look, once it is the host's turn."""
        is_trial = await self._rate_limiter.try_acquire()
        if is_trial is None:
            return None
        now = self._now()
        job_id = schedule.pop_probe() if is_trial else schedule.pop_due(now)
        if job_id is None:
            self._rate_limiter.release_unused()
            return None
        sheet = None if is_trial else self._plan_page(schedule, job_id)
        if sheet is None:
            return partial(self._poll_job, job_id, is_trial=is_trial)
        taken = {job_id, *sheet.expected}
        for it in sheet.expected:
            schedule.pop_also(it)
        return partial(self._poll_page, sheet, taken, schedule)

    @property
    def scanned_at(self) -> float:
        """When the top of the list was last known."""
        return self._planner.scanned_at

    def invalidate(self) -> None:
        """Take nothing of the list for known."""
        self._planner.invalidate()

    async def scan(self, since: datetime) -> AsyncIterator[Sequence[Observation]]:
        """Read the list from the top down to what is known, or older than `since`.

        Raises PollError; then what is below counts as unknown still. At a closed gate the first
        page is a trial.
        """
        sheet = self._planner.peek()
        if sheet:
            asked_at, page = await self._fetch_page(sheet)
            yield _observations(page, asked_at)
            if self._planner.reaches_known(page):
                return
        following: PageRequest | None = self._planner.first()
        first = None
        while following:
            asked_at, page = await self._fetch_page(following)
            first = first or page
            yield _observations(page, asked_at)
            is_done = self._planner.reaches_known(page) or page.is_older_than(since)
            if not is_done and not self._planner.has(following.page):
                return  # the list was begun anew meanwhile: what is below counts as unknown still
            following = None if is_done else self._planner.after(following)
        if first:
            self._planner.mark_scanned(first)

    async def _fetch_page(self, sheet: PageRequest) -> tuple[float, JobPage]:
        """Wait for the host's turn and read a page. Raises PollError."""
        is_trial = await self._rate_limiter.acquire()
        if is_trial:
            self._renew_key()
        asked_at = self._now()
        return asked_at, await self._read_page(sheet, is_trial=is_trial)

    async def _read_page(
        self, sheet: PageRequest, *, is_trial: bool, known: Known = no_known_jobs
    ) -> JobPage:
        """Read a page and learn from it. Raises PollError."""
        try:
            page = await self._client.list_jobs(
                limit=sheet.limit, cursor=sheet.page.cursor, known=known
            )
        except PollError as error:
            self._planner.fail(sheet, error)
            # A 403 may speak of the list alone, unless it is the key that is being tried.
            is_forbidden = isinstance(error, Unauthorized) and is_list_error(error)
            told = Rejected(str(error)) if is_forbidden and not is_trial else error
            self._rate_limiter.report(told, is_trial=is_trial)
            raise
        self._planner.learn_page(sheet, page)
        self._rate_limiter.report(None, is_trial=is_trial)
        return page

    def _plan_page(self, schedule: PollQueue, job_id: str) -> PageRequest | None:
        """Give the page that is worth a request, if there is one, once the API is known."""
        if (
            not self._rate_limiter.has_answered
            or job_id in self._large
            or not schedule.is_batchable(job_id)
        ):
            return None
        return self._planner.plan(job_id, schedule)

    async def _poll_page(
        self, sheet: PageRequest, taken: Collection[str], schedule: PollQueue, known: Known
    ) -> Sequence[Observation]:
        """Read a page. Who was expected there and is not is due as before."""
        asked_at = self._now()
        observations: Sequence[Observation] = ()
        try:
            page = await self._read_page(sheet, is_trial=False, known=known)
            observations = _observations(page, asked_at)
        except PollError as error:
            if not is_list_error(error) and not isinstance(error, ResponseTooLarge):
                told = _detach(error)
                observations = [Observation(it, asked_at, told, from_list=True) for it in taken]
        shown = {it.job_id for it in observations}
        for job_id in taken:
            if job_id not in shown:
                schedule.restore(job_id)
        return observations

    async def _poll_job(
        self, job_id: str, known: Known, *, is_trial: bool
    ) -> Sequence[Observation]:
        if is_trial:
            self._renew_key()
        asked_at = self._now()
        is_large = job_id in self._large
        try:
            client = self._client
            asking = client.get_status(job_id) if is_large else client.get_job(job_id, known)
            result: Job | PollError = await asking
        except PollError as error:
            result = _detach(error)
        if is_large and isinstance(result, NotFound):
            # Not every deployment has this way to ask: the job itself was there.
            self._large.discard(job_id)
            result = Transient(str(result))
        self._rate_limiter.report(
            result if isinstance(result, PollError) else None, is_trial=is_trial
        )
        self._planner.learn_job(job_id, result)
        if isinstance(result, ResponseTooLarge) and not is_large:
            log.warning("job.too_large", job_id=job_id, error=str(result))
            self._large.add(job_id)
            return await self._poll_job(job_id, known, is_trial=await self._rate_limiter.acquire())
        return (Observation(job_id, asked_at, result),)


def _detach(error: PollError) -> PollError:
    """Rid an error of its frames and its causes: they hold the answer, which can be megabytes."""
    error.__context__ = None
    return error.with_traceback(None)


def _observations(page: JobPage, asked_at: float) -> Sequence[Observation]:
    """Tell what a page shows; of a job that it shows twice, the state that is further on."""
    jobs = {job.job_id: job for job in page.jobs}
    if len(jobs) < len(page.jobs):
        jobs = {job.job_id: job for job in sorted(page.jobs, key=lambda job: job.status.rank)}
    return [Observation(it, asked_at, job, from_list=True) for it, job in jobs.items()]
