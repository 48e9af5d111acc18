"""The words of job.overdue, for people."""

from collections.abc import Mapping
from typing import Any

from poller.core.formatting import format_duration


def overdue_words(data: Mapping[str, Any]) -> dict[str, str]:
    """Return for how long an overdue job has been in its phase, and what is usual."""
    given = data.get("overdue") or {}
    usual, elapsed = given.get("expected_seconds"), given.get("elapsed_seconds")
    for_long = "" if elapsed is None else f" for {format_duration(elapsed)}"
    if usual is not None:
        for_long += f"; 95 % of jobs like it take at most {format_duration(usual)}"
    return {"phase": given.get("phase", ""), "for_long": for_long}
