"""Which jobs of the account are watched without being named, and when the list is scanned.

Jobs that had ended before discovery first ran with this database, deployment and filter, or so long
ago that their record may be pruned, are not announced. An ended job without a completion time that
can be believed is new if it was created or started since, or if the list did not show it at first.
"""

import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Container,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from poller.core.errors import PollError
from poller.core.jobs import Job, aware, is_plausible
from poller.core.outbox import MIN_JOB_RETENTION, WriteBatch
from poller.core.pacing import Backoff, Random
from poller.core.patterns import matches
from poller.runtime.clock import Clock
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.runtime.wakeup import Wakeup
from poller.store import Store
from poller.sutro.list_planner import is_list_error, list_retry_delay
from poller.sutro.port import Observation

STARTED_AT_FLAG: Final = "born"
BACKOFF: Final = Backoff()
MAX_ENDED: Final = 10_000
"""How many jobs that have ended are remembered as announced, without a look-up in the store."""

log = structlog.get_logger()


class JobListing(Protocol):
    """Reads the account's list of jobs."""

    @property
    def scanned_at(self) -> float:
        """When the top of the list was last known, in seconds of `Clock.steady`."""

    @property
    def is_surveyed(self) -> bool:
        """Return whether the list was read down to the oldest job that counts."""

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds."""

    def invalidate(self) -> None:
        """Forget which jobs of the list are known."""

    def scan(self, since: datetime) -> AsyncIterator[Sequence[Observation]]:
        """Read the list as far as it may have changed. Raises PollError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryFilter:
    """Patterns for name and model, and the maximum age of a job since its creation, in seconds."""

    name: str = "*"
    model: str = "*"
    max_age: float = 7 * 86_400.0

    def admits(
        self, job: Job, *, now: datetime, started_at: datetime, is_new: bool = False
    ) -> bool:
        """Return whether to watch a job: by times of the API, or because it `is_new`."""
        if not matches(job.name, self.name) or not matches(job.model, self.model):
            return False
        if is_plausible(job.datetime_created, now) and job.datetime_created < self.since(now):
            return False
        if not job.status.is_terminal:
            return True
        latest = _latest_date(job, now)
        if latest is None:
            return is_new
        retained_since = now - timedelta(seconds=MIN_JOB_RETENTION)
        return latest >= retained_since and (is_new or latest >= started_at)

    def since(self, now: datetime) -> datetime:
        """Return when the oldest job that counts was created."""
        return now - timedelta(seconds=self.max_age)


def _latest_date(job: Job, now: datetime) -> datetime | None:
    """Return when a job ended, or else a time before its end, or None if no date is plausible."""
    if is_plausible(job.datetime_completed, now):
        return job.datetime_completed
    dates = (job.datetime_created, job.datetime_started)
    return max((date for date in dates if is_plausible(date, now)), default=None)


