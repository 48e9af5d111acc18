"""What the watcher writes into the log, and how often: no line for a healthy look."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from poller.errors import PollError, Rejected, StoreUnavailable
from poller.jobs import Job
from poller.ledger import Verdict
from poller.lifecycle import Remark

FORGET_AFTER: Final = 600.0
REMEMBERED: Final = 10_000

log = structlog.get_logger()


@dataclass(slots=True)
class Journal:
    """Log lines on jobs and the API. A repeated failure is told the 1st, 2nd, 4th, ... time."""

    now: Callable[[], float]
    _times: dict[str, tuple[int, float]] = field(default_factory=dict)
    _told: set[tuple[str, ...]] = field(default_factory=set)
    _is_estranged: bool = False

    def verdict(self, verdict: Verdict) -> None:
        """Tell how a job changed, and what is odd about what was seen of it."""
        decision, seen = verdict.decision, verdict.seen
        if decision is None:
            return
        before, after = verdict.before, decision.state
        if (before.phase, before.status) != (after.phase, after.status):
            log.info(
                "job.changed",
                job_id=verdict.job_id,
                before=f"{before.phase} {before.status}",
                after=f"{after.phase} {after.status}",
            )
        if isinstance(seen, Job):
            for remark in decision.remarks:
                self._remark(remark, seen)
            for name in seen.wrong_fields:
                self._once("job.wrong_field", name, job_id=seen.job_id, field=name)

    def failure(self, job_id: str, error: PollError) -> None:
        """Tell that a look told nothing."""
        scope = job_id if isinstance(error, Rejected) else ""
        if times := self._count(f"{scope} {error}"):
            log.warning("poll.failed", job_id=job_id, error=str(error), times=times)

    def estranged(self, *, is_estranged: bool) -> None:
        """Tell when all jobs begin or cease to be unknown to the API."""
        if is_estranged and not self._is_estranged:
            log.error("api.misconfigured", error="nearly all jobs are unknown: check SUTRO_API_URL")
        elif self._is_estranged and not is_estranged:
            log.info("api.recovered")
        self._is_estranged = is_estranged

    def store(self, error: StoreUnavailable) -> None:
        """Tell that nothing can be recorded at the moment."""
        if times := self._count(f"store {error}"):
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

    def _count(self, text: str) -> int:
        """Count one more time of a text; 0 when it should not be told again yet."""
        now = self.now()
        times, last = self._times.get(text, (0, now))
        times = 1 if now - last > FORGET_AFTER else times + 1
        if len(self._times) >= REMEMBERED:
            self._times.clear()
        self._times[text] = (times, now)
        return times if times & (times - 1) == 0 else 0
