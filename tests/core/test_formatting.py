"""Durations, costs and failure reasons as people read them."""

from decimal import Decimal

import pytest

from poller.core.formatting import failure_message, format_cost, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (4.8, "4.8s"),
        (15.0, "15s"),
        (59.97, "1m0s"),
        (120.4, "2m0s"),
        (3599.6, "1h0m"),
        (5400.0, "1h30m"),
        (100_000.0, "1d3h"),
    ],
)
def test_format_duration(seconds: float, text: str):
    """A duration has two units: tenths below a minute, no seconds above an hour."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("cost", "text"),
    [(0, "$0.0000"), (0.0234, "$0.0234"), (Decimal("0.5831"), "$0.58"), (1234.5, "$1,234.50")],
)
def test_format_cost(cost, text: str):
    """A cost has cents, and hundredths of a cent below ten cents."""
    assert format_cost(cost) == text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (None, ""),
        ({}, ""),
        ({"message": "out of\n  memory"}, "out of memory"),
        ({"code": 7}, '{"code": 7}'),
        ({"message": 7, "what": "ä"}, '{"message": 7, "what": "ä"}'),
    ],
)
def test_failure_message(reason, text: str):
    """The message is one line; a reason without a message is shown whole."""
    assert failure_message(reason) == text
