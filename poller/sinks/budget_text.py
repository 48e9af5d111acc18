"""Budgets in words: the limit, what is spent, what is to come."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from poller.core.formatting import format_cost, format_count


def budget_limit(data: Mapping[str, Any]) -> str:
    """Return the amount of a budget; nothing for other events."""
    return format_cost(Decimal(data["limit_usd"])) if "limit_usd" in data else ""


def budget_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is spent of a budget; what is not known is named beside the sums."""
    spent, projected = (format_cost(Decimal(data[name])) for name in ("spent_usd", "projected_usd"))
    unknown, unestimated = data["cost_unknown"], data["estimate_unknown"]
    facts = [
        ("Spent", f"{spent} for {format_count(data['jobs'], 'job')}"),
        ("Not known", f"the cost of {format_count(unknown, 'job')}" if unknown else ""),
        ("With the estimates of unfinished jobs", projected),
        ("Without an estimate", format_count(unestimated, "job") if unestimated else ""),
        ("Models", ", ".join(data["model_patterns"])),
    ]
    return [(label, value) for label, value in facts if value]


def budget_details(data: Mapping[str, Any]) -> str:
    """Return what was crossed, in columns."""
    return f"{data['budget']} {data['period']}  {data['threshold_percent']:g} % spent"