class Discovery:
    """Scans the list every `interval` seconds, or later when polls have read its top meanwhile."""

    def __init__(
        self,
        source: JobListing,
        store: Store,
        *,
        deployment: str,
        job_filter: DiscoveryFilter,
        interval: float,
        clock: Clock,
        random: Random,
    ) -> None:
        self._source = source
        self._store = store
        self._filter = job_filter
        self._start_flag = start_flag(deployment, job_filter)
        self._interval = interval
        self._clock = clock
        self._random = random
        self._throttle = LogThrottle(clock.steady)
        self._started_at = clock.now()
        self._started_at_api_time: datetime | None = None
        self._needs_rescan = True
        self._retry = Wakeup()
        self._rejections = 0
        self._undated: set[str] = set()

    @property
    def is_rejected(self) -> bool:
        """Return whether the API has rejected the list more than once in a row."""
        return self._rejections > 1

    def admits(self, job: Job) -> bool:
        """Return whether to watch a job that a page shows."""
        now, started_at = self._api_time(), self._start_in_api_time()
        is_undated = job.status.is_terminal and not is_plausible(job.datetime_completed, now)
        if is_undated and not self._source.is_surveyed:
            self._undated.add(job.job_id)
        is_new = is_undated and job.job_id not in self._undated
        return self._filter.admits(job, now=now, started_at=started_at, is_new=is_new)

    def rescan(self) -> None:
        """Read the whole list again: the store has lost what was recorded of it."""
        self._needs_rescan = True

    def retry(self) -> None:
        """Read the list now."""
        self._retry.notify()

    async def run(self, ingest: Callable[[Sequence[Observation]], Awaitable[None]]) -> None:
        """Scan until cancelled; pass `ingest` what each page shows."""
        failures, since = 0, self._retry.count
        while True:
            if self._needs_rescan:
                await self._begin()
            delay = self._source.scanned_at + self._interval - self._clock.steady()
            if delay > 0.0 and not await self._retry.wait(delay, since=since):
                continue
            since = self._retry.count
            try:
                async for observations in self._source.scan(self._filter.since(self._api_time())):
                    self._start_in_api_time()  # by now the API's clock is known
                    await ingest(observations)
                failures = self._rejections = 0
            except PollError as error:
                await ingest(())  # a rejected key is announced though there is no job to poll
                delay = self._delay_after(error, failures, self._rejections)
                failures += 1
                self._rejections = self._rejections + 1 if is_list_error(error) else 0
                if await self._retry.wait(delay, since=since):
                    failures = self._rejections = 0

    async def _begin(self) -> None:
        self._needs_rescan = False
        self._started_at = await until_available(
            self._load_start, on_error=partial(log_store_error, self._throttle)
        )
        self._started_at_api_time = None
        self._source.invalidate()

    def _api_time(self) -> datetime:
        """Return the API's time, which does not jump when our wall clock is set."""
        return datetime.fromtimestamp(self._clock.steady() + self._source.clock_skew, UTC)

    def _start_in_api_time(self) -> datetime:
        """Return the API's time of the first start, fixed once: the clocks can drift apart."""
        if self._started_at_api_time is None:
            self._started_at_api_time = self._started_at + timedelta(
                seconds=self._source.clock_skew
            )
        return self._started_at_api_time

    async def _load_start(self) -> datetime:
        """Return when discovery first ran with this scope, and record it the first time."""
        flags = await self._store.get_flags()
        recorded = flags.get(self._start_flag)
        if recorded is None:
            is_first = not any(name.startswith(f"{STARTED_AT_FLAG} ") for name in flags)
            # Older versions recorded one start for all scopes: it is that of the first one now.
            recorded = flags.get(STARTED_AT_FLAG) if is_first else None
            recorded = recorded or self._started_at.isoformat()
            await self._store.write(WriteBatch(flags={self._start_flag: recorded}))
        # A start in the future was recorded by a clock that was wrong.
        return min(_parse_moment(recorded) or self._started_at, self._started_at)

    def _delay_after(self, error: PollError, failures: int, rejections: int) -> float:
        """Return the seconds to wait after an error, by how many came before it in a row."""
        if is_list_error(error):
            delay = list_retry_delay(rejections)
            log.error("discovery.unavailable", error=str(error), retry_in=delay)
            return delay
        if occurrences := self._throttle.should_log(str(error)):
            log.warning("discovery.failed", error=str(error), occurrences=occurrences)
        return max(self._interval, BACKOFF.delay(failures + 1, self._random))


def start_flag(deployment: str, job_filter: DiscoveryFilter) -> str:
    """Return the name of the flag that has the first start for a deployment and a filter."""
    scope = json.dumps([deployment, job_filter.name, job_filter.model], ensure_ascii=False)
    return f"{STARTED_AT_FLAG} {scope}"


def _parse_moment(text: str) -> datetime | None:
    try:
        return aware(datetime.fromisoformat(text))
    except ValueError:
        return None


@dataclass(slots=True)
class DiscoveredJobs:
    """The ids of the jobs that were discovered and have not ended.

    `pending` are those of them that are not polled yet.
    """

    admits: Callable[[Job], bool] = lambda _job: False
    pending: set[str] = field(default_factory=set)
    _job_ids: set[str] = field(default_factory=set)
    _ended: dict[str, None] = field(default_factory=dict)

    def __contains__(self, job_id: object) -> bool:
        """Return whether a job was discovered and has not ended."""
        return job_id in self._job_ids

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of all discovered jobs."""
        return iter(self._job_ids)

    def add(self, job_ids: Iterable[str]) -> None:
        """Add jobs that were discovered in an earlier run."""
        self._job_ids.update(job_ids)

    def consider(self, observations: Iterable[Observation], *, watched: Container[str]) -> None:
        """Add the jobs that a page shows and `admits`, unless they are watched, or have ended."""
        found = [
            seen.job_id
            for seen in observations
            if seen.from_list
            and isinstance(seen.result, Job)
            and seen.job_id not in watched
            and seen.job_id not in self._ended
            and self.admits(seen.result)
        ]
        self.pending.update(found)
        self.add(found)

    def retain(self, job: Job | None) -> bool:
        """Keep a job that is named no more, if it is one to discover; return whether it is."""
        if job is None or not self.admits(job):
            return False
        self.add([job.job_id])
        return True

    def end(self, job_id: str, *, may_return: bool = False) -> None:
        """Remove a job, if it was discovered; discover it again only if it `may_return`."""
        if job_id not in self._job_ids:
            return
        self._job_ids.discard(job_id)
        self.pending.discard(job_id)
        if may_return:
            return
        self._ended[job_id] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def forget_ended(self) -> None:
        """Allow jobs that have ended to be discovered again."""
        self._ended.clear()
