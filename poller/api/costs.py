"""What jobs cost: sums, comparisons with the estimates, and budgets."""

from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from poller.api.context import ApiContext
from poller.api.models import Count, ResponseModel, StrictModel, Timestamp, UtcTime
from poller.core.budgets import BudgetState, plain
from poller.store.admin import StoreAdmin
from poller.store.costs import read_comparison
from poller.store.stored_costs import StoredCosts
from poller.wiring import build_budgets

Usd = Annotated[
    Decimal,
    PlainSerializer(plain, return_type=str),
    Field(description="US dollars, as an exact decimal number"),
]


class CostsQuery(StrictModel):
    """The jobs to sum."""

    since: Timestamp | None = Field(None, description="Only jobs that ended at or after this time")
    deployment: str | None = Field(None, description="Only jobs of the API at this host")

    @property
    def start(self) -> float:
        """`since` as seconds since 1970."""
        return self.since.timestamp() if self.since else 0.0


class SumsQuery(CostsQuery):
    """The jobs to sum, and by what."""

    by: Literal["model", "name", "day", "month", "status"] = Field(
        "model", description="What to group by; days and months are those of UTC"
    )


class CostSums(ResponseModel):
    """The sums of some ended jobs."""

    key: str | None = Field(description="The model, name, day, month or status; null for none")
    jobs: Count
    input_tokens: Count
    output_tokens: Count
    cost_unknown: Count = Field(description="The number of jobs whose cost is not known")
    cost_usd: Usd | None = Field(
        description="The exact sum of the known costs, as a decimal number"
    )


class Costs(ResponseModel):
    """The sums of ended jobs."""

    costs: list[CostSums]


class ComparedCosts(ResponseModel):
    """Estimates and costs of the ended jobs of one model, size and priority."""

    model: str | None
    rows: str | None = Field(description="The numbers of rows of these jobs: 512-1023")
    priority: int | None
    jobs: Count
    compared: Count = Field(description="The number of jobs with both a cost and an estimate")
    estimate_usd: Usd
    cost_usd: Usd
    ratio: float | None = Field(description="The cost as a multiple of the estimate")


class Comparison(ResponseModel):
    """Estimates and costs of ended jobs."""

    classes: list[ComparedCosts]


class Budget(ResponseModel):
    """How much of a budget is spent in the current period."""

    budget: Literal["daily", "monthly"]
    period: str = Field(description="The day or the month, in the time zone of the daemon")
    period_start: UtcTime
    period_end: UtcTime
    model_patterns: list[str] = Field(
        description="Patterns of the models that count; empty for all"
    )
    limit_usd: str
    spent_usd: str = Field(description="The exact sum of the known costs, as a decimal number")
    spent_ratio: float = Field(description="spent_usd as a fraction of the budget")
    jobs: Count = Field(description="The number of jobs that ended in the period")
    cost_unknown: Count = Field(description="The number of them whose cost is not known")
    committed_usd: str = Field(description="The estimates of watched jobs that have not ended")
    estimate_unknown: Count = Field(description="The number of those without an estimate")
    projected_usd: str = Field(description="The sum of spent_usd and committed_usd")


class BudgetList(ResponseModel):
    """All budgets."""

    budgets: list[Budget]


async def list_costs(context: ApiContext, query: SumsQuery) -> Costs:
    """Sum the costs of ended jobs."""
    groups = await context.query(StoreAdmin.costs, query.by, query.start, query.deployment)
    costs = [CostSums(key=key or None, **asdict(groups[key])) for key in sorted(groups)]
    return Costs(costs=costs)


async def compare_costs(context: ApiContext, query: CostsQuery) -> Comparison:
    """Compare the costs of ended jobs with their estimates.

    By model, number of rows and priority.
    """
    found = await context.query(
        lambda admin: admin.read(lambda db: read_comparison(db, query.start, query.deployment))
    )
    classes = [
        ComparedCosts(
            model=key.model,
            rows=key.range,
            priority=key.priority,
            ratio=each.ratio,
            **asdict(each),
        )
        for key, each in found.items()
    ]
    return Comparison(classes=classes)


async def list_budgets(context: ApiContext) -> BudgetList:
    """Return how much of each budget is spent."""
    return BudgetList(
        budgets=[
            Budget(**state.as_dict(), spent_ratio=state.ratio)
            for state in await budget_states(context)
        ]
    )


async def budget_states(context: ApiContext) -> list[BudgetState]:
    """Return how each budget stands now. Raises Problem and StoreError."""
    budgets, now = build_budgets(context.config), context.clock.now()
    if not budgets.budgets:
        return []
    host = budgets.origin.deployment
    return await context.query(
        lambda admin: admin.read(lambda db: budgets.states(StoredCosts(db, host), now))
    )
