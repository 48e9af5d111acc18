"""Log lines about jobs and the API: none for a poll that shows nothing new."""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from poller.core.errors import NotFound, PollError, Rejected, StoreUnavailable
from poller.core.jobs import Job
from poller.core.state import Anomaly, JobState, Phase
from poller.polling.hysteresis import Hysteresis
from poller.polling.observations import AppliedObservation
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error
from poller.sutro.port import Observation

MAX_LOGGED_ONCE: Final = 10_000
LATE_RATIO: Final = 1.5
"""Polls this late, in units of their interval, show that the rate limit is too low."""
RECOVERED_RATIO: Final = 1.2

log = structlog.get_logger()


class PollLog:
    """Writes the watcher's log. A repeated failure is logged the 1st, 2nd, 4th, ... time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._throttle = LogThrottle(now)
        self._logged: set[tuple[str, ...]] = set()
        self._is_wrong_endpoint = False
        self._lateness = Hysteresis(now)

    def log_change(self, applied: AppliedObservation) -> None:
        """Log how a job changed, and what is odd about the observation."""
        decision, result = applied.decision, applied.result
        if decision is None:
            return
        before, after = applied.before, decision.state
        if (before.phase, before.status) != (after.phase, after.status):
            texts = {"name": after.job.name if after.job else None}
            texts |= {"before": _state_text(before), "after": _state_text(after)}
            known = {key: text for key, text in texts.items() if text}
            log.info("job.changed", job_id=applied.job_id, **known)
        if isinstance(result, Job):
            for anomaly in decision.anomalies:
                self._log_anomaly(anomaly, result)
            for name in result.invalid_fields:
                self._log_once("job.invalid_field", name, job_id=result.job_id, field=name)

    def log_failures(self, batch: Sequence[Observation]) -> None:
        """Log which polls failed; a page once for all the jobs on it."""
        failed: dict[PollError, str] = {}
        for seen in batch:
            if isinstance(seen.result, PollError) and not isinstance(seen.result, NotFound):
                failed.setdefault(seen.result, seen.job_id)
        for error, job_id in failed.items():
            scope = job_id if isinstance(error, Rejected) else ""
            if occurrences := self._throttle.should_log(f"{scope} {error}"):
                log.warning("poll.failed", job_id=job_id, error=str(error), occurrences=occurrences)

    def log_endpoint(self, *, is_wrong: bool) -> None:
        """Log when the API turns out to be the wrong one, and when that is over."""
        if is_wrong and not self._is_wrong_endpoint:
            log.error(
                "sutro.wrong_endpoint",
                error="nearly all jobs are unknown",
                advice="check SUTRO_API_URL",
            )
        if self._is_wrong_endpoint and not is_wrong:
            log.info("sutro.recovered")
        self._is_wrong_endpoint = is_wrong

    def log_lateness(self, ratio: float) -> None:
        """Log when polls have been late for a minute, and when they are on time again."""
        is_late = ratio >= (RECOVERED_RATIO if self._lateness.is_active else LATE_RATIO)
        if not self._lateness.update(is_met=is_late):
            return
        if is_late:
            advice = "raise POLLER_REQUESTS_PER_MINUTE or watch fewer jobs"
            log.warning("polling.delayed", factor=round(ratio, 1), advice=advice)
        else:
            log.info("polling.recovered")

    def log_store_error(self, error: StoreUnavailable) -> None:
        """Log that nothing can be recorded at the moment."""
        log_store_error(self._throttle, error)

    def log_not_found(self, job_id: str, error: NotFound) -> None:
        """Log the first 404 of a job: its ID may be mistyped."""
        advice = "check the job ID; job.missing follows if this lasts"
        self._log_once("job.not_found", job_id, job_id=job_id, error=str(error), advice=advice)

    def _log_anomaly(self, anomaly: Anomaly, job: Job) -> None:
        status = job.raw_status or job.status.value
        subject = "" if anomaly is Anomaly.UNKNOWN_STATUS else job.job_id
        self._log_once(anomaly, f"{subject} {status}", job_id=job.job_id, status=status)

    def _log_once(self, name: str, key: str, **keys: str) -> None:
        if (name, key) in self._logged:
            return
        if len(self._logged) >= MAX_LOGGED_ONCE:
            self._logged.clear()
        self._logged.add((name, key))
        log.warning(name, **keys)


def _state_text(state: JobState) -> str | None:
    if state.phase is Phase.SETTLING and state.job:
        return f"{state.job.status} (settling)"
    return {Phase.NEW: None, Phase.MISSING: "MISSING"}.get(state.phase, state.status)
