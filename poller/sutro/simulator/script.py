"""The script of one simulated job, which determines its API object at any moment."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field

from poller.core.jobs import JobStatus, format_rfc3339, is_job_id

BRIEFLY: Final = 0.1
"""The share of its queue time that a job is STARTING, and of its run that it is CANCELLING."""

DOLLARS_PER_TOKEN: Final = 1e-6

SYSTEM_PROMPT: Final = "Classify the sentiment of the text as positive, negative or neutral."
JSON_SCHEMA: Final = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]}},
    "required": ["sentiment"],
}
SAMPLING_PARAMS: Final = {"temperature": 0.7, "max_tokens": 256}


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise ValueError("a job id is 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'")
    return text


JobId = Annotated[str, AfterValidator(_job_id)]
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScript:
    """What happens to one job, in seconds at speed 1.

    The API answers 404 until `appears_after` the job's creation; `cost_delay` is how long after the
    end the cost shows; `case` is that of the status words. The annotations bind what comes as JSON.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    job_id: JobId
    ends_as: Literal["succeeded", "failed", "cancelled"] = "succeeded"
    queue_seconds: Seconds = 5.0
    run_seconds: Seconds = 20.0
    cost_delay: Seconds = 0.0
    appears_after: Seconds = 0.0
    name: str | None = None
    description: str | None = None
    model: str = "llama-3.3-70b"
    rows: Annotated[int, Field(ge=1)] = 50
    priority: Annotated[int, Field(ge=0, le=1)] = 0
    failure: str = "The model returned no output for 3 rows."
    case: Literal["upper", "lower"] = "upper"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedJob:
    """The moments of a script, in seconds since 1970. `number` counts jobs as they are created."""

    script: JobScript
    number: int
    created: float
    appears: float
    starting: float
    started: float
    cancelling: float
    completed: float
    costed: float

    @classmethod
    def begin(cls, script: JobScript, number: int, *, now: float, speed: float) -> Self:
        """Start a script now, `speed` times as fast as it is written."""
        queue, run = script.queue_seconds / speed, script.run_seconds / speed
        started, completed = now + queue, now + queue + run
        return cls(
            script=script,
            number=number,
            created=now,
            appears=now + script.appears_after / speed,
            starting=started - BRIEFLY * queue,
            started=started,
            cancelling=completed - BRIEFLY * run,
            completed=completed,
            costed=completed + script.cost_delay / speed,
        )

    def status(self, now: float) -> JobStatus:
        """Return the job's status at a moment."""
        if now >= self.completed:
            return JobStatus[self.script.ends_as.upper()]
        if now >= self.cancelling and self.script.ends_as == "cancelled":
            return JobStatus.CANCELLING
        if now >= self.started:
            return JobStatus.RUNNING
        return JobStatus.STARTING if now >= self.starting else JobStatus.QUEUED

    def failure_reason(self, now: float) -> dict[str, str] | None:
        """Return the failure reason of a job that has failed by a moment."""
        return {"message": self.script.failure} if self.status(now) is JobStatus.FAILED else None

    def as_object(self, now: float) -> dict[str, Any]:
        """Return the API's job object at a moment."""
        script, status, has_ended = self.script, self.status(now), now >= self.completed
        return {
            "job_id": script.job_id,
            "status": status.lower() if script.case == "lower" else status.value,
            "model": script.model,
            "name": script.name,
            "description": script.description,
            "dataset_id": f"dataset-{self._draw('dataset', 10_000, 99_999)}",
            "system_prompt": SYSTEM_PROMPT,
            "job_priority": script.priority,
            "datetime_created": _format_time(self.created),
            "datetime_started": _format_time(self.started) if now >= self.started else None,
            "datetime_completed": _format_time(self.completed) if has_ended else None,
            "json_schema": JSON_SCHEMA,
            "sampling_params": SAMPLING_PARAMS,
            "input_tokens": self._input_tokens if has_ended else None,
            "output_tokens": self._output_tokens if has_ended else None,
            "num_rows": script.rows,
            "job_cost": self._cost if now >= self.costed else None,
            "cost_estimate": round(self._cost * self._draw("estimate", 90, 115) / 100, 6),
            "failure_reason": self.failure_reason(now),
        }

    @property
    def _input_tokens(self) -> int:
        return self.script.rows * self._draw("input", 200, 400)

    @property
    def _output_tokens(self) -> int:
        return self.script.rows * self._draw("output", 100, 200)

    @property
    def _cost(self) -> float:
        return round((self._input_tokens + self._output_tokens) * DOLLARS_PER_TOKEN, 6)

    def _draw(self, what: str, low: int, high: int) -> int:
        """Return a number that is the same whenever and wherever this job is simulated."""
        digest = hashlib.sha256(f"{what}:{self.script.job_id}".encode()).digest()
        return low + int.from_bytes(digest[:8]) % (high - low + 1)


def _format_time(moment: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(moment, UTC))


FIRST_END: Final = 3.0
LAST_END: Final = 20.0

TEMPLATES: Final = (
    JobScript(job_id="_", name="Product review sentiment", rows=500),
    JobScript(job_id="_", name="Support ticket triage", ends_as="failed"),
    JobScript(job_id="_", name="Contract summaries", cost_delay=6.0),
    JobScript(job_id="_", name="Catalogue translation", ends_as="cancelled"),
    JobScript(job_id="_", name="Call transcript tags", case="lower", priority=1),
)


def demo_jobs(count: int) -> list[JobScript]:
    """Return scripts with mixed ends, spread from FIRST_END to LAST_END seconds."""
    step = (LAST_END - FIRST_END) / max(count - 1, 1)
    ends = [FIRST_END + step * index for index in range(count)]
    return [
        replace(
            TEMPLATES[index % len(TEMPLATES)],
            job_id=f"job-{index + 1}",
            queue_seconds=end / 4,
            run_seconds=end * 3 / 4,
        )
        for index, end in enumerate(ends)
    ]
