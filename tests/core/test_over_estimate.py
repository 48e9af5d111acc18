"""What is announced of a cost that is over its estimate."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.over_estimate import is_over_estimate
from poller.core.state import LifecyclePolicy, Signal
from tests.support.builders import FINAL, REASON, a_job
from tests.support.state_builders import Seen, event_types, watch

RULES = LifecyclePolicy(cost_over_estimate=1.2)
OVER = "job.cost_over_estimate"
DEAR = FINAL | REASON | {"job_cost": 1.5, "cost_estimate": 1.0}
DAY = 86_400.0

CASES = [
    (1.2, 1.0, False),
    (1.3, 1.0, True),
    (0.36, 0.3, False),  # as floating-point numbers 0.3 * 1.2 is less than 0.36
    (0.06, 0.05, False),
    (0.061, 0.05, True),
    (0.012, 0.002, True),
    (0.0119, 0.002, False),  # less than a cent more
    (0.02, 0.0, True),
    (0.0, 0.0, False),
    (None, 1.0, False),
    (5.0, None, False),
]


@pytest.mark.parametrize(("cost", "estimate", "is_over"), CASES)
def test_cost_over_estimate_is_an_exact_comparison(
    cost: float | None, estimate: float | None, *, is_over: bool
) -> None:
    """A cost is over its estimate beyond the factor and by a cent at least, to the last digit."""
    job = a_job("SUCCEEDED", job_cost=cost, cost_estimate=estimate)

    assert is_over_estimate(job, 1.2) is is_over


@given(st.integers(1, 10**9), st.integers(10, 99))
def test_cost_that_is_the_limit_is_not_over(millionths: int, tenths: int) -> None:
    """A cost of exactly the factor times its estimate is never over it, whatever the digits."""
    cost = float(f"{millionths * tenths}e-7")
    job = a_job("SUCCEEDED", job_cost=cost, cost_estimate=float(f"{millionths}e-6"))

    assert not is_over_estimate(job, tenths / 10)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_cost_is_announced_after_every_kind_of_end(status: str) -> None:
    """A job that cost too much is reported right after its end, however it ended, once."""
    dear = a_job(status, **DEAR)
    decisions = watch((0.0, dear), (9.0, dear), rules=RULES)

    assert event_types(decisions) == [[f"job.{status.lower()}", OVER], []]
    assert [draft.sequence for draft in decisions[0].drafts] == [1, 2]
    assert decisions[0].drafts[1].job == dear


def a_late(**fields: Any) -> Seen:
    """Return a cancelled job, seen an hour after its end."""
    return 3_600.0, a_job("CANCELLED", cost_estimate=1.0, **fields)


ENDED = (0.0, a_job("CANCELLED", cost_estimate=1.0, datetime_completed="2024-01-15T10:32:15Z"))
ALL = FINAL | {"job_cost": 1.5}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([a_late(**ALL), a_late(**ALL)], [["job.settled", OVER], []]),
        ([a_late(job_cost=1.5), a_late(**ALL)], [[OVER], ["job.settled"]]),
        ([a_late(job_cost=1.5), (DAY, Signal.TIMER)], [[OVER], ["job.settled"]]),
        ([a_late(input_tokens=20), a_late(**ALL)], [[], ["job.settled", OVER]]),
        ([a_late(**ALL | {"job_cost": 0.5}), a_late(**ALL)], [["job.settled"], []]),
    ],
)
def test_late_cost_is_announced_as_soon_as_it_is_known(
    seen: list[Seen], expected: list[list[str]]
) -> None:
    """A cost that comes after the end is compared when it comes, and never a second time."""
    decisions = watch(ENDED, *seen, rules=RULES)

    assert event_types(decisions) == [["job.cancelled"], *expected]


def test_settling_job_is_announced_with_its_cost() -> None:
    """A cost that the end waits for is compared at the end, not before."""
    early = a_job("SUCCEEDED", job_cost=1.5, cost_estimate=1.0)
    decisions = watch((0.0, early), (30.0, Signal.TIMER), rules=RULES)

    assert event_types(decisions) == [[], ["job.succeeded", OVER]]


def test_nothing_is_compared_when_it_is_off() -> None:
    """Without a factor no cost is announced."""
    decisions = watch((0.0, a_job("SUCCEEDED", **DEAR)), rules=LifecyclePolicy())

    assert event_types(decisions) == [["job.succeeded"]]
