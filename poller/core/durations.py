"""How long jobs take: in what stage they are, what they are compared with, and what is expected."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import floor
from operator import attrgetter
from typing import Any, Final, NamedTuple, Self

from poller.core.job_status import JobStatus
from poller.core.jobs import Job, format_rfc3339


class Stage(StrEnum):
    """What a job does until it ends."""

    QUEUED = "queued"
    RUNNING = "running"


STAGES: Final = {
    JobStatus.SUBMITTED: Stage.QUEUED,
    JobStatus.PENDING: Stage.QUEUED,
    JobStatus.QUEUED: Stage.QUEUED,
    JobStatus.STARTING: Stage.QUEUED,
    JobStatus.RUNNING: Stage.RUNNING,
    JobStatus.CANCELLING: Stage.RUNNING,
}


class JobClass(NamedTuple):
    """The jobs that are compared: of one model, size and priority; or of a model; or all.

    `size` is the number of binary digits of the number of rows.
    """

    model: str | None = None
    size: int | None = None
    priority: int | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the class of a job."""
        return cls.of_values(job.model, job.num_rows, job.job_priority)

    @classmethod
    def of_values(cls, model: object, num_rows: object, priority: object) -> Self:
        """Return the class of a job with these fields; one of a wrong type is as if missing."""
        return cls(
            sys.intern(model) if isinstance(model, str) else None,
            num_rows.bit_length() if isinstance(num_rows, int) and num_rows >= 0 else None,
            priority if isinstance(priority, int) else None,
        )

    @property
    def wider(self) -> tuple["JobClass", ...]:
        """The class, then the jobs of its model, then all jobs."""
        return self, JobClass(self.model), JobClass()

    @property
    def rows(self) -> tuple[int, int] | None:
        """The fewest and the most rows; None for any number."""
        return None if self.size is None else ((1 << self.size) // 2, (1 << self.size) - 1)

    @property
    def range(self) -> str | None:
        """The numbers of rows in few characters: 32-63."""
        if self.rows is None:
            return None
        least, most = self.rows
        return f"{least}-{most}" if least < most else str(most)

    @property
    def label(self) -> str:
        """The class in words, after "jobs"."""
        parts = [f"of {self.model}"] if self.model else []
        if self.rows:
            parts.append("with {:,} to {:,} rows".format(*self.rows))
        if self.priority is not None:
            parts.append(f"at priority {self.priority}")
        return " ".join(parts) or "of all models"

    def as_dict(self) -> dict[str, Any]:
        """Return the class as JSON values; what is null is no condition."""
        least, most = self.rows or (None, None)
        return {
            "model": self.model,
            "min_rows": least,
            "max_rows": most,
            "priority": self.priority,
        }


class PastJob(NamedTuple):
    """How long an ended job waited and ran, in seconds."""

    job_id: str
    job_class: JobClass
    queue_seconds: float
    run_seconds: float

    @classmethod
    def of(cls, job: Job) -> Self | None:
        """Return how long a job took; None without its times."""
        waited, ran = job.queue_seconds, job.run_seconds
        if waited is None or ran is None:
            return None
        return cls(job.job_id, JobClass.of(job), waited, ran)


SECONDS: Final = {
    Stage.QUEUED: attrgetter("queue_seconds"),
    Stage.RUNNING: attrgetter("run_seconds"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedEnd:
    """When half of the jobs like this one have ended, and when 95 % have.

    `samples` are the ended jobs of class `basis` that took longer than this one has so far.
    """

    p50: datetime
    p95: datetime
    basis: JobClass
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "p50": format_rfc3339(self.p50),
            "p95": format_rfc3339(self.p95),
            "basis": {"class": self.basis.as_dict(), "samples": self.samples},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualDuration:
    """How long half of the jobs of a class are in a stage, and 95 % of them, in seconds."""

    p50: float
    p95: float
    basis: JobClass
    samples: int

    def basis_dict(self) -> dict[str, Any]:
        """Return what it is from as JSON values."""
        return {"class": self.basis.as_dict(), "samples": self.samples}


def stage_of(job: Job) -> Stage | None:
    """Return what a job does; None for one that has ended, or whose status is unknown."""
    stage = STAGES.get(job.status)
    return Stage.RUNNING if stage and job.datetime_started else stage


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of new values of the same kind will be.

    Between the k-th and the next of n values is the share k / (n + 1).
    """
    place = share * (len(ordered) + 1) - 1.0
    if place >= len(ordered) - 1:
        return ordered[-1]
    low = max(floor(place), 0)
    return ordered[low] + (ordered[low + 1] - ordered[low]) * max(place - low, 0.0)


def began_at(job: Job, stage: Stage | None) -> datetime | None:
    """Return when a job began its stage; None where the API does not show that."""
    return job.datetime_started if stage is Stage.RUNNING else job.datetime_created
