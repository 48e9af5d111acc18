"""The script of one simulated job, which determines its API object at any moment."""

import hashlib
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as validated_dataclass

from poller.core.job_status import JobStatus
from poller.core.jobs import JOB_ID_RULE, format_rfc3339, is_job_id
from poller.sutro.simulator.faults import Fault

BRIEFLY: Final = 0.1
"""The share of its queue time that a job is STARTING, and of its run that it is CANCELLING."""

DOLLARS_PER_TOKEN: Final = 1e-6

SYSTEM_PROMPT: Final = "Classify the sentiment of the text as positive, negative or neutral."
JSON_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]}},
    "required": ["sentiment"],
}
SAMPLING_PARAMS: Final[dict[str, Any]] = {"temperature": 0.7, "max_tokens": 256}


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise ValueError(JOB_ID_RULE)
    return text


JobId = Annotated[str, AfterValidator(_job_id)]
Seconds = Annotated[float, Field(ge=0)]


@validated_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class JobScript:
    """What happens to one job, in seconds at speed 1.

    The API returns 404 until `appears_after` the job's creation; `cost_delay`, `tokens_delay` and
    `reason_delay` are how long after the end the cost, the tokens and the failure reason show;
    `case` is that of the status words; `fault` concerns requests about this job alone.
    """

    job_id: JobId
    ends_as: Literal["succeeded", "failed", "cancelled"] = "succeeded"
    queue_seconds: Seconds = 5.0
    run_seconds: Seconds = 20.0
    cost_delay: Seconds = 0.0
    tokens_delay: Seconds = 0.0
    reason_delay: Seconds = 0.0
    appears_after: Seconds = 0.0
    name: str | None = None
    description: str | None = None
    model: str = "llama-3.3-70b"
    rows: Annotated[int, Field(ge=1)] = 50
    priority: Annotated[int, Field(ge=0, le=1)] = 0
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    system_prompt: str | None = SYSTEM_PROMPT
    json_schema: dict[str, Any] | None = field(default_factory=lambda: JSON_SCHEMA)
    sampling_params: dict[str, Any] = field(default_factory=lambda: SAMPLING_PARAMS)
    failure: str = "The model returned no output for 3 rows."
    case: Literal["upper", "lower"] = "upper"
    listed_after: Seconds = 0.0
    unlisted_after: Seconds = math.inf
    is_row_stuck: bool = False
    row: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedJob:
    """A job that follows a script since `created`, `speed` times as fast as it is written.

    Moments are in seconds since 1970. `number` counts jobs as they are created.
    """

    script: JobScript
    number: int
    created: float
    speed: float

    def moment(self, seconds: float) -> float:
        """Return the moment at which so many seconds of the script have passed."""
        return self.created + seconds / self.speed

    @property
    def appears(self) -> float:
        """Return the moment from which on the API shows the job."""
        return self.moment(self.script.appears_after)

    @property
    def listed(self) -> float:
        """Return the moment from which on the list shows the job."""
        return max(self.appears, self.moment(self.script.listed_after))

    def is_listed(self, now: float) -> bool:
        """Return whether the list shows the job at a moment."""
        return self.listed <= now < self.moment(self.script.unlisted_after)

    def status(self, now: float) -> JobStatus:
        """Return the job's status at a moment."""
        ends_as, queue, run = (
            self.script.ends_as,
            self.script.queue_seconds,
            self.script.run_seconds,
        )
        if now >= self.moment(queue + run):
            return JobStatus[ends_as.upper()]
        if ends_as == "cancelled" and now >= self.moment(queue + (1 - BRIEFLY) * run):
            return JobStatus.CANCELLING
        if now >= self.moment(queue):
            return JobStatus.RUNNING
        is_starting = now >= self.moment((1 - BRIEFLY) * queue)
        return JobStatus.STARTING if is_starting else JobStatus.QUEUED

    def failure_reason(self, now: float) -> dict[str, str] | None:
        """Return the failure reason that the API shows at a moment."""
        has_failed = self.status(now) is JobStatus.FAILED
        shows = has_failed and now >= self._after_end(self.script.reason_delay)
        return {"message": self.script.failure} if shows else None

    def cancelled(self, now: float) -> "SimulatedJob":
        """Return the job as it goes on once it is cancelled: CANCELLING for a moment if it ran."""
        elapsed = (now - self.created) * self.speed
        queue = min(elapsed, self.script.queue_seconds)
        run = (elapsed - queue) / (1 - BRIEFLY)
        script = replace(self.script, ends_as="cancelled", queue_seconds=queue, run_seconds=run)
        return replace(self, script=script)

    def rows_done(self, now: float) -> int:
        """Return how many rows have outputs at a moment."""
        started, ended = self.moment(self.script.queue_seconds), self._after_end(0.0)
        if now >= ended:
            return self.script.rows
        return int(self.script.rows * (now - started) / (ended - started)) if now > started else 0

    def as_object(self, now: float) -> dict[str, Any]:
        """Return the API's job object at a moment."""
        script, status = self.script, self.status(now)
        started = self.moment(script.queue_seconds)
        completed, costed = self._after_end(0.0), self._after_end(script.cost_delay)
        counted = self._after_end(script.tokens_delay)
        input_tokens = script.rows * self._draw("input", 200, 400)
        output_tokens = script.rows * self._draw("output", 100, 200)
        drawn = round((input_tokens + output_tokens) * DOLLARS_PER_TOKEN, 6)
        cost = drawn if script.cost is None else script.cost
        return {
            "job_id": script.job_id,
            "status": status.lower() if script.case == "lower" else status.value,
            "model": script.model,
            "name": script.name,
            "description": script.description,
            "dataset_id": f"dataset-{self._draw('dataset', 10_000, 99_999)}",
            "system_prompt": script.system_prompt,
            "job_priority": script.priority,
            "datetime_created": _format_time(self.created),
            "datetime_started": _format_time(started) if now >= started else None,
            "datetime_completed": _format_time(completed) if now >= completed else None,
            "json_schema": script.json_schema,
            "sampling_params": script.sampling_params,
            "input_tokens": input_tokens if now >= counted else None,
            "output_tokens": output_tokens if now >= counted else None,
            "num_rows": script.rows,
            "job_cost": cost if now >= costed else None,
            "cost_estimate": round(cost * self._draw("estimate", 90, 115) / 100, 6),
            "failure_reason": self.failure_reason(now),
        }

    def as_row(self, now: float, *, delay: float) -> dict[str, Any]:
        """Return the job's row at a moment, in a list whose rows are late by `delay` seconds."""
        shown_at = self.listed if self.script.is_row_stuck else max(now - delay, self.listed)
        return self.as_object(shown_at) | self.script.row

    def _after_end(self, delay: float) -> float:
        """Return the moment so many seconds of the script after the job's end."""
        return self.moment(self.script.queue_seconds + self.script.run_seconds + delay)

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


def demo_jobs(count: int, *, suffix: str = "", stretch: float = 1.0) -> list[JobScript]:
    """Return scripts with mixed ends, spread from FIRST_END to LAST_END seconds times `stretch`."""
    step = (LAST_END - FIRST_END) / max(count - 1, 1)
    ends = [(FIRST_END + step * index) * stretch for index in range(count)]
    return [
        replace(
            TEMPLATES[index % len(TEMPLATES)],
            job_id=f"job-{index + 1}{suffix}",
            queue_seconds=end / 4,
            run_seconds=end * 3 / 4,
        )
        for index, end in enumerate(ends)
    ]
