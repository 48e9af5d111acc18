"""The result of `wait`: a sentence, or JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from poller.core.formatting import failure_message, format_cost, format_duration
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.state import JobEventType
from poller.polling.waiter import FAILED_ENDS, JobResult

ENDED: Final = {
    JobEventType.SUCCEEDED: "succeeded",
    JobEventType.FAILED: "failed",
    JobEventType.CANCELLED: "cancelled",
    JobEventType.MISSING: "missing",
    JobEventType.UNRECOGNISED: "unrecognised",
}
"""The word for each end, in the order of the summary."""


def summary(results: Sequence[JobResult]) -> str:
    """Return one line on how the jobs ended."""
    return _one(results[0]) if len(results) == 1 else _many(results)


def reasons(results: Sequence[JobResult]) -> list[str]:
    """Return one line for each job that did not succeed."""
    return [
        f"{label(result)} {_failed_end(result)}" for result in results if result.end in FAILED_ENDS
    ]


def label(result: JobResult) -> str:
    """Return the ID of a job, with its name if it has one."""
    name = name_of(result)
    return f"{result.job_id} ({name})" if name else result.job_id


def name_of(result: JobResult) -> str:
    """Return the name of a job in one line; empty without one."""
    return " ".join((result.job.name or "").split()) if result.job else ""


def as_json(results: Sequence[JobResult]) -> str:
    """Return all that is known of each job; `type` is the event type, null before the end."""
    return json.dumps([_as_dict(result) for result in results], indent=2, ensure_ascii=False)


def _one(result: JobResult) -> str:
    job = result.job
    if result.end in FAILED_ENDS:
        return f"{label(result)} {_failed_end(result)}"
    if job is None:
        return f"{result.job_id}: no status received"
    if result.end is None:
        return f"{label(result)} has not ended: {status_text(job)}"
    took = "" if job.run_seconds is None else f" in {format_duration(job.run_seconds)}"
    return f"{label(result)} succeeded{took}{_price(job)}"


def _failed_end(result: JobResult) -> str:
    """Return how a job failed, after how long, and why."""
    if result.end is JobEventType.MISSING:
        return "is missing: the API does not know this job ID"
    if result.end is JobEventType.UNRECOGNISED:
        status = status_text(result.job) if result.job else "none"
        return f"seems to have ended, but has a status that is not terminal: {status}"
    seconds = result.job.run_seconds if result.job else None
    reason = failure_message(result.job.failure_reason) if result.job else ""
    after = "" if seconds is None else f" after {format_duration(seconds)}"
    return f"{ENDED[result.end] if result.end else ''}{after}" + (f": {reason}" if reason else "")


def _price(job: Job) -> str:
    parts = [
        f"{count} {what}"
        for count, what in ((job.input_tokens, "tokens in"), (job.output_tokens, "out"))
        if count is not None
    ]
    parts.append("cost not known yet" if job.job_cost is None else format_cost(job.job_cost))
    return ": " + ", ".join(parts)


def _many(results: Sequence[JobResult]) -> str:
    """Return the ends by kind, the time from the first start to the last end, and the cost."""
    counts = Counter(result.end for result in results if result.end)
    ended, total = counts.total(), len(results)
    jobs = [result.job for result in results if result.end and result.job]
    kinds = [f"{counts[end]} {word}" for end, word in ENDED.items() if counts[end]]
    costs = [Decimal(str(job.job_cost)) for job in jobs if job.job_cost is not None]
    return (
        (f"{total} jobs ended" if ended == total else f"{ended} of {total} jobs ended")
        + _time_span(jobs)
        + (f": {', '.join(kinds)}" if kinds else "")
        + (f"; {format_cost(sum(costs, Decimal()))}" if costs else "")
    )


def _time_span(jobs: Sequence[Job]) -> str:
    starts = [job.datetime_started for job in jobs if job.datetime_started]
    ends = [job.datetime_completed for job in jobs if job.datetime_completed]
    if not starts or not ends or max(ends) < min(starts):
        return ""
    return f" in {format_duration((max(ends) - min(starts)).total_seconds())}"


def status_text(job: Job) -> str:
    """Return the status as the API writes it, marked if it is unknown."""
    is_unknown = job.status is JobStatus.UNKNOWN
    return f"{job.raw_status or job.status.value}{' (unknown status)' if is_unknown else ''}"


def _as_dict(result: JobResult) -> dict[str, Any]:
    job = result.job
    return {
        "job": job.as_dict() if job else {"job_id": result.job_id},
        "type": result.end,
        "reason": failure_message(job.failure_reason) or None if job else None,
        "final": job.is_final if job and result.end else None,
        "run_seconds": job.run_seconds if job else None,
    }
