"""Jobs that change their status only when the event of the last change is acknowledged."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.jobs import format_rfc3339
from tests.support.builders import a_job_object

OUTCOMES: Final = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Stage:
    """A status of a job, with its cost or without, and the event that it causes."""

    status: str
    event_type: str | None
    has_cost: bool = False


def stages(ends_as: str, *, is_cost_late: bool = False) -> tuple[Stage, ...]:
    """Return the stages of a job that ends in a way."""
    end = Stage(ends_as.upper(), f"job.{ends_as}", has_cost=not is_cost_late)
    late = (Stage(ends_as.upper(), "job.settled", has_cost=True),) if is_cost_late else ()
    return (Stage("QUEUED", None), Stage("RUNNING", "job.started"), end, *late)


@dataclass(slots=True)
class ScriptedJob:
    """One job. `reached` holds the time at which each stage began."""

    job_id: str
    stages: tuple[Stage, ...]
    reached: list[float]
    acknowledged: set[str] = field(default_factory=set)

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[len(self.reached) - 1]

    @property
    def is_reported(self) -> bool:
        """Return whether every event of this job has been acknowledged."""
        return all(
            stage.event_type is None or stage.event_type in self.acknowledged
            for stage in self.stages
        )

    def advance(self, now: float) -> None:
        """Go to the next stage once the event of this one is acknowledged."""
        event_type = self.stage.event_type
        if len(self.reached) < len(self.stages) and (
            event_type is None or event_type in self.acknowledged
        ):
            self.reached.append(now)

    def as_object(self, *, stages_ago: int = 0) -> dict[str, Any]:
        """Return the job object of the current stage, or that of an earlier one."""
        number = max(len(self.reached) - 1 - stages_ago, 0)
        stage = self.stages[number]
        moments = [_format(moment) for moment in self.reached[: number + 1]] + [None] * 2
        return a_job_object(
            job_id=self.job_id,
            status=stage.status,
            datetime_created=moments[0],
            datetime_started=moments[1],
            datetime_completed=moments[2],
            job_cost=0.0234 if stage.has_cost else None,
            failure_reason={"message": "No output."} if stage.status == "FAILED" else None,
        )


def _format(moment: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(moment, UTC))
