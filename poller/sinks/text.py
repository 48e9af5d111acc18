"""An event in words, for people: what happened, what it came to, and why."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from poller.core.events import TERMINAL_EVENTS, Event
from poller.core.state import JobEventType

HEADLINES: Final = {
    "job.started": "{job} is running",
    "job.succeeded": "{job} succeeded{after}",
    "job.failed": "{job} failed{after}",
    "job.cancelled": "{job} was cancelled{after}",
    "job.cost_settled": "{job} has its final cost",
    "job.missing": "{job} is missing: the API does not know it any more",
    "job.found": "{job} was missing and is back",
    "job.unrecognised": "{job} seems to have ended, with a status that is not known",
    "poller.auth_failed": "{deployment} refuses the key: no job is being watched",
    "poller.auth_recovered": "{deployment} accepts the key again",
    "poller.sink_disabled": "The sink {sink} is switched off and gets no more events: {reason}",
    "poller.test": "This is a test of the sink {sink}",
}
"""What is said first, by the event's type."""

TYPES_WITH_COST: Final = TERMINAL_EVENTS | {JobEventType.COST_SETTLED}


def format_message(event: Event) -> str:
    """Tell an event in one to three lines of plain text."""
    return "\n".join(_lines(event.type, event.data))


def _lines(kind: str, data: Mapping[str, Any]) -> Iterator[str]:
    job = data.get("job", {})
    parts = {"job": _named(job), "after": _after(data.get("run_seconds"))}
    yield HEADLINES[kind].format_map({**data, **parts})
    if kind in TYPES_WITH_COST:
        tokens = f"{_count(job['input_tokens'])} in, {_count(job['output_tokens'])} out"
        yield f"Cost {_cost(data)}; tokens {tokens}"
    if why := _failure(job.get("failure_reason")):
        yield why


def _named(job: Mapping[str, Any]) -> str:
    """Name a job in one line, by its name where it has one and by its id in any case."""
    name = " ".join((job.get("name") or "").split())
    return f"{name} ({job['job_id']})" if name else job.get("job_id", "")


def _after(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f" after {seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f" after {minutes} min {rest} s"
    return f" after {minutes // 60} h {minutes % 60} min"


def _cost(data: Mapping[str, Any]) -> str:
    cost = data["job"]["job_cost"]
    if cost is None:
        return "unknown"
    return f"${cost:,.4f}" if data["cost_final"] else f"${cost:,.4f} so far"


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def _failure(reason: Mapping[str, Any] | None) -> str:
    """Give the API's message, or all that it said where that has none."""
    if not reason:
        return ""
    message = reason.get("message")
    return message if isinstance(message, str) else json.dumps(reason, ensure_ascii=False)


def format_line(kind: str, data: Mapping[str, Any]) -> str:
    """Say what happened, and of a job how long it ran, what it cost and why it failed."""
    job = data.get("job")
    if job is None:
        return f"{kind:<17} {data.get('sink', '')} {data.get('reason', '')}".rstrip()
    seconds, cost = data.get("run_seconds"), job.get("job_cost")
    parts = [
        f"{kind:<17} {job['job_id']:<6}",
        f"ran {seconds:4.1f} s" if seconds is not None else "never ran ",
        f"{job.get('output_tokens') or 0:>6} tokens out",
        f"${cost:.4f}" if cost is not None else "cost unknown",
        _reason(job.get("failure_reason")),
    ]
    return "  ".join(parts).rstrip()


def _reason(failure: Mapping[str, Any] | None) -> str:
    return f"- {failure.get('message', failure)}" if failure else ""
