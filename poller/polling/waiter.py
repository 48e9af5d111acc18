"""Waiting for the end of jobs: when it is over, and what stands in the way.

The jobs are watched as the daemon watches them, with a tracker in memory and no sinks.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import anyio

from poller.core.errors import (
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.events import EventOrigin
from poller.core.jobs import Job
from poller.core.pacing import Backoff, PollPolicy
from poller.core.state import JobEventType, LifecyclePolicy, Phase
from poller.polling.tracker import JobTracker
from poller.polling.watcher import Watcher
from poller.runtime.clock import Clock
from poller.runtime.log_throttle import LogThrottle
from poller.store import Store
from poller.sutro.client import JobPage, SutroClient, no_known_jobs
from poller.sutro.port import Observation, Source

NOT_FOUND_GRACE: Final = 60.0
"""Seconds that the API may not know a job: its id may be seconds old."""
MIN_POLLS: Final = 3
"""Polls without a response, at least, before the API counts as unreachable."""
MAX_REJECTIONS: Final = 2
"""Rejected requests for a job in a row until the job counts as rejected: one may be odd."""
GIVEN_UP: Final = frozenset({JobEventType.MISSING, JobEventType.UNRECOGNISED})
FAILED_ENDS: Final = GIVEN_UP | {JobEventType.FAILED, JobEventType.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """When a wait is over: with the last end, or sooner. Times are in seconds.

    The caller enforces `timeout`, which includes the time before the wait.
    """

    is_any: bool = False
    is_fail_fast: bool = False
    timeout: float = math.inf
    unreachable_after: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The state of one job. `job` is None until it is observed, `end` until it has ended.

    MISSING and UNRECOGNISED are ends too. While a job waits for its last fields, `end` is None.
    """

    job_id: str
    job: Job | None = None
    end: JobEventType | None = None


class ProgressListener(Protocol):
    """Receives the progress of a wait."""

    def report(self, text: str) -> None:
        """Receive a problem, in one line."""

    def update(self, results: Sequence[JobResult]) -> None:
        """Receive the results of all jobs so far, changed or not."""


