"""Which jobs of the account are watched without being named, and when the list is looked at.

New jobs come on top of the list. Each look at it goes down to what the last one has seen; the
first goes down to the oldest job that counts. What had ended before this database began, or so
long ago that what was told of it may be forgotten, is old news: it is never told.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final, Protocol

import anyio
import structlog

from poller.core.errors import PollError, StoreUnavailable
from poller.core.jobs import Job
from poller.core.outbox import WriteBatch
from poller.core.pacing import Backoff, Random
from poller.runtime.clock import Clock
from poller.runtime.log_throttle import LogThrottle
from poller.store import DELIVERED_RETENTION, Store
from poller.sutro.list_planner import DISABLED_SECONDS, is_list_error
from poller.sutro.port import Observation

STARTED_AT_FLAG: Final = "born"
STORE_RETRY: Final = 5.0
BACKOFF: Final = Backoff()

log = structlog.get_logger()


class JobListing(Protocol):
    """Somebody who can read the account's list. `surveyed_at` is when its top was last known."""

    @property
    def scanned_at(self) -> float:
        """When the top of the list was last known, in seconds of `Clock.steady`."""

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds."""

    def invalidate(self) -> None:
        """Take nothing of the list for known."""

    def scan(self, since: datetime) -> AsyncIterator[Sequence[Observation]]:
        """Read the list from the top down to what is known, or older. Raises PollError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryFilter:
    """Which jobs count: globs of name and model, and for how many seconds after their creation."""

    name: str = "*"
    model: str = "*"
    max_age: float = 7 * 86_400.0

    def admits(self, job: Job, *, now: datetime, born: datetime) -> bool:
        """Tell whether a job is to be watched. `now` and `born` are times of the API's clock."""
        if not fnmatchcase(job.name or "", self.name) or not fnmatchcase(
            job.model or "", self.model
        ):
            return False
        if job.datetime_created and job.datetime_created < self.since(now):
            return False
        return not job.status.is_terminal or self._is_news(job, now=now, born=born)

    def since(self, now: datetime) -> datetime:
        """Say when the oldest job that counts was created."""
        return now - timedelta(seconds=self.max_age)

    def _is_news(self, job: Job, *, now: datetime, born: datetime) -> bool:
        ended = job.datetime_completed or job.datetime_created
        forgotten = now - timedelta(seconds=DELIVERED_RETENTION)
        return ended is not None and ended >= max(born, forgotten)


class Discovery:
    """Look at the list every `every` seconds, or less often when others have looked at its top."""

    def __init__(
        self,
        source: JobListing,
        store: Store,
        *,
        wanted: DiscoveryFilter,
        every: float,
        clock: Clock,
        random: Random,
    ) -> None:
        self._source = source
        self._store = store
        self._filter = wanted
        self._every = every
        self._clock = clock
        self._random = random
        self._repeats = LogThrottle(clock.steady)
        self._started_at = clock.now()
        self._started_at_api_time: datetime | None = None
        self._needs_rescan = True

    def admits(self, job: Job) -> bool:
        """Tell whether a job that a page shows is to be watched."""
        return self._filter.admits(job, now=self._api_time(), born=self._start_in_api_time())

    def rescan(self) -> None:
        """Read the whole list again: the store has lost what was recorded of it."""
        self._needs_rescan = True

    async def run(self, take_in: Callable[[Sequence[Observation]], Awaitable[None]]) -> None:
        """Hand over what each page shows, for ever."""
        failures = 0
        while True:
            if self._needs_rescan:
                await self._begin()
            wait = self._source.scanned_at + self._every - self._clock.steady()
            if wait > 0.0:
                await anyio.sleep(wait)
                continue
            try:
                async for seen in self._source.scan(self._filter.since(self._api_time())):
                    self._start_in_api_time()  # by now the API's clock is known
                    await take_in(seen)
                failures = 0
            except PollError as error:
                failures += 1
                await take_in(())  # a refused key is told though there is no job to ask about
                await anyio.sleep(self._pause(error, failures))

    async def _begin(self) -> None:
        self._needs_rescan = False
        self._started_at, self._started_at_api_time = await self._load_start(), None
        self._source.invalidate()

    def _api_time(self) -> datetime:
        """Give the API's time: that does not jump when our wall clock is set."""
        return datetime.fromtimestamp(self._clock.steady() + self._source.clock_skew, UTC)

    def _start_in_api_time(self) -> datetime:
        """Give the API's time of the birth, which stays: the two clocks can part later."""
        if self._started_at_api_time is None:
            self._started_at_api_time = self._started_at + timedelta(
                seconds=self._source.clock_skew
            )
        return self._started_at_api_time

    async def _load_start(self) -> datetime:
        """Say when this database began, and write it down at the first time."""
        while True:
            try:
                if (written := (await self._store.get_flags()).get(STARTED_AT_FLAG)) is None:
                    await self._store.write(
                        WriteBatch(flags={STARTED_AT_FLAG: self._started_at.isoformat()})
                    )
                    return self._started_at
            except StoreUnavailable:
                await anyio.sleep(STORE_RETRY)
            else:
                # A birth that lies ahead was written by a clock that was wrong.
                return min(_moment(written) or self._started_at, self._started_at)

    def _pause(self, error: PollError, failures: int) -> float:
        if is_list_error(error):
            log.error("discovery.unavailable", error=str(error), retry_in=DISABLED_SECONDS)
            return DISABLED_SECONDS
        if occurrences := self._repeats.should_log(str(error)):
            log.warning("discovery.failed", error=str(error), occurrences=occurrences)
        return max(self._every, BACKOFF.delay(failures, self._random))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


MAX_ENDED: Final = 10_000
"""How many that have ended are known as told, without a look into the store."""


def _admits_nobody(_job: Job) -> bool:
    return False


@dataclass(slots=True)
class DiscoveredJobs:
    """The ids of the jobs that were found and have not ended.

    `newcomers` are those of them whom nobody has taken in yet.
    """

    admits: Callable[[Job], bool] = _admits_nobody
    pending: set[str] = field(default_factory=set)
    _job_ids: set[str] = field(default_factory=set)
    _ended: dict[str, None] = field(default_factory=dict)

    def __contains__(self, job_id: object) -> bool:
        """Tell whether a job was found and has not ended."""
        return job_id in self._job_ids

    def __iter__(self) -> Iterator[str]:
        """Go through the ids of all found jobs."""
        return iter(self._job_ids)

    def add(self, job_ids: Iterable[str]) -> None:
        """Take in jobs that were found before."""
        self._job_ids.update(job_ids)

    def consider(self, jobs: Iterable[Job]) -> None:
        """Take in who is admitted among jobs that are not watched, but not once more."""
        found = [it.job_id for it in jobs if it.job_id not in self._ended and self.admits(it)]
        self.pending.update(found)
        self.add(found)

    def retain(self, job: Job | None) -> bool:
        """Take in a job that is named no more, if a page would have had it watched; say so."""
        if job is None or not self.admits(job):
            return False
        self.add([job.job_id])
        return True

    def end(self, job_id: str) -> None:
        """Let go of a job, if it was found, and do not find it again."""
        if job_id not in self._job_ids:
            return
        self._job_ids.discard(job_id)
        self.pending.discard(job_id)
        self._ended[job_id] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def forget_ended(self) -> None:
        """Let those that have ended be found again."""
        self._ended.clear()
