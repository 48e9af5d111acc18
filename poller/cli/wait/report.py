"""What `wait` says in the end: a sentence, or JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from poller.core.formatting import failure_message, format_cost, format_duration
from poller.core.jobs import Job
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult

ENDED: Final = {
    JobEventType.SUCCEEDED: "succeeded",
    JobEventType.FAILED: "failed",
    JobEventType.CANCELLED: "cancelled",
    JobEventType.MISSING: "missing",
}
"""Each end in a word, in the order in which they are counted up."""


def summary(results: Sequence[JobResult]) -> str:
    """Say in a line how it ended."""
    return _one(results[0]) if len(results) == 1 else _many(results)


def reasons(results: Sequence[JobResult]) -> list[str]:
    """Say of each job that did not succeed why, a line each."""
    return [f"{it.job_id} {_bad_end(it)}" for it in results if it.end in BAD_ENDS]


def as_json(results: Sequence[JobResult]) -> str:
    """Write all that is known of each job; `type` is that of its event, null without an end."""
    return json.dumps([_as_dict(it) for it in results], indent=2, ensure_ascii=False)


BAD_ENDS: Final = frozenset({JobEventType.FAILED, JobEventType.CANCELLED, JobEventType.MISSING})


def _one(it: JobResult) -> str:
    job = it.job
    if it.end in BAD_ENDS:
        return f"{it.job_id} {_bad_end(it)}"
    if job is None:
        return f"{it.job_id} was not seen"
    if it.end is None:
        return f"{it.job_id} has not ended, it is {status_text(job)}"
    took = "" if job.run_seconds is None else f" in {format_duration(job.run_seconds)}"
    return f"{it.job_id} succeeded{took}{_price(job)}"


def _bad_end(it: JobResult) -> str:
    """Say how a job ended that did not succeed, after how long, and why."""
    if it.end is JobEventType.MISSING:
        return "is missing: the API knows no job of this id"
    seconds = it.job.run_seconds if it.job else None
    reason = failure_message(it.job.failure_reason) if it.job else ""
    after = "" if seconds is None else f" after {format_duration(seconds)}"
    return f"{ENDED[it.end] if it.end else ''}{after}" + (f": {reason}" if reason else "")


def _price(job: Job) -> str:
    parts = [
        f"{count} {what}"
        for count, what in ((job.input_tokens, "tokens in"), (job.output_tokens, "out"))
        if count is not None
    ]
    parts.append("cost not known yet" if job.job_cost is None else format_cost(job.job_cost))
    return ": " + ", ".join(parts)


def _many(results: Sequence[JobResult]) -> str:
    """Count the ends up, with the time from the first start to the last end and the whole cost."""
    counts = Counter(it.end for it in results if it.end)
    ended, total = counts.total(), len(results)
    jobs = [it.job for it in results if it.end and it.job]
    told = [f"{counts[end]} {word}" for end, word in ENDED.items() if counts[end]]
    costs = [Decimal(str(job.job_cost)) for job in jobs if job.job_cost is not None]
    return (
        (f"{total} jobs ended" if ended == total else f"{ended} of {total} jobs ended")
        + _together(jobs)
        + (f": {', '.join(told)}" if told else "")
        + (f"; {format_cost(sum(costs, Decimal()))}" if costs else "")
    )


def _together(jobs: Sequence[Job]) -> str:
    starts = [job.datetime_started for job in jobs if job.datetime_started]
    ends = [job.datetime_completed for job in jobs if job.datetime_completed]
    if not starts or not ends or max(ends) < min(starts):
        return ""
    return f" in {format_duration((max(ends) - min(starts)).total_seconds())}"


def status_text(job: Job) -> str:
    """Give a job's status as the API says it, whether it is known or not."""
    return job.raw_status or job.status.value


def _as_dict(it: JobResult) -> dict[str, Any]:
    job = it.job
    return {
        "job": job.as_dict() if job else {"job_id": it.job_id},
        "type": it.end,
        "reason": failure_message(job.failure_reason) or None if job else None,
        "cost_final": job.is_complete if job and it.end else None,
        "run_seconds": job.run_seconds if job else None,
    }
