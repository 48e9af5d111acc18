"""The jobs of a world: each goes on only when the event of what it showed last is acknowledged."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.jobs import format_rfc3339
from tests.support.builders import a_job_object

FATES: Final = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a job shows: a status, with its cost or not, and the event that is owed for it."""

    status: str
    owes: str | None
    has_cost: bool = False


def stages(ends_as: str, *, is_cost_late: bool = False) -> tuple[Stage, ...]:
    """Give the life of a job of some ends_as."""
    end = Stage(ends_as.upper(), f"job.{ends_as}", has_cost=not is_cost_late)
    late = (Stage(ends_as.upper(), "job.cost_settled", has_cost=True),) if is_cost_late else ()
    return (Stage("QUEUED", None), Stage("RUNNING", "job.started"), end, *late)


@dataclass(slots=True)
class Story:
    """One job of this world. `reached` holds the moment at which each stage began."""

    job_id: str
    stages: tuple[Stage, ...]
    reached: list[float]
    acknowledged: set[str] = field(default_factory=set)

    @property
    def stage(self) -> Stage:
        """What the job shows now."""
        return self.stages[len(self.reached) - 1]

    @property
    def is_told(self) -> bool:
        """Whether every event that this job owes has been acknowledged."""
        return all(it.owes is None or it.owes in self.acknowledged for it in self.stages)

    def move_on(self, now: float) -> None:
        """Go to the next stage when nothing is owed for this one."""
        owes = self.stage.owes
        if len(self.reached) < len(self.stages) and (owes is None or owes in self.acknowledged):
            self.reached.append(now)

    def shown(self, *, stages_ago: int = 0) -> dict[str, Any]:
        """Give the API's job object, or that of an earlier stage."""
        number = max(len(self.reached) - 1 - stages_ago, 0)
        stage = self.stages[number]
        moments = [_written(it) for it in self.reached[: number + 1]] + [None] * 2
        return a_job_object(
            job_id=self.job_id,
            status=stage.status,
            datetime_created=moments[0],
            datetime_started=moments[1],
            datetime_completed=moments[2],
            job_cost=0.0234 if stage.has_cost else None,
            failure_reason={"message": "No output."} if stage.status == "FAILED" else None,
        )


def _written(moment: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(moment, UTC))
