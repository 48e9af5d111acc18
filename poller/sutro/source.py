"""Where jobs are looked at: the port, and the Sutro API behind it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from poller.core.errors import NotFound, PollError, Refused, Rejected, TooLarge, Transient
from poller.core.jobs import Job
from poller.core.state import NoJob
from poller.polling.queue import Schedule
from poller.sutro.client import Known, Page, SutroClient, nobody
from poller.sutro.list_planner import Listing, Sheet, is_about_the_list
from poller.sutro.rate_limit import Budget

log = structlog.get_logger()


class Observation(NamedTuple):
    """What one request told about one job. `asked_at` is when the request was begun.

    `is_listed`: a page of the list told it, which may lag behind what the API says of single jobs.
    The watcher makes those of ELAPSED itself: time passes without a request.
    """

    job_id: str
    asked_at: float
    result: Job | PollError | NoJob
    is_listed: bool = False


Look = Callable[[Known], Awaitable[Sequence[Observation]]]
"""One request, ready to be made; it gives an observation for each job that it can speak of.

It is told how to find what is known of a job: one that still stands so is not read anew.
"""


class Source(Protocol):
    """Somebody who knows how jobs are. `skew` is the source's clock minus ours, in seconds."""

    @property
    def is_gated(self) -> bool:
        """Whether only a trial request may go, due job or not."""

    @property
    def is_refused(self) -> bool:
        """Whether the key is refused for all jobs, beyond doubt."""

    @property
    def is_answered(self) -> bool:
        """Whether the API has ever answered this process, and so has taken the key."""

    @property
    def skew(self) -> float:
        """The source's clock minus ours, in seconds."""

    async def choose(self, schedule: Schedule) -> Look | None:
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
        budget: Budget,
        *,
        listing: Listing,
        now: Callable[[], float],
        renew_key: Callable[[], None],
    ) -> None:
        self._client = client
        self._budget = budget
        self._listing = listing
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
    def is_answered(self) -> bool:
        """Whether the API has ever answered this process, and so has taken the key."""
        return self._budget.is_proven

    @property
    def skew(self) -> float:
        """The API's clock minus ours, in seconds."""
        return self._client.skew

    async def choose(self, schedule: Schedule) -> Look | None:
        """Take the most overdue job, and who shares its look, once it is the host's turn."""
        is_trial = await self._budget.chance()
        if is_trial is None:
            return None
        now = self._now()
        job_id = schedule.take_early() if is_trial else schedule.take(now)
        if job_id is None:
            self._budget.give_back()
            return None
        sheet = None if is_trial else self._sheet(schedule, job_id)
        if sheet is None:
            return partial(self._look, job_id, is_trial=is_trial)
        taken = {job_id, *sheet.expected}
        for it in sheet.expected:
            schedule.take_along(it)
        return partial(self._read, sheet, taken, schedule)

    @property
    def surveyed_at(self) -> float:
        """When the top of the list was last known."""
        return self._listing.surveyed_at

    def survey_anew(self) -> None:
        """Take nothing of the list for known."""
        self._listing.survey_anew()

    async def survey(self, since: datetime) -> AsyncIterator[Sequence[Observation]]:
        """Read the list from the top down to what is known, or older than `since`.

        Raises PollError; then what is below counts as unknown still. At a closed gate the first
        page is a trial.
        """
        sheet = self._listing.glimpse()
        if sheet:
            asked_at, page = await self._turn_to(sheet)
            yield _observed(page, asked_at)
            if self._listing.meets_the_known(page):
                return
        following: Sheet | None = self._listing.top()
        first = None
        while following:
            asked_at, page = await self._turn_to(following)
            first = first or page
            yield _observed(page, asked_at)
            is_done = self._listing.meets_the_known(page) or page.is_older_than(since)
            if not is_done and not self._listing.has(following.leaf):
                return  # the list was begun anew meanwhile: what is below counts as unknown still
            following = None if is_done else self._listing.after(following)
        if first:
            self._listing.surveyed(first)

    async def _turn_to(self, sheet: Sheet) -> tuple[float, Page]:
        """Wait for the host's turn and read a page. Raises PollError."""
        is_trial = await self._budget.turn()
        if is_trial:
            self._renew_key()
        asked_at = self._now()
        return asked_at, await self._page(sheet, is_trial=is_trial)

    async def _page(self, sheet: Sheet, *, is_trial: bool, known: Known = nobody) -> Page:
        """Read a page and learn from it. Raises PollError."""
        try:
            page = await self._client.list_jobs(
                limit=sheet.limit, cursor=sheet.leaf.cursor, known=known
            )
        except PollError as error:
            self._listing.fail(sheet, error)
            # A 403 may speak of the list alone, unless it is the key that is being tried.
            is_forbidden = isinstance(error, Refused) and is_about_the_list(error)
            told = Rejected(str(error)) if is_forbidden and not is_trial else error
            self._budget.report(told, is_trial=is_trial)
            raise
        self._listing.learn(sheet, page)
        self._budget.report(None, is_trial=is_trial)
        return page

    def _sheet(self, schedule: Schedule, job_id: str) -> Sheet | None:
        """Give the page that is worth a request, if there is one, once the API is known."""
        if not self._budget.is_proven or job_id in self._large or not schedule.is_sociable(job_id):
            return None
        return self._listing.page_for(job_id, schedule)

    async def _read(
        self, sheet: Sheet, taken: Collection[str], schedule: Schedule, known: Known
    ) -> Sequence[Observation]:
        """Read a page. Who was expected there and is not is due as before."""
        asked_at = self._now()
        observations: Sequence[Observation] = ()
        try:
            page = await self._page(sheet, is_trial=False, known=known)
            observations = _observed(page, asked_at)
        except PollError as error:
            if not is_about_the_list(error) and not isinstance(error, TooLarge):
                told = _alone(error)
                observations = [Observation(it, asked_at, told, is_listed=True) for it in taken]
        shown = {it.job_id for it in observations}
        for job_id in taken:
            if job_id not in shown:
                schedule.put_back(job_id)
        return observations

    async def _look(self, job_id: str, known: Known, *, is_trial: bool) -> Sequence[Observation]:
        if is_trial:
            self._renew_key()
        asked_at = self._now()
        is_large = job_id in self._large
        try:
            client = self._client
            asking = client.get_status(job_id) if is_large else client.get_job(job_id, known)
            result: Job | PollError = await asking
        except PollError as error:
            result = _alone(error)
        if is_large and isinstance(result, NotFound):
            # Not every deployment has this way to ask: the job itself was there.
            self._large.discard(job_id)
            result = Transient(str(result))
        self._budget.report(result if isinstance(result, PollError) else None, is_trial=is_trial)
        self._listing.learn_singly(job_id, result)
        if isinstance(result, TooLarge) and not is_large:
            log.warning("job.too_large", job_id=job_id, error=str(result))
            self._large.add(job_id)
            return await self._look(job_id, known, is_trial=await self._budget.turn())
        return (Observation(job_id, asked_at, result),)


def _alone(error: PollError) -> PollError:
    """Rid an error of its frames and its causes: they hold the answer, which can be megabytes."""
    error.__context__ = None
    return error.with_traceback(None)


def _observed(page: Page, asked_at: float) -> Sequence[Observation]:
    """Tell what a page shows; of a job that it shows twice, the state that is further on."""
    jobs = {job.job_id: job for job in page.jobs}
    if len(jobs) < len(page.jobs):
        jobs = {job.job_id: job for job in sorted(page.jobs, key=lambda job: job.status.rank)}
    return [Observation(it, asked_at, job, is_listed=True) for it, job in jobs.items()]
