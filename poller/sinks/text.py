"""Events in words, for people: what happened, how long the job ran, its cost, why it failed."""

from collections.abc import Mapping
from typing import Any, Final

from poller.core.events import TERMINAL_EVENTS, DaemonEventType, Event
from poller.core.formatting import failure_message, format_cost, format_duration
from poller.core.state import JobEventType

HEADLINES: Final = {
    "job.started": "{job} is running",
    "job.succeeded": "{job} succeeded{after}",
    "job.failed": "{job} failed{after}",
    "job.cancelled": "{job} was cancelled{after}",
    "job.settled": "{job}: late fields have arrived",
    "job.missing": "{job} is missing: the API no longer knows it",
    "job.found": "{job} was missing and is back",
    "job.unrecognised": "{job} seems to have ended, but its status is not an end",
    "poller.auth_failed": "{deployment} rejects the API key: no job is being watched",
    "poller.auth_recovered": "{deployment} accepts the API key again",
    "poller.sink_disabled": "The sink {sink} is disabled and gets no more events: {reason}",
    "poller.test": "This is a test of the sink {sink}",
}
"""The first line of a message, by event type."""

TYPES_WITH_COST: Final = TERMINAL_EVENTS | {JobEventType.SETTLED}


def format_message(event: Event) -> str:
    """Return an event in one to three lines of plain text."""
    data = event.data
    job, seconds = data.get("job", {}), data.get("run_seconds")
    after = "" if seconds is None else f" after {format_duration(seconds)}"
    headline = HEADLINES.get(event.type, f"{event.type}: {{job}}")  # of an earlier version
    lines = [headline.format_map({**data, "job": job_label(job), "after": after})]
    if event.type in TYPES_WITH_COST:
        tokens = f"{_count(job['input_tokens'])} in, {_count(job['output_tokens'])} out"
        lines.append(f"Cost {_cost(data)}; tokens {tokens}")
    if failure := failure_message(job.get("failure_reason")):
        lines.append(failure)
    if data.get("test") and event.type != DaemonEventType.TEST:
        lines[0] = f"Test: {lines[0]}"
    return "\n".join(lines)


def job_label(job: Mapping[str, Any]) -> str:
    """Return the name of a job with its id, or the id alone, in one line."""
    name = " ".join((job.get("name") or "").split())
    return f"{name} ({job['job_id']})" if name else job.get("job_id", "")


def _cost(data: Mapping[str, Any]) -> str:
    cost = data["job"]["job_cost"]
    if cost is None:
        return "unknown"
    return format_cost(cost) if data.get("final", True) else f"{format_cost(cost)} so far"


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def format_details(data: Mapping[str, Any]) -> str:
    """Return what happened in columns, without the type and the job."""
    job = data.get("job")
    if job is None:
        return f"{data.get('sink', '')} {data.get('reason', '')}".strip()
    seconds, cost = data.get("run_seconds"), job.get("job_cost")
    failure = failure_message(job.get("failure_reason"))
    columns = [
        f"{'never ran' if seconds is None else f'ran {format_duration(seconds)}':<9}",
        f"{job.get('output_tokens') or 0:>6} tokens out",
        "cost unknown" if cost is None else format_cost(cost),
        f"- {failure}" if failure else "",
    ]
    return "  ".join(columns).rstrip()
