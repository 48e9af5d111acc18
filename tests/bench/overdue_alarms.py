"""Count the jobs that would be overdue by default, though nothing is wrong with them."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from poller.core.duration_history import DurationHistory
from poller.core.durations import Stage
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.overdue import OverduePolicy
from tests.bench.forecast_jobs import Work

RECHECK_SECONDS: Final = 600.0
"""Seconds after which a job is checked again of which too little was known."""


class Check(NamedTuple):
    """A check of a job in a stage at a time; its end without a stage."""

    at: float
    number: int
    stage: Stage | None


def alarm_shares(work: Sequence[Work], part: Callable[[int], str | None]) -> dict[str, float]:
    """Return the share of the jobs of each part that are overdue at least once."""
    history, policy = DurationHistory(), OverduePolicy()
    overdue: set[int] = set()
    checks = [check for number, job in enumerate(work) for check in _checks(number, job)]
    heapify(checks)
    while checks:
        at, number, stage = heappop(checks)
        if stage is None:
            history.add(_ended(number, work[number]))
            continue
        began, ended = _bounds(work[number], stage)
        threshold = policy.threshold(stage, history.usual(_ended(number, work[number]), stage))
        limit = at + RECHECK_SECONDS if threshold is None else began + threshold
        if limit <= at:
            overdue.add(number)
        elif limit < ended:
            heappush(checks, Check(limit, number, stage))
    jobs = Counter(name for number in range(len(work)) if (name := part(number)) is not None)
    alarms = Counter(part(number) for number in overdue)
    return {name: alarms[name] / count for name, count in jobs.items()}


def _checks(number: int, job: Work) -> list[Check]:
    return [
        Check(job.sent_at, number, Stage.QUEUED),
        Check(job.started_at, number, Stage.RUNNING),
        Check(job.ended_at, number, None),
    ]


def _bounds(job: Work, stage: Stage) -> tuple[float, float]:
    if stage is Stage.QUEUED:
        return job.sent_at, job.started_at
    return job.started_at, job.ended_at


def _ended(number: int, work: Work) -> Job:
    created = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=work.sent_at)
    started = created + timedelta(seconds=work.job.queue)
    return Job(
        job_id=f"job-{number}",
        model=work.job.model,
        status=JobStatus.SUCCEEDED,
        num_rows=work.job.rows,
        job_priority=work.job.priority,
        datetime_created=created,
        datetime_started=started,
        datetime_completed=started + timedelta(seconds=work.job.run),
    )
