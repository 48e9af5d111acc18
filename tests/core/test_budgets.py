"""Budgets: their periods, their thresholds, and the ids of what is announced."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.budgets import Budget, BudgetKind, Budgets, Period, Spent, plain
from poller.core.events import EventOrigin
from tests.support.builders import check_event
from tests.support.time_zones import AUCKLAND, HAVANA, NEW_YORK, ZONES, local_zone

DAILY, MONTHLY = BudgetKind.DAILY, BudgetKind.MONTHLY
ORIGIN: Final = EventOrigin(deployment="api.sutro.sh")
NOON: Final = datetime(2026, 11, 29, 12, tzinfo=UTC)
PARTS: Final = (Decimal(50), Decimal(80), Decimal(100))
BUDGET: Final = Budget(kind=DAILY, limit=Decimal(100), thresholds=PARTS)


def at(text: str) -> datetime:
    """Return a time of UTC."""
    return datetime.fromisoformat(f"{text}+00:00")


PERIODS = [
    ("UTC0", DAILY, "2026-11-29T23:59:59", "2026-11-29", "2026-11-29T00:00", 24),
    (NEW_YORK, DAILY, "2026-11-29T04:59:59", "2026-11-28", "2026-11-28T05:00", 24),
    (NEW_YORK, DAILY, "2026-11-29T05:00:00", "2026-11-29", "2026-11-29T05:00", 24),
    (NEW_YORK, DAILY, "2026-03-08T12:00:00", "2026-03-08", "2026-03-08T05:00", 23),
    (NEW_YORK, DAILY, "2026-11-01T12:00:00", "2026-11-01", "2026-11-01T04:00", 25),
    (HAVANA, DAILY, "2026-03-08T12:00:00", "2026-03-08", "2026-03-08T05:00", 23),
    (AUCKLAND, DAILY, "2026-01-01T11:00:00", "2026-01-02", "2026-01-01T11:00", 24),
    ("UTC0", MONTHLY, "2026-02-28T23:59:59", "2026-02", "2026-02-01T00:00", 28 * 24),
    ("UTC0", MONTHLY, "2028-02-29T12:00:00", "2028-02", "2028-02-01T00:00", 29 * 24),
    ("UTC0", MONTHLY, "2026-04-30T12:00:00", "2026-04", "2026-04-01T00:00", 30 * 24),
    ("UTC0", MONTHLY, "2026-12-31T12:00:00", "2026-12", "2026-12-01T00:00", 31 * 24),
    (NEW_YORK, MONTHLY, "2026-03-15T12:00:00", "2026-03", "2026-03-01T05:00", 31 * 24 - 1),
    (NEW_YORK, MONTHLY, "2026-12-01T04:59:59", "2026-11", "2026-11-01T04:00", 30 * 24 + 1),
]


@pytest.mark.parametrize(("zone", "kind", "moment", "name", "start", "hours"), PERIODS)
def test_period_follows_the_calendar_of_the_zone(
    zone: str, kind: BudgetKind, moment: str, name: str, start: str, hours: int
) -> None:
    """A period has the day or month of the time zone, however many hours that has."""
    with local_zone(zone):
        period = Period.of(kind, at(moment))

    assert (period.name, period.start) == (name, at(start))
    assert period.end - period.start == timedelta(hours=hours)


@given(
    st.sampled_from(ZONES),
    st.sampled_from(BudgetKind),
    st.integers(1_577_836_800, 2_051_222_400).map(lambda time: datetime.fromtimestamp(time, UTC)),
)
def test_every_moment_is_in_its_period(zone: str, kind: BudgetKind, moment: datetime) -> None:
    """Periods have no gaps between them and do not overlap, also where the clocks change."""
    with local_zone(zone):
        period = Period.of(kind, moment)
        found = [Period.of(kind, each) for each in (period.start, period.end - timedelta(0, 1))]

        assert period.start <= moment < period.end
        assert found == [period, period]
        assert Period.of(kind, period.end).start == period.end


@given(
    st.integers(1, 10**12),
    st.integers(1, 1_000),
    st.sampled_from([Decimal("1e-12"), Decimal("1e-9"), Decimal("0.01")]),
)
def test_threshold_is_reached_at_its_exact_sum(cents: int, part: int, less: Decimal) -> None:
    """A threshold is reached at its sum, and not when the smallest part of a cent is missing."""
    threshold = Decimal(part)
    limit = Decimal(cents).scaleb(-2)
    budget = replace(BUDGET, limit=limit, thresholds=(threshold,))
    exact = limit * threshold / 100

    assert budget.reached(exact) == [threshold]
    assert budget.reached(exact - less) == []


NOTHING: Final = Spent()
GOING_ON: Final = Spent(Decimal("2.5"), 3, 1)


@dataclass
class FakeCosts:
    """Costs with one sum for all periods."""

    sum: Spent = NOTHING
    going_on: Spent = GOING_ON
    crossed: set[str] = field(default_factory=set)

    def ends(self, job_ids: Sequence[str]) -> list[datetime]:
        """Return no end."""
        raise NotImplementedError

    def spent(self, _budget: Budget, _period: Period) -> Spent:
        """Return the sum."""
        return self.sum

    def committed(self, _budget: Budget) -> Spent:
        """Return the estimates."""
        return self.going_on

    def is_crossed(self, event: str) -> bool:
        """Return whether a crossing is recorded."""
        return event in self.crossed

    def record_crossing(self, event: str) -> None:
        """Record a crossing."""
        self.crossed.add(event)


def announced(
    *sums: str, budget: Budget = BUDGET, costs: FakeCosts | None = None, **changes: Any
) -> list[list[float]]:
    """Return the thresholds that are announced after each sum in turn."""
    costs = costs or FakeCosts()
    budgets = Budgets((budget,), changes.pop("origin", ORIGIN))
    found = []
    for dollars in sums:
        costs.sum = Spent(Decimal(dollars), 4, 1)
        events = budgets.crossings([NOON], costs, changes.get("now", NOON))
        found.append([event.data["threshold_percent"] for event in events])
    return found


def test_each_threshold_is_announced_once() -> None:
    """What is reached is announced, the lowest first, and a sum that falls does not undo it."""
    assert announced("49", "50", "60", "40", "55") == [[], [50], [], [], []]
    assert announced("99", "120", "120") == [[50, 80], [100], []]


def test_crossing_has_the_whole_state() -> None:
    """The event has exact sums, and names what they lack."""
    costs = FakeCosts(Spent(Decimal("80.000000000001"), 4, 1))
    _, event = Budgets((BUDGET,), ORIGIN).crossings([NOON], costs, NOON)

    data = check_event(event.body)["data"]
    assert {name: data[name] for name in ("spent_usd", "committed_usd", "projected_usd")} == {
        "spent_usd": "80.000000000001",
        "committed_usd": "2.5",
        "projected_usd": "82.500000000001",
    }
    assert (data["jobs"], data["cost_unknown"], data["estimate_unknown"]) == (4, 1, 1)
    assert (data["limit_usd"], data["threshold_percent"], data["model_patterns"]) == ("100", 80, [])


def test_jobs_that_go_on_count_in_no_past_period() -> None:
    """When a late cost crosses the budget of yesterday, unfinished jobs are no part of that."""
    costs = FakeCosts(Spent(Decimal(50), 1, 0))
    tomorrow = NOON + timedelta(days=1)
    (event,) = Budgets((BUDGET,), ORIGIN).crossings([NOON], costs, tomorrow)

    assert event.data["projected_usd"] == "50"


def ids(budget: Budget = BUDGET, *, day: int = 29, now: datetime = NOON, **origin: str) -> set[str]:
    """Return the ids of all crossings of a day."""
    budgets = Budgets((budget,), replace(ORIGIN, **origin))
    costs = FakeCosts(Spent(Decimal(1_000), 1, 0))
    moment = NOON.replace(day=day)
    return {event.id for event in budgets.crossings([moment], costs, now)}


def test_ids_of_crossings_never_change() -> None:
    """These ids are stored by receivers: no version may change them."""
    assert ids(replace(BUDGET, thresholds=(Decimal(80),))) == {
        "evt_exqccuykdgtbolghn75tmgpez4zqs5qdu5s3sk7cugs4wutk4pzq"
    }


def test_ids_depend_on_what_is_crossed_alone() -> None:
    """A crossing has one id whenever and however often it is found; any other has another."""
    assert ids() == ids(now=NOON + timedelta(days=3))
    assert ids() == ids(replace(BUDGET, limit=Decimal("100.00")))
    found = [
        ids(),
        ids(day=28),
        ids(replace(BUDGET, kind=MONTHLY)),
        ids(replace(BUDGET, limit=Decimal(200))),
        ids(replace(BUDGET, models=("llama*",))),
        ids(deployment="other"),
        ids(namespace="acme"),
    ]
    assert len(set().union(*found)) == len(PARTS) * len(found)


@pytest.mark.parametrize("year", [1970, 9999])
def test_times_of_a_wrong_clock_have_no_period(year: int) -> None:
    """A job that ended in an impossible year crosses nothing, and does no harm."""
    costs = FakeCosts(Spent(Decimal(1_000), 1, 0))
    moment = datetime(year, 12, 31, 23, 59, tzinfo=UTC)

    assert Budgets((BUDGET,), ORIGIN).crossings([moment], costs, NOON) == []


def test_amounts_have_no_exponent() -> None:
    """A decimal is written with its digits and nothing else."""
    numbers = [Decimal("1E+3"), Decimal("0.10"), Decimal("1E-12"), Decimal(0)]

    assert [plain(number) for number in numbers] == ["1000", "0.1", "0.000000000001", "0"]
