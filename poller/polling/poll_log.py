"""What the watcher writes into the log, and how often: no line for a healthy look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from poller.core.errors import NotFound, PollError, Rejected, StoreUnavailable
from poller.core.jobs import Job
from poller.core.state import Anomaly, JobState, Phase
from poller.polling.tracker import AppliedObservation
from poller.runtime.log_throttle import LogThrottle
from poller.sutro.port import Observation

MAX_REMEMBERED: Final = 10_000
HYSTERESIS_SECONDS: Final = 60.0
"""For so long new ids may be unknown before others have been asked again: that is no news."""

LATE_RATIO: Final = 1.5
"""So many times as long as they should be are waits when the budget binds beyond doubt."""
RECOVERED_RATIO: Final = 1.2

log = structlog.get_logger()


@dataclass(slots=True)
class PollLog:
    """Log lines on jobs and the API. A repeated failure is told the 1st, 2nd, 4th, ... time."""

    now: Callable[[], float]
    _throttle: LogThrottle = field(init=False)
    _logged: set[tuple[str, ...]] = field(default_factory=set)
    _mass_not_found_since: float | None = None
    _is_logged: bool = False
    _late_since: float | None = None
    _is_late: bool = False

    def __post_init__(self) -> None:
        """Begin with nothing told."""
        self._throttle = LogThrottle(self.now)

    @property
    def is_wrong_endpoint(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for a minute."""
        return self._is_logged

    def log_change(self, applied: AppliedObservation) -> None:
        """Tell how a job changed, and what is odd about what was seen of it."""
        decision, seen = applied.decision, applied.result
        if decision is None:
            return
        before, after = applied.before, decision.state
        if (before.phase, before.status) != (after.phase, after.status):
            words = {"before": _word(before), "after": _word(after)}
            known = {key: word for key, word in words.items() if word}
            log.info("job.changed", job_id=applied.job_id, **known)
        if isinstance(seen, Job):
            for remark in decision.anomalies:
                self._log_anomaly(remark, seen)
            for name in seen.invalid_fields:
                self._once("job.invalid_field", name, job_id=seen.job_id, field=name)

    def log_failures(self, batch: Sequence[Observation]) -> None:
        """Tell which looks told nothing, a page once for all the jobs on it."""
        failed = {id(seen.result): seen for seen in reversed(batch)}
        for seen in failed.values():
            if isinstance(seen.result, PollError) and not isinstance(seen.result, NotFound):
                self._failure(seen.job_id, seen.result)

    def _failure(self, job_id: str, error: PollError) -> None:
        scope = job_id if isinstance(error, Rejected) else ""
        if occurrences := self._throttle.should_log(f"{scope} {error}"):
            log.warning("poll.failed", job_id=job_id, error=str(error), occurrences=occurrences)

    def note_mass_not_found(self, *, is_estranged: bool) -> None:
        """Tell when nearly all jobs have been unknown to the API for a minute, and when no more."""
        now = self.now()
        if not is_estranged:
            if self._is_logged:
                log.info("sutro.recovered")
            self._mass_not_found_since, self._is_logged = None, False
        elif self._mass_not_found_since is None:
            self._mass_not_found_since = now
        elif not self._is_logged and now - self._mass_not_found_since >= HYSTERESIS_SECONDS:
            self._is_logged = True
            log.error(
                "sutro.wrong_endpoint", error="nearly all jobs are unknown: check SUTRO_API_URL"
            )

    def log_lateness(self, stretch: float) -> None:
        """Tell when all intervals have been stretched for a minute, and when they are no more."""
        now = self.now()
        if stretch < (RECOVERED_RATIO if self._is_late else LATE_RATIO):
            if self._is_late:
                log.info("polling.recovered")
            self._late_since, self._is_late = None, False
        elif self._late_since is None:
            self._late_since = now
        elif not self._is_late and now - self._late_since >= HYSTERESIS_SECONDS:
            self._is_late = True
            advice = "more is due than POLLER_REQUESTS_PER_MINUTE allows: every wait grows longer"
            log.warning("polling.delayed", factor=round(stretch, 1), error=advice)

    def log_store_error(self, error: StoreUnavailable) -> None:
        """Tell that nothing can be recorded at the moment."""
        if occurrences := self._throttle.should_log(f"store {error}"):
            log.error("store.unavailable", error=str(error), occurrences=occurrences)

    def _log_anomaly(self, remark: Anomaly, seen: Job) -> None:
        word = seen.raw_status or seen.status.value
        subject = "" if remark is Anomaly.UNKNOWN_STATUS else seen.job_id
        self._once(remark, f"{subject} {word}", job_id=seen.job_id, status=word)

    def _once(self, name: str, key: str, **keys: str) -> None:
        if (name, key) in self._logged:
            return
        if len(self._logged) >= MAX_REMEMBERED:
            self._logged.clear()
        self._logged.add((name, key))
        log.warning(name, **keys)


def _word(state: JobState) -> str | None:
    """Say in a word or two how a job stands."""
    if state.phase is Phase.SETTLING and state.job:
        return f"{state.job.status} (settling)"
    return {Phase.NEW: None, Phase.MISSING: "MISSING"}.get(state.phase, state.status)
