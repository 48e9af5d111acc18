"""Costs and budgets in the HTTP API: the same sums as in the event and in the metrics."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, live_daemon

pytestmark = pytest.mark.anyio

JOBS = [
    JobScript(
        job_id=f"job-{number}",
        model=model,
        cost=cost,
        queue_seconds=0.0,
        run_seconds=0.0,
        rows=rows,
    )
    for number, (model, cost, rows) in enumerate(
        [("m", 0.1, 40), ("m", 0.2, 63), ("n", 0.3, 64)], 1
    )
]


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[LiveDaemon]:
    """Run a daemon whose monthly budget three jobs have spent."""
    ids = ",".join(job.job_id for job in JOBS)
    budget = {"POLLER_BUDGET_MONTHLY": "0.5", "POLLER_BUDGET_THRESHOLDS": "100"}
    async with live_daemon(tmp_path, *JOBS, POLLER_JOB_IDS=ids, **budget) as live:
        for job in JOBS:
            await live.wait_for_job(job.job_id, "SUCCEEDED")
        yield live


async def test_budget_shows_the_sum_of_the_costs(daemon: LiveDaemon):
    """The budget, the costs and the metric have one exact sum."""
    (budget,) = (await daemon.get("/v1/budgets")).body["budgets"]
    costs = (await daemon.get("/v1/costs?by=month")).body["costs"]

    assert (budget["budget"], budget["spent_usd"], budget["limit_usd"]) == ("monthly", "0.6", "0.5")
    assert (budget["jobs"], budget["cost_unknown"], budget["spent_ratio"]) == (3, 0, 1.2)
    assert sum(Decimal(row["cost_usd"]) for row in costs) == Decimal("0.6")
    metrics = (await daemon.get("/metrics")).text
    assert 'sutro_poller_budget_spent_ratio{budget="monthly"} 1.2' in metrics


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"m": "0.3", "n": "0.3"}),
        ("?by=status", {"SUCCEEDED": "0.6"}),
        ("?by=model&deployment=other", {}),
        ("?since=2100-01-01T00:00:00Z", {}),
    ],
)
async def test_costs_are_grouped(daemon: LiveDaemon, query: str, expected: dict[str, str]):
    """Costs are summed by what the query names, of the jobs that it selects."""
    costs = (await daemon.get(f"/v1/costs{query}")).body["costs"]

    assert {row["key"]: row["cost_usd"] for row in costs} == expected


async def test_costs_are_compared_with_estimates(daemon: LiveDaemon):
    """Jobs of one model and size are compared together."""
    found = (await daemon.get("/v1/costs/estimates")).body["classes"]

    assert [(row["model"], row["jobs"], row["compared"]) for row in found] == [
        ("m", 2, 2),
        ("n", 1, 1),
    ]
    assert found[0]["cost_usd"] == "0.3"
    assert all(0.8 < row["ratio"] < 1.2 for row in found)


async def test_bad_group_is_rejected(daemon: LiveDaemon):
    """A group that does not exist is an error."""
    assert (await daemon.get("/v1/costs?by=hour")).status == 400
