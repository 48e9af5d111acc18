"""The API's clock, from the Date of its responses."""

from datetime import UTC, datetime
from math import floor
from random import Random

import pytest

from poller.sutro.clock_skew import ClockSkew


def sample(clock_skew: ClockSkew, ours: float, *, ahead: float, took: float = 0.05) -> None:
    """Sample a response made halfway between two moments, by an API that is so far ahead."""
    made_at = datetime.fromtimestamp(floor(ours + took / 2 + ahead), UTC)
    clock_skew.sample(made_at, requested_at=ours, received_at=ours + took)


def test_clock_skew_is_0_before_the_first_response():
    """Before the first response both clocks count as one."""
    assert ClockSkew().seconds == 0.0
    assert not ClockSkew().is_small


@pytest.mark.parametrize(
    ("ahead", "is_small"), [(0.0, True), (-3_500.0, True), (3_700.0, False), (-86_400.0, False)]
)
def test_small_clock_skew_confirms_a_clock(ahead: float, is_small: bool):
    """A response confirms our clock if the API's clock shows the same hour."""
    clock_skew = ClockSkew()
    sample(clock_skew, 1e9, ahead=ahead)

    assert clock_skew.is_small is is_small


@pytest.mark.parametrize("ahead", [0.0, 0.49, -7.3, 3_600.0])
def test_clock_skew_narrows_with_responses(ahead):
    """One response states the offset to half a second and its own time, many to a tenth."""
    clock_skew, random = ClockSkew(), Random(7)
    sample(clock_skew, 1e9 + random.random(), ahead=ahead)
    first = clock_skew.seconds
    for number in range(40):
        sample(clock_skew, 1e9 + 8.0 * number + random.random(), ahead=ahead)

    assert first == pytest.approx(ahead, abs=0.55)
    assert clock_skew.seconds == pytest.approx(ahead, abs=0.1)


def test_clock_skew_follows_a_clock_that_is_set():
    """When responses contradict those before them, the newest counts."""
    clock_skew = ClockSkew()
    for number in range(5):
        sample(clock_skew, 1e9 + number, ahead=0.0)
    sample(clock_skew, 1e9 + 10.0, ahead=120.0)

    assert clock_skew.seconds == pytest.approx(120.0, abs=0.55)


@pytest.mark.parametrize("year", [1, 1800, 2300, 9999])
def test_clock_skew_ignores_an_absurd_date(year: int):
    """No clock is a century off: with such a difference other dates could not be computed."""
    clock_skew = ClockSkew()
    sample(clock_skew, 1e9, ahead=3_600.0)
    absurd = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    clock_skew.sample(absurd, requested_at=1e9 + 9.0, received_at=1e9 + 9.1)

    assert clock_skew.seconds == pytest.approx(3_600.0, abs=0.55)


def test_clock_skew_follows_a_drifting_clock():
    """A clock that gains half a second in two hours is never taken to be set."""
    clock_skew = ClockSkew()
    for number in range(720):
        sample(clock_skew, 1e9 + 10.3 * number, ahead=10.3 * number * 7e-5)

    assert clock_skew.seconds == pytest.approx(720 * 10.3 * 7e-5, abs=0.2)
