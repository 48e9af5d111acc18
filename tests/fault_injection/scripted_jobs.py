"""Jobs that change their status only when the event of the last change is acknowledged."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.jobs import format_rfc3339
from tests.support.builders import a_job_object

OUTCOMES: Final = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Stage:
    """A status of a job, the event that it causes, and the fields that are late."""

    status: str
    event_type: str | None
    has_cost: bool = False
    late_fields: Collection[str] = ()


def stages(ends_as: str, *, late_fields: Collection[str] = ()) -> tuple[Stage, ...]:
    """Return the stages of a job that ends in a way; some fields come after its end."""
    end = Stage(ends_as.upper(), f"job.{ends_as}", has_cost=True, late_fields=late_fields)
    late = (Stage(ends_as.upper(), "job.settled", has_cost=True),) if late_fields else ()
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
        fields = {
            "job_id": self.job_id,
            "status": stage.status,
            "datetime_created": moments[0],
            "datetime_started": moments[1],
            "datetime_completed": moments[2],
            "job_cost": 0.0234 if stage.has_cost else None,
            "failure_reason": {"message": "No output."} if stage.status == "FAILED" else None,
        }
        return a_job_object(**fields | dict.fromkeys(stage.late_fields))


def _format(moment: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(moment, UTC))
