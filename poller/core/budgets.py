"""Budgets: how much of one is spent in its period, and which thresholds of it are crossed.

A job counts in the day or month of its completion, by the calendar of the time zone, whenever its
cost becomes known. Costs are exact decimals. A cost that is not known counts apart, never as 0.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Protocol, Self

from poller.core.events import DaemonEventType, Event, EventOrigin, daemon_event, event_id
from poller.core.jobs import format_rfc3339
from poller.core.patterns import is_selected

PERCENT: Final = 100
YEARS: Final = range(2000, 2500)
"""A job that ended in another year, by a clock that is wrong, counts in no period."""


class BudgetKind(StrEnum):
    """The periods that a budget can be for."""

    DAILY = "daily"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month. It is 23 to 25 hours, or 28 to 31 days, long."""

    name: str
    start: datetime
    end: datetime

    @classmethod
    def of(cls, kind: BudgetKind, moment: datetime, zone: tzinfo | None = None) -> Self:
        """Return the period with a moment in it. `zone` is that of the system if it is None."""
        day = moment.astimezone(zone).date()
        if kind is BudgetKind.DAILY:
            return cls(day.isoformat(), _start(day, zone), _start(day + timedelta(days=1), zone))
        first = day.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
        return cls(f"{first:%Y-%m}", _start(first, zone), _start(following, zone))

    def as_dict(self) -> dict[str, Any]:
        """Return the period as JSON values."""
        return {
            "period": self.name,
            "period_start": format_rfc3339(self.start),
            "period_end": format_rfc3339(self.end),
        }


@dataclass(frozen=True, slots=True)
class Spent:
    """What some jobs have cost: the sum of the known costs, in US dollars, and how many jobs."""

    dollars: Decimal = Decimal(0)
    jobs: int = 0
    unknown: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        """Return the sum."""
        return Spent(
            self.dollars + other.dollars, self.jobs + other.jobs, self.unknown + other.unknown
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in US dollars in each period, with thresholds in percent of that.

    `models` are patterns of `is_selected`; without any, the jobs of all models count.
    """

    kind: BudgetKind
    limit: Decimal
    thresholds: Sequence[Decimal]
    models: tuple[str, ...] = ()

    def selects(self, model: str) -> bool:
        """Return whether the jobs of a model count; that of a job without one is empty."""
        return is_selected(model, self.models)

    def reached(self, dollars: Decimal) -> list[Decimal]:
        """Return the thresholds that a sum has reached, the lowest first."""
        return [part for part in self.thresholds if dollars * PERCENT >= self.limit * part]


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands in a period. `committed` has the estimates of jobs that go on."""

    budget: Budget
    period: Period
    spent: Spent
    committed: Spent

    @property
    def projected(self) -> Decimal:
        """What is spent when all jobs that go on have ended, at their estimates."""
        return self.spent.dollars + self.committed.dollars

    @property
    def ratio(self) -> float:
        """What is spent, as a part of the limit."""
        return float(self.spent.dollars / self.budget.limit)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON values; sums are texts, which keep every digit."""
        return {
            "budget": self.budget.kind.value,
            **self.period.as_dict(),
            "model_patterns": list(self.budget.models),
            "limit_usd": plain(self.budget.limit),
            "spent_usd": plain(self.spent.dollars),
            "jobs": self.spent.jobs,
            "cost_unknown": self.spent.unknown,
            "committed_usd": plain(self.committed.dollars),
            "estimate_unknown": self.committed.unknown,
            "projected_usd": plain(self.projected),
        }


class CostReader(Protocol):
    """The costs in a store, as they are in one transaction."""

    def ends(self, job_ids: Sequence[str]) -> list[datetime]:
        """Return when those of these jobs ended that count in sums."""

    def spent(self, budget: Budget, period: Period) -> Spent:
        """Return what the jobs of a budget cost that ended in a period."""

    def committed(self, budget: Budget) -> Spent:
        """Return the estimates of the jobs of a budget that have not ended."""

    def is_crossed(self, event: str) -> bool:
        """Return whether the crossing with this event id is recorded."""

    def record_crossing(self, event: str) -> None:
        """Record that the crossing with this event id is announced."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """All budgets, and how their crossings are announced.

    `zone` is that of the system if it is None: the one of TZ.
    """

    budgets: Sequence[Budget]
    origin: EventOrigin
    zone: tzinfo | None = None

    def crossings(
        self, moments: Sequence[datetime], costs: CostReader, now: datetime
    ) -> list[Event]:
        """Return what is to be announced after a change of costs at these times, once for ever."""
        events: list[Event] = []
        for budget in self.budgets:
            periods = {
                Period.of(budget.kind, each, self.zone) for each in moments if each.year in YEARS
            }
            for period in sorted(periods, key=lambda period: period.start):
                events += self._crossings(budget, period, costs, now)
        return events

    def states(self, costs: CostReader, now: datetime) -> list[BudgetState]:
        """Return how each budget stands now."""
        pairs = [(budget, Period.of(budget.kind, now, self.zone)) for budget in self.budgets]
        return [
            BudgetState(budget, period, costs.spent(budget, period), costs.committed(budget))
            for budget, period in pairs
        ]

    def _crossings(
        self, budget: Budget, period: Period, costs: CostReader, now: datetime
    ) -> Iterator[Event]:
        ids = {part: self._id(budget, period, part) for part in budget.thresholds}
        open_ids = {part: key for part, key in ids.items() if not costs.is_crossed(key)}
        if not open_ids:
            return
        spent = costs.spent(budget, period)
        new = [part for part in budget.reached(spent.dollars) if part in open_ids]
        if new:
            # Jobs that go on will not end in a period that is over.
            committed = Spent() if now >= period.end else costs.committed(budget)
            state = BudgetState(budget, period, spent, committed)
            for part in new:
                costs.record_crossing(open_ids[part])
                yield self._event(state, part, now)

    def _event(self, state: BudgetState, threshold: Decimal, now: datetime) -> Event:
        return daemon_event(
            DaemonEventType.BUDGET_CROSSED,
            self.origin,
            now,
            instance=self._subject(state.budget, state.period, threshold),
            occurrence=0,
            detail=state.as_dict() | {"threshold_percent": float(threshold)},
        )

    def _id(self, budget: Budget, period: Period, threshold: Decimal) -> str:
        subject = self._subject(budget, period, threshold)
        return event_id(self.origin.namespace, subject, DaemonEventType.BUDGET_CROSSED)

    def _subject(self, budget: Budget, period: Period, threshold: Decimal) -> str:
        """Return what a crossing is about, without any time: it has the same id everywhere.

        Another limit is another budget: after a change its thresholds are announced again.
        """
        scope = [budget.kind.value, plain(budget.limit), *budget.models]
        return json.dumps([self.origin.deployment, period.name, plain(threshold), scope])


def plain(number: Decimal) -> str:
    """Return a decimal without an exponent and without zeros at its end."""
    return f"{number.normalize():f}"


def _start(day: date, zone: tzinfo | None) -> datetime:
    """Return when a day begins: later than at 0:00 where the clocks change then."""
    # Not `astimezone`, which takes a time that the day does not have for an earlier one.
    return datetime.fromtimestamp(datetime.combine(day, time(), zone).timestamp(), UTC)
