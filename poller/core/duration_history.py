"""The newest ended jobs, and what they say about others.

A job is compared with the ended jobs of its class (model, size, priority), or else with those of
its model, or else with all. Only those count that took longer than the job has taken so far, and
nothing is expected from fewer than MIN_ENDS of them: with n, the part of new ones that stay below
the k-th is k / (n + 1), so that 20 are the fewest which show where 95 % end.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from poller.core.durations import (
    SECONDS,
    ExpectedEnd,
    JobClass,
    PastJob,
    Stage,
    UsualDuration,
    began_at,
    quantile,
    stage_of,
)
from poller.core.errors import MalformedResponse
from poller.core.events import TERMINAL_EVENTS
from poller.core.jobs import Job
from poller.core.parsing import parse_job
from poller.core.state import EventDraft, JobEventType

MIN_ENDS: Final = 20
GROUP_ENDS: Final = 500
"""The newest ends of a class, of a model or of all that count: an older habit is forgotten."""
HISTORY_ENDS: Final = 4_000
"""The newest ends that are kept for all classes together."""
LATE_FIELD: Final = "datetime_completed"
MEDIAN: Final = 0.5
LATE: Final = 0.95


@dataclass(slots=True)
class DurationHistory:
    """How long the newest ended jobs took, the oldest first."""

    limit: int = HISTORY_ENDS
    _jobs: deque[PastJob] = field(default_factory=deque)
    _groups: dict[JobClass, deque[PastJob]] = field(default_factory=dict)
    _ordered: dict[tuple[JobClass, Stage], list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many ended jobs there are."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Add a job that has just ended, if its times are known."""
        if past := PastJob.of(job):
            self._add(past)

    def add_ended(self, drafts: Iterable[EventDraft]) -> None:
        """Add the jobs whose end is announced, or the time of their end."""
        for draft in drafts:
            is_late = LATE_FIELD in draft.late_fields and draft.type is JobEventType.SETTLED
            if draft.job and (is_late or draft.type in TERMINAL_EVENTS):
                self.add(draft.job)

    def add_older(self, older: Iterable[PastJob]) -> None:
        """Add jobs that ended before all of the others, the newest first."""
        newer = [*self._jobs]
        known = {past.job_id for past in newer}
        self._jobs, self._groups = deque(), {}
        for past in [*(past for past in older if past.job_id not in known)][::-1] + newer:
            self._add(past)

    def expected_end(self, job: Job, now: datetime) -> ExpectedEnd | None:
        """Return when a job may be expected to end; None where too little is known.

        `now` is the time of the API's clock.
        """
        stage = stage_of(job)
        began = began_at(job, stage)
        if stage is None or began is None:
            return None
        age = (now - began).total_seconds()
        for job_class in JobClass.of(job).wider:
            group = tuple(self._groups.get(job_class, ()))  # another thread may add to it
            durations = sorted(_longer(group, stage, age))
            if len(durations) >= MIN_ENDS:
                median, late = quantile(durations, MEDIAN), quantile(durations, LATE)
                return ExpectedEnd(
                    p50=began + timedelta(seconds=median),
                    p95=began + timedelta(seconds=late),
                    basis=job_class,
                    samples=len(durations),
                )
        return None

    def expected_end_of(self, fields: object, now: datetime) -> ExpectedEnd | None:
        """Return when a job may be expected to end, from its recorded fields, damaged or not."""
        try:
            return self.expected_end(parse_job(fields), now)
        except MalformedResponse:
            return None

    def usual(self, job: Job, stage: Stage) -> UsualDuration | None:
        """Return how long a stage of a job usually takes; None where too little is known.

        Jobs of other models say nothing about that.
        """
        for job_class in JobClass.of(job).wider[:-1]:
            durations = self._in_order(job_class, stage)
            if len(durations) >= MIN_ENDS:
                return UsualDuration(
                    p50=quantile(durations, MEDIAN),
                    p95=quantile(durations, LATE),
                    basis=job_class,
                    samples=len(durations),
                )
        return None

    def _in_order(self, job_class: JobClass, stage: Stage) -> list[float]:
        """Return how long the jobs of a class were in a stage, the shortest first."""
        key = job_class, stage
        if key not in self._ordered:
            group = tuple(self._groups.get(job_class, ()))
            self._ordered[key] = sorted(map(SECONDS[stage], group))
        return self._ordered[key]

    def _add(self, past: PastJob) -> None:
        self._jobs.append(past)
        for job_class in past.job_class.wider:
            self._reorder(job_class)
            group = self._groups.setdefault(job_class, deque(maxlen=GROUP_ENDS))
            if not (group and group[-1] is past):  # a class may be as wide as the next
                group.append(past)
        if len(self._jobs) > self.limit:
            self._forget(self._jobs.popleft())

    def _forget(self, past: PastJob) -> None:
        for job_class in past.job_class.wider:
            self._reorder(job_class)
            group = self._groups.get(job_class)
            if group and group[0] is past:
                group.popleft()
            if not group:
                self._groups.pop(job_class, None)

    def _reorder(self, job_class: JobClass) -> None:
        for stage in Stage:
            self._ordered.pop((job_class, stage), None)


def _longer(group: Iterable[PastJob], stage: Stage, age: float) -> Iterator[float]:
    """Yield the time from the begin of a stage to the end of those that were in it for longer."""
    if stage is Stage.RUNNING:
        return (past.run_seconds for past in group if past.run_seconds >= age)
    return (past.queue_seconds + past.run_seconds for past in group if past.queue_seconds >= age)
