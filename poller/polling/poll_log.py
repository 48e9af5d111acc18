"""What the watcher writes into the log, and how often: no line for a healthy look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from poller.core.errors import NotFound, PollError, Rejected, StoreUnavailable
from poller.core.jobs import Job
from poller.core.state import JobState, Phase, Remark
from poller.polling.tracker import Verdict
from poller.runtime.log_throttle import Repeats
from poller.sutro.source import Observation

REMEMBERED: Final = 10_000
A_MINUTE: Final = 60.0
"""For so long new ids may be unknown before others have been asked again: that is no news."""

STRETCHED: Final = 1.5
"""So many times as long as they should be are waits when the budget binds beyond doubt."""
RELAXED: Final = 1.2

log = structlog.get_logger()


@dataclass(slots=True)
class Journal:
    """Log lines on jobs and the API. A repeated failure is told the 1st, 2nd, 4th, ... time."""

    now: Callable[[], float]
    _repeats: Repeats = field(init=False)
    _told: set[tuple[str, ...]] = field(default_factory=set)
    _estranged_since: float | None = None
    _is_told: bool = False
    _stretched_since: float | None = None
    _is_stretched: bool = False

    def __post_init__(self) -> None:
        """Begin with nothing told."""
        self._repeats = Repeats(self.now)

    @property
    def is_estranged(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for a minute."""
        return self._is_told

    def verdict(self, verdict: Verdict) -> None:
        """Tell how a job changed, and what is odd about what was seen of it."""
        decision, seen = verdict.decision, verdict.seen
        if decision is None:
            return
        before, after = verdict.before, decision.state
        if (before.phase, before.status) != (after.phase, after.status):
            words = {"before": _word(before), "after": _word(after)}
            known = {key: word for key, word in words.items() if word}
            log.info("job.changed", job_id=verdict.job_id, **known)
        if isinstance(seen, Job):
            for remark in decision.remarks:
                self._remark(remark, seen)
            for name in seen.wrong_fields:
                self._once("job.wrong_field", name, job_id=seen.job_id, field=name)

    def failures(self, batch: Sequence[Observation]) -> None:
        """Tell which looks told nothing, a page once for all the jobs on it."""
        failed = {id(seen.result): seen for seen in reversed(batch)}
        for seen in failed.values():
            if isinstance(seen.result, PollError) and not isinstance(seen.result, NotFound):
                self._failure(seen.job_id, seen.result)

    def _failure(self, job_id: str, error: PollError) -> None:
        scope = job_id if isinstance(error, Rejected) else ""
        if times := self._repeats.count(f"{scope} {error}"):
            log.warning("poll.failed", job_id=job_id, error=str(error), times=times)

    def estranged(self, *, is_estranged: bool) -> None:
        """Tell when nearly all jobs have been unknown to the API for a minute, and when no more."""
        now = self.now()
        if not is_estranged:
            if self._is_told:
                log.info("api.recovered")
            self._estranged_since, self._is_told = None, False
        elif self._estranged_since is None:
            self._estranged_since = now
        elif not self._is_told and now - self._estranged_since >= A_MINUTE:
            self._is_told = True
            log.error("api.misconfigured", error="nearly all jobs are unknown: check SUTRO_API_URL")

    def stretch(self, stretch: float) -> None:
        """Tell when all intervals have been stretched for a minute, and when they are no more."""
        now = self.now()
        if stretch < (RELAXED if self._is_stretched else STRETCHED):
            if self._is_stretched:
                log.info("pace.recovered")
            self._stretched_since, self._is_stretched = None, False
        elif self._stretched_since is None:
            self._stretched_since = now
        elif not self._is_stretched and now - self._stretched_since >= A_MINUTE:
            self._is_stretched = True
            advice = "more is due than POLLER_REQUESTS_PER_MINUTE allows: every wait grows longer"
            log.warning("pace.stretched", factor=round(stretch, 1), error=advice)

    def store(self, error: StoreUnavailable) -> None:
        """Tell that nothing can be recorded at the moment."""
        if times := self._repeats.count(f"store {error}"):
            log.error("store.unavailable", error=str(error), times=times)

    def _remark(self, remark: Remark, seen: Job) -> None:
        word = seen.unknown_word or seen.status.value
        subject = "" if remark is Remark.UNKNOWN_STATUS else seen.job_id
        self._once(remark, f"{subject} {word}", job_id=seen.job_id, status=word)

    def _once(self, name: str, key: str, **keys: str) -> None:
        if (name, key) in self._told:
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told.add((name, key))
        log.warning(name, **keys)


def _word(state: JobState) -> str | None:
    """Say in a word or two how a job stands."""
    if state.phase is Phase.SETTLING and state.job:
        return f"{state.job.status} (settling)"
    return {Phase.NEW: None, Phase.MISSING: "MISSING"}.get(state.phase, state.status)
