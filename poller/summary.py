"""An event in one line for people."""

from collections.abc import Mapping
from typing import Any


def summary(kind: str, data: Mapping[str, Any]) -> str:
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
