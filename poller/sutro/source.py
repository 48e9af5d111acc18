"""The Sutro API as a source of observations: one request a turn of the rate limiter."""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from poller.core.errors import (
    NotFound,
    PollError,
    Rejected,
    ResponseTooLarge,
    StaleConnection,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.jobs import Job
from poller.core.poll_queue import PollQueue
from poller.sutro.client import JobPage, SutroClient, detach, no_known_jobs
from poller.sutro.list_page import ListPage, PageRead, PageRequest
from poller.sutro.list_planner import ListPlanner, is_list_error
from poller.sutro.list_scanner import ListScanner
from poller.sutro.page_view import PageView, observations
from poller.sutro.port import Known, Observation, PollRequest
from poller.sutro.rate_limit import SCANS, RateLimiter

UNLIKELY_ID: Final = "sutro-poller-check"
"""No job has this id: with a valid key, the API responds with 404."""

log = structlog.get_logger()


class SutroSource:
    """Polls a page of the list where that shows several jobs, else one job with a GET.

    `renew_key` reads the key's file again. Once the object of a job is too large, a page that shows
    it is read, or its status alone; at its end the object is requested again, for the cost and the
    tokens.
    """

    def __init__(
        self,
        client: SutroClient,
        rate_limiter: RateLimiter,
        *,
        planner: ListPlanner,
        now: Callable[[], float],
        renew_key: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._rate_limiter = rate_limiter
        self._planner = planner
        self._now = now
        self._renew_key = renew_key
        self._scanner = ListScanner(planner, self._fetch_page, now)
        # The jobs whose object was too large, and whether to request their status alone.
        self._large: dict[str, bool] = {}
        self._is_list_forbidden = False

    @property
    def is_gated(self) -> bool:
        """Return whether only a probe may be sent, whether or not a job is due."""
        return self._rate_limiter.gate.opens_at is not None

    @property
    def is_key_rejected(self) -> bool:
        """Return whether the API key is rejected for all jobs, confirmed by a probe."""
        return self._rate_limiter.gate.is_rejected

    @property
    def is_key_accepted(self) -> bool:
        """Return whether the API has accepted the key at least once in this process."""
        return self._rate_limiter.is_key_accepted

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds."""
        return self._client.clock_skew

    @property
    def is_clock_right(self) -> bool:
        """Return whether the API's clock has confirmed ours."""
        return self._client.is_clock_right

    async def plan(self, queue: PollQueue) -> PollRequest | None:
        """Return a request for the page or the job that is due, or for a probe."""
        is_probe = await self._rate_limiter.try_acquire()
        if is_probe is None:
            return None
        due = queue.probe_job() if is_probe else self._due(queue)
        if due is None:
            self._rate_limiter.release_unused()
            return None
        request = None if is_probe else self._plan_page(queue, due)
        job_id = queue.jobs_on(due)[0] if isinstance(due, ListPage) else str(due)
        if is_probe and self._rate_limiter.gate.needs_check(job_id):
            return PollRequest((job_id,), partial(self._poll_after_check, job_id))
        if request is None:
            # At its end the object is requested again, for the cost and the tokens.
            is_status_only = self._large.get(job_id, False) and queue.is_batchable(job_id)
            poll = partial(self._poll_job, job_id, is_probe=is_probe, is_status_only=is_status_only)
            return PollRequest((job_id,), poll)
        job_ids = () if isinstance(due, ListPage) else (job_id,)
        return PollRequest(job_ids, partial(self._poll_page, request, job_ids, queue), request.page)

    def _due(self, queue: PollQueue) -> Hashable | None:
        """Return the page or the job that is due; the jobs of a lost page are due alone."""
        while isinstance(due := queue.due(self._now()), ListPage):
            if self._planner.is_readable(due):
                break
            queue.dissolve(due)
        return due

    @property
    def scanned_at(self) -> float:
        """When the top of the list was last known; -inf if what is below it is to be read."""
        return self._scanner.scanned_at

    @property
    def is_surveyed(self) -> bool:
        """Return whether the list was read down to the oldest job that counts."""
        return self._scanner.survey.is_complete

    def forget(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that are not polled any more."""
        for job_id in job_ids:
            self._large.pop(job_id, None)
            self._planner.forget(job_id)

    def invalidate(self) -> None:
        """Forget which jobs of the list are known."""
        self._scanner.survey.reset()

    async def scan(self, since: datetime) -> AsyncIterator[Sequence[Observation]]:
        """Read the list as far as it may have changed; `ListScanner.scan` says how far that is."""
        async for read in self._scanner.scan(since, lambda: self.clock_skew):
            yield self._view(read, read.page.jobs)

    def retry(self) -> None:
        """Retry a rejected API key, the search for the prefix of the URL, and the list."""
        self._client.find_again()
        self._planner.retry()
        self._rate_limiter.retry()

    async def _fetch_page(self, request: PageRequest) -> PageRead:
        """Wait for a turn and read a page. Raises PollError.

        Where a page is forbidden, one GET shows whether the API key is rejected for all requests.
        """
        is_probe = await self._rate_limiter.acquire(SCANS)
        if is_probe and self._is_list_forbidden:
            await self._check_key(is_probe=True)
            is_probe = await self._rate_limiter.acquire(SCANS)
        if is_probe:
            await self._renew_key()
        requested_at = self._now()
        try:
            page = await self._read_page(request, is_probe=is_probe)
        except Rejected:
            if self._is_list_forbidden:
                await self._check_key(is_probe=await self._rate_limiter.acquire(SCANS))
            raise
        return PageRead(request, page, requested_at)

    async def _check_key(self, *, is_probe: bool) -> None:
        """Request a job that does not exist, which needs a valid key. Raises PollError."""
        if is_probe:
            await self._renew_key()
        try:
            await self._client.get_job(UNLIKELY_ID)
        except PollError as error:
            self._rate_limiter.report(error, is_probe=is_probe)
            if isinstance(error, NotFound):
                return
            # Unless a GET shows that the key is rejected, the next probe is a page again.
            self._is_list_forbidden = isinstance(error, Unauthorized)
            raise
        self._rate_limiter.report(None, is_probe=is_probe)

    async def _read_page(
        self, request: PageRequest, *, is_probe: bool, known: Known = no_known_jobs
    ) -> JobPage:
        """Read a page and learn from it; a 403 may concern the list alone. Raises PollError."""
        try:
            page = await self._client.list_jobs(
                limit=request.limit, cursor=request.page.cursor, known=known
            )
        except PollError as error:
            is_forbidden = isinstance(error, Unauthorized) and error.is_forbidden
            failure = Rejected("the API forbids the list of jobs (403)") if is_forbidden else error
            self._is_list_forbidden = is_forbidden
            self._planner.fail(request, failure)
            self._rate_limiter.report(failure, is_probe=is_probe)
            raise failure from None
        self._is_list_forbidden = False
        self._planner.learn_page(request, page)
        self._rate_limiter.report(None, is_probe=is_probe)
        return page

    def _plan_page(self, queue: PollQueue, due: Hashable) -> PageRequest | None:
        """Return the page that is worth a request, if there is one, once the API is known."""
        if isinstance(due, ListPage):
            return self._planner.read_again(due, queue)
        job_id = str(due)
        if not self._rate_limiter.is_key_accepted or not queue.is_waiting(job_id):
            return None
        if job_id in self._large:
            page = self._planner.locate(job_id)
            return page if page or self._large[job_id] else self._planner.search(job_id)
        return None if queue.is_in_sum(job_id) else self._planner.plan(job_id, queue)

    async def _poll_page(
        self, request: PageRequest, job_ids: Sequence[str], queue: PollQueue, known: Known
    ) -> Sequence[Observation]:
        """Read a page; a failure that is not the list's own is one of all its jobs."""
        requested_at = self._now()
        try:
            page = await self._read_page(request, is_probe=False, known=known)
        except PollError as error:
            if is_list_error(error) or isinstance(error, ResponseTooLarge | StaleConnection):
                return ()
            result = detach(error)
            failed = dict.fromkeys((*job_ids, *queue.jobs_on(request.page)))
            return [Observation(job_id, requested_at, result, from_list=True) for job_id in failed]
        self._scanner.survey.record_page(request, page, requested_at, self.clock_skew)
        as_known = queue.members(request.page)
        news = [
            job
            for job in page.jobs
            if job.job_id not in as_known or job.job_id not in page.unchanged
        ]
        return self._view(PageRead(request, page, requested_at), news)

    def _view(self, read: PageRead, jobs: Sequence[Job]) -> Sequence[Observation]:
        """Return what a page shows of some of its jobs; a page that was forgotten has no place."""
        has_place = self._planner.has(read.request.page)
        return PageView(read, jobs) if has_place else observations(jobs, read.requested_at)

    async def _poll_after_check(self, job_id: str, known: Known) -> Sequence[Observation]:
        """Poll a job unless a check shows that the key is rejected: the job may prove nothing."""
        requested_at = self._now()
        try:
            await self._check_key(is_probe=True)
        except Unauthorized as error:
            return (Observation(job_id, requested_at, detach(error)),)
        except Rejected:  # the response to unknown ids
            self._rate_limiter.gate.is_checkable = False
        except WrongEndpoint:  # another server, perhaps for a while only
            pass
        except PollError:
            return ()
        is_probe = await self._rate_limiter.acquire()
        return await self._poll_job(job_id, known, is_probe=is_probe, is_status_only=False)

    async def _poll_job(
        self, job_id: str, known: Known, *, is_probe: bool, is_status_only: bool
    ) -> Sequence[Observation]:
        if is_probe:
            await self._renew_key()
        requested_at = self._now()
        call = self._client.get_status if is_status_only else self._client.get_job
        try:
            result: Job | PollError = await call(job_id, known)
        except PollError as error:
            result = detach(error)
        if is_status_only and isinstance(result, NotFound | WrongEndpoint):
            # Not every deployment has this endpoint: the job itself was there.
            self._large[job_id] = False
            result = Transient(str(result))
        failure = result if isinstance(result, PollError) else None
        self._rate_limiter.report(failure, is_probe=is_probe, job_id=job_id)
        self._planner.learn_job(job_id, result)
        if isinstance(result, StaleConnection):
            return ()  # an unobserved job stays due, and the next request has a new connection
        if isinstance(result, ResponseTooLarge) and not is_status_only:
            if job_id not in self._large:
                log.warning("job.too_large", job_id=job_id, error=str(result))
            self._large[job_id] = True
            is_probe = await self._rate_limiter.acquire()
            return await self._poll_job(job_id, known, is_probe=is_probe, is_status_only=True)
        return (Observation(job_id, requested_at, result),)