@dataclass(slots=True, kw_only=True)
class JobWaiter:
    """One wait for some jobs. Run it once."""

    source: Source
    store: Store
    origin: EventOrigin
    listener: ProgressListener
    clock: Clock
    options: WaitOptions = WaitOptions()
    policy: PollPolicy = field(default_factory=PollPolicy)
    rules: LifecyclePolicy = field(default_factory=LifecyclePolicy)
    concurrency: int = 16
    random: Callable[[], float] = random.random
    _job_ids: Sequence[str] = field(default=(), init=False)
    _seen: dict[str, Job] = field(default_factory=dict, init=False)
    _warned: set[str] = field(default_factory=set, init=False)
    _has_responded: bool = field(default=False, init=False)
    _silent_since: float | None = field(init=False)
    _last_error: PollError | None = field(default=None, init=False)
    _hopeless: PollError | None = field(default=None, init=False)
    _rejections: dict[str, list[Rejected]] = field(default_factory=dict, init=False)
    _throttle: LogThrottle = field(init=False)
    _tracker: JobTracker = field(init=False)
    _watcher: Watcher = field(init=False)
    _changed: anyio.Event = field(default_factory=anyio.Event, init=False)

    def __post_init__(self) -> None:
        """Make the watcher. Three wrong ids are three wrong ids here, not a wrong URL."""
        now = self.clock.steady
        self._silent_since = now()
        self._throttle = LogThrottle(now)
        grace = min(self.rules.not_found_grace, NOT_FOUND_GRACE)
        self.rules = replace(self.rules, not_found_grace=grace)
        self._tracker = JobTracker(
            self.store,
            rules=self.rules,
            origin=self.origin,
            clock=self.clock,
            wake=self._wake,
        )
        self._watcher = Watcher(
            self.source,
            self._tracker,
            policy=self._at_least_as_often(self.policy),
            random=self.random,
            concurrency=self.concurrency,
            guard_jobs=math.inf,
            known=no_known_jobs,  # the progress shows fields that change within a status
            on_observation=self._note,
        )

    async def run(self, job_ids: Sequence[str]) -> None:
        """Wait until the terms are met. Raises the PollError that leaves no hope of that."""
        self._job_ids = job_ids
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._watcher.run, name="watcher")
            await self._watcher.watch(job_ids)
            error = await self._until_over()
            watching.cancel_scope.cancel()
        if error:
            raise error

    @property
    def results(self) -> list[JobResult]:
        """How each job stands, in the order in which they were named."""
        return [self._result(job_id) for job_id in self._job_ids]

    async def _until_over(self) -> PollError | None:
        while True:
            changed = self._changed = anyio.Event()
            results = self.results
            self.listener.update(results)
            patience = self._silence_allowed()
            is_over = self._is_over(results)
            error = self._hopeless or (None if is_over else self._rejection(results))
            if is_over or error:
                return error
            if patience <= 0.0:
                return unreachable(self._last_error, self.options.unreachable_after)
            with anyio.move_on_after(patience):
                await changed.wait()

    def _is_over(self, results: Sequence[JobResult]) -> bool:
        ends = [result.end for result in results if result.end]
        if self.options.is_fail_fast and not FAILED_ENDS.isdisjoint(ends):
            return True
        return len(ends) >= (1 if self.options.is_any else len(results))

    def _rejection(self, results: Sequence[JobResult]) -> Rejected | None:
        """Return the error of a job that the API rejects, if no other is still to end."""
        open_ids = [result.job_id for result in results if not result.end]
        errors = [
            Rejected(f"{job_id}: {self._rejections[job_id][-1]}")
            for job_id in open_ids
            if len(self._rejections.get(job_id, ())) >= MAX_REJECTIONS
        ]
        is_enough = self.options.is_fail_fast or len(errors) == len(open_ids)
        return errors[0] if errors and is_enough else None

    def _result(self, job_id: str) -> JobResult:
        if job_id not in self._tracker:
            return JobResult(job_id=job_id)
        state, seen = self._tracker[job_id], self._seen.get(job_id)
        if state.is_given_up:
            is_missing = state.phase is Phase.MISSING
            end = JobEventType.MISSING if is_missing else JobEventType.UNRECOGNISED
            return JobResult(job_id=job_id, job=seen, end=end)
        if state.phase is Phase.DONE:
            end = JobEventType(f"job.{state.status.lower()}")
            return JobResult(job_id=job_id, job=state.job, end=end)
        return JobResult(job_id=job_id, job=seen)

    def _silence_allowed(self) -> float:
        """Return for how many seconds the API may still be silent."""
        if self._silent_since is None:
            return math.inf
        return self._silent_since + self.options.unreachable_after - self.clock.steady()

    def _at_least_as_often(self, policy: PollPolicy) -> PollPolicy:
        """Poll often enough that one failed poll is no long silence."""
        most = max(self.options.unreachable_after / MIN_POLLS, policy.minimum)
        return replace(policy, maximum=min(policy.maximum, most))

    def _wake(self) -> None:
        self._changed.set()

    def _note(self, seen: Observation) -> None:
        """Note what the listener gets; what it means for the job, the tracker decides.

        A list page shows other jobs too, and may lag.
        """
        if seen.from_list and (seen.job_id not in self._tracker or self._is_old(seen)):
            return
        match seen.result:
            case Job() as job:
                self._seen[seen.job_id] = job
            case NotFound():
                self._warn(seen.job_id)
            case PollError() as error:
                self._note_failure(seen, error)
        if isinstance(seen.result, Job | NotFound):
            self._has_responded = True
            self._rejections.pop(seen.job_id, None)
        if not isinstance(seen.result, Transient | WrongEndpoint):
            self._silent_since = None
        self._wake()

    def _is_old(self, seen: Observation) -> bool:
        known = self._seen.get(seen.job_id)
        return (
            known is not None
            and isinstance(seen.result, Job)
            and (seen.result.status.rank < known.status.rank)
        )

    def _warn(self, job_id: str) -> None:
        """Report the first 404 at once: a wrong ID is not worth the wait."""
        if job_id not in self._warned:
            self._warned.add(job_id)
            grace = f"{self.rules.not_found_grace:g} s"
            self.listener.report(f"{job_id}: no such job (404); missing if that lasts {grace}")

    def _note_failure(self, seen: Observation, error: PollError) -> None:
        if self._is_hopeless(error):
            self._hopeless = error
            return
        if self._silent_since is None:
            self._silent_since = seen.requested_at
        self._last_error = error
        subject = ""
        if isinstance(error, Rejected):
            subject = f"{seen.job_id}: "
            self._rejections.setdefault(seen.job_id, []).append(error)
        if self._throttle.should_log(f"{subject}{error}"):
            hint = "" if self._has_responded else retry_hint(error)
            self.listener.report(f"{subject}{error}; retrying{hint}")

    def _is_hopeless(self, error: PollError) -> bool:
        """A rejection before the first response is wrong from the start; later it may pass.

        A rejected key gets a second probe then, and a 403 always: it may be about one job alone.
        """
        if isinstance(error, Unauthorized) and self.source.is_key_rejected:
            return True
        is_wrong_key = isinstance(error, Unauthorized) and not error.is_forbidden
        is_wrong = is_wrong_key or isinstance(error, WrongEndpoint)
        return is_wrong and not self._has_responded


def retry_hint(error: PollError) -> str:
    """Return what to check if no request has reached the API so far, and the error does not say."""
    is_silent = isinstance(error, Transient) and "SUTRO_API_URL" not in str(error)
    return "; if this lasts, check SUTRO_API_URL" if is_silent else ""


def unreachable(error: PollError | None, after: float) -> Transient:
    """Return the error of an API that has not responded for so many seconds."""
    return Transient(f"no response for {after:g} s" + (f": {error}" if error else ""))


async def find_latest(client: SutroClient, listener: ProgressListener, terms: WaitOptions) -> str:
    """Name the newest job of the account. Raises PollError, NotFound when it has none."""
    backoff = Backoff()
    last_error: PollError | None = None
    with anyio.move_on_after(terms.unreachable_after):
        for failures in itertools.count(1):
            try:
                return _newest(await client.list_jobs(limit=1))
            except (Transient, RateLimited) as error:
                last_error, pause = error, getattr(error, "retry_after", None)
            listener.report(f"{last_error}; retrying{retry_hint(last_error)}")
            await anyio.sleep(pause or backoff.delay(failures, random.random))
    raise unreachable(last_error, terms.unreachable_after)


def _newest(page: JobPage) -> str:
    if not page.jobs:
        raise NotFound("the account has no job yet: submit one first")
    return page.jobs[0].job_id
