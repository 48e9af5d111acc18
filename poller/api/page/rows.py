"""The rows of lists on pages, from rows of the database."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from poller.api.page import text
from poller.api.page.text import ShownTime
from poller.core.duration_history import DurationHistory
from poller.core.errors import MalformedResponse
from poller.core.formatting import failure_message
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.parsing import parse_job
from poller.core.state import Phase
from poller.store.filters import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job in a list; `since` and `phase` are for a job that has not ended."""

    job_id: str
    path: str
    name: str
    model: str
    state: str
    tone: str
    phase: str
    since: ShownTime | None
    lasts: str
    expected: "Expectation | None"
    changed_at: ShownTime | None
    duration: str
    tokens: Sequence[str]
    cost: str
    reason: str

    @classmethod
    def of(cls, row: Row, now: datetime, history: DurationHistory) -> Self:
        """Return a row of the database as people read it."""
        job = job_of(row)
        is_missing = row["state"] == Phase.MISSING.name
        since = job.datetime_started or job.datetime_created
        shown_since = text.moment(since or row["changed_at"], now)
        return cls(
            job_id=row["job_id"],
            path=text.job_path(row["job_id"]),
            name=text.clip(job.name),
            model=text.clip(job.model, 60),
            state=row["state"],
            tone=text.tone(row["state"]),
            phase="running" if job.datetime_started else "waiting",
            since=shown_since,
            lasts=shown_since.distance.removesuffix(" ago") if shown_since else "",
            expected=None if is_missing else Expectation.of(job, now, history),
            changed_at=text.moment(row["changed_at"], now),
            duration=text.duration(job.run_seconds),
            tokens=tokens_of(job),
            cost=text.cost(job.job_cost),
            reason=text.clip(failure_message(job.failure_reason)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """When a job may be expected to end, and the share of the time until then that has passed."""

    at: ShownTime
    late_at: ShownTime
    percent: int
    basis: str

    @classmethod
    def of(cls, job: Job, now: datetime, history: DurationHistory) -> Self | None:
        """Return what is expected of a job; None where too little is known."""
        expected = history.expected_end(job, now)
        began = job.datetime_started or job.datetime_created
        if expected is None or began is None:
            return None
        at, late_at = text.moment(expected.p50, now), text.moment(expected.p95, now)
        assert at is not None
        assert late_at is not None
        whole = (expected.p50 - began).total_seconds()
        share = (now - began).total_seconds() / whole if whole > 0 else 1.0
        return cls(
            at=at,
            late_at=late_at,
            percent=round(100 * min(max(share, 0.0), 1.0)),
            basis=f"{expected.samples} ended jobs {expected.basis.label}",
        )


def job_of(row: Row) -> Job:
    """Return the job of a row; an empty one if no response has shown it, or its row is damaged."""
    try:
        return parse_job(row["job"])
    except MalformedResponse:
        return Job(job_id=row["job_id"], status=JobStatus.UNKNOWN)


def tokens_of(job: Job) -> list[str]:
    """Return the tokens in and out, as far as they are known."""
    given = ((job.input_tokens, "in"), (job.output_tokens, "out"))
    return [f"{tokens:,} {direction}" for tokens, direction in given if tokens is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRow:
    """A sink, its backlog, and what can be done about it."""

    name: str
    state: str
    tone: str
    pending: str
    oldest_at: ShownTime | None
    delivered_at: ShownTime | None
    failing_since: ShownTime | None
    dead: int
    reason: str
    can_test: bool

    @classmethod
    def of(
        cls,
        row: Row,
        now: datetime,
        *,
        delivered: Mapping[str, str | None],
        testable: Collection[str],
    ) -> Self:
        """Return a row of the database as people read it."""
        name = row["sink"]
        return cls(
            name=name,
            state=row["state"],
            tone=text.tone(row["state"]),
            pending=text.count(row["pending"]),
            oldest_at=text.moment(row["oldest_at"], now),
            delivered_at=text.moment(delivered.get(name), now),
            failing_since=text.moment(row["failing_since"], now),
            dead=row["dead"],
            reason=text.clip(row["reason"], 300),
            can_test=name in testable,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery of an event to a sink."""

    event_id: str
    type: str
    tone: str
    job_id: str
    path: str
    sink: str
    status: str
    status_tone: str
    failures: int
    last_attempt_at: ShownTime | None
    next_attempt_at: ShownTime | None
    ended_at: ShownTime | None
    reason: str

    @classmethod
    def of(cls, row: Row, now: datetime) -> Self:
        """Return a row of the database as people read it."""
        is_of_daemon = row["type"].startswith("poller.")
        return cls(
            event_id=row["event_id"],
            type=row["type"],
            tone=text.tone(row["type"]),
            job_id=row["job_id"],
            path="" if is_of_daemon else text.job_path(row["job_id"]),
            sink=row["sink"],
            status=row["status"],
            status_tone=text.tone(row["status"]),
            failures=row["failures"],
            last_attempt_at=text.moment(row["last_attempt_at"], now),
            next_attempt_at=text.moment(row["next_attempt_at"], now),
            ended_at=text.moment(row["ended_at"], now),
            reason=text.clip(row["reason"], 300),
        )
