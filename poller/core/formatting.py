"""Values as people read them: durations, costs, failure reasons."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

GREEN: Final = 32
YELLOW: Final = 33
RED: Final = 31
WORD_COLORS: Final = {
    word: color
    for color, words in {
        GREEN: "SUCCEEDED job.succeeded delivered",
        YELLOW: "CANCELLED job.cancelled UNKNOWN job.unrecognised job.overdue"
        " job.cost_over_estimate budget.crossed",
        RED: "FAILED job.failed MISSING job.missing dead disabled poller.auth_failed"
        " poller.sink_disabled",
    }.items()
    for word in words.split()
}
"""The ANSI color of a word in a terminal: ends, states and events."""

SMALL_COST: Final = Decimal("0.1")
"""US dollars below which hundredths of a cent are shown."""


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: 4.8s, 2m0s, 1h30m, 3d4h."""
    if (tenths := round(seconds, 1)) < 60.0:
        return f"{tenths:.1f}".removesuffix(".0") + "s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s"


def format_cost(dollars: Decimal | float) -> str:
    """Return a cost in US dollars, with more digits for a small one: $0.0234, $1,234.50."""
    return f"${dollars:.4f}" if dollars < SMALL_COST else f"${dollars:,.2f}"


def colored(text: str, color: int) -> str:
    """Return a text in an ANSI color."""
    return f"\x1b[{color}m{text}\x1b[0m"


def format_count(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: 1 job, 2 jobs, 1,000 deliveries."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def fix_receiver(command: str) -> str:
    """Return the advice for a sink whose receiver has failed for good."""
    return f"fix its receiver, then run `sutro-poller {command}`"


def failure_message(failure_reason: Mapping[str, Any] | None) -> str:
    """Return the API's message of a failed job in one line, or the whole reason without one."""
    if not failure_reason:
        return ""
    message = failure_reason.get("message")
    if isinstance(message, str):
        return " ".join(message.split())
    return json.dumps(failure_reason, ensure_ascii=False)
