"""The daily report in words: its title, its facts and its lines."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from poller.core.formatting import format_cost, format_count, format_duration

Report = Mapping[str, Any]
"""The `data` of the event."""


def report_title(data: Report) -> str:
    """Return how many jobs ended, and how many of them not well."""
    counts = [f"{data[kind]:,} {kind}" for kind in ("failed", "cancelled") if data[kind]]
    ended = f"{format_count(_ended(data), 'job')} ended"
    return f"Daily report {data['date']}: {', '.join((ended, *counts))}"


def report_facts(data: Report) -> Iterator[tuple[str, str]]:
    """Yield the cost of what ended."""
    if _ended(data):
        yield "Cost", cost_text(data)


def report_ends(data: Report) -> Iterator[str]:
    """Yield the lines about what ended."""
    models = [
        f"{row['model'] or 'no model'} {cost_text(row)} ({format_count(row['jobs'], 'job')})"
        for row in data["models"]
    ]
    if omitted := data["models_omitted"]:
        models.append(f"{omitted:,} more")
    if models:
        yield f"Cost by model: {'; '.join(models)}"
    if data["slowest"]:
        yield f"Slowest: {_with_durations(data['slowest'])}"


def report_problems(data: Report) -> Iterator[str]:
    """Yield the lines about what needs attention."""
    if data["unchanged"]:
        yield f"No change for long: {_with_durations(data['unchanged'])}"
    if count := data["missing"]:
        ids = list(data["missing_ids"])
        if omitted := count - len(ids):
            ids.append(f"{omitted:,} more")
        yield f"{format_count(count, 'job')} missing: {', '.join(ids)}"
    for row in data["sinks"]:
        state = "is disabled and " if row["is_disabled"] else ""
        yield f"The sink {row['sink']} {state}has {format_count(row['dead'], 'dead letter')}"


def cost_text(row: Mapping[str, Any]) -> str:
    """Return a cost, and the number of jobs whose cost is not known."""
    known = "" if row["cost_usd"] is None else format_cost(Decimal(row["cost_usd"]))
    unknown = f"{row['cost_unknown']:,} unknown" if row["cost_unknown"] else ""
    return " and ".join(filter(None, (known, unknown)))


def _ended(data: Report) -> int:
    return int(data["succeeded"] + data["failed"] + data["cancelled"])


def _with_durations(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return jobs, each with its seconds."""
    return "; ".join(f"{_label(job)} {format_duration(job['seconds'])}" for job in jobs)


def _label(job: Mapping[str, Any]) -> str:
    return f"{job['name']} ({job['job_id']})" if job["name"] else str(job["job_id"])
