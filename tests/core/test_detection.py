"""The detection lag of an end, its bound, and the API's own delay."""

from datetime import UTC, datetime, timedelta

import pytest

from poller.core.detection_lag import Detection

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
SEEN_AT = NOON.timestamp()
LAST_SEEN_AT = SEEN_AT - 10.0


def detected(ago: float | None, **changes: float | None) -> tuple[float | None, ...]:
    """Return lag, bound and visibility delay of an end so many seconds before noon."""
    happened_at = None if ago is None else NOON - timedelta(seconds=ago)
    fields = {"detected_at": SEEN_AT, "last_seen_at": LAST_SEEN_AT} | changes
    found = Detection(**fields).as_dict(happened_at)
    return tuple(
        found[name] for name in ("lag_seconds", "lag_max_seconds", "visibility_delay_seconds")
    )


@pytest.mark.parametrize(
    ("ago", "changes", "found"),
    [
        (4.0, {}, (4.0, 10.0, 0.0)),
        (4.0, {"clock_skew": 1.5}, (5.5, 10.0, 0.0)),
        (4.0, {"clock_skew": -1.5}, (2.5, 10.0, 0.0)),
        (13.0, {}, (10.0, 10.0, 3.0)),
        (-2.0, {}, (0.0, 10.0, 0.0)),
        (None, {}, (None, 10.0, None)),
        (4.0, {"last_seen_at": None}, (4.0, None, None)),
        (None, {"last_seen_at": None}, (None, None, None)),
        (1.00049, {}, (1.0, 10.0, 0.0)),
    ],
    ids=[
        "between two polls",
        "the API's clock is ahead",
        "the API's clock is behind",
        "a later poll did not show it",
        "in the future",
        "undated",
        "at the first poll",
        "undated at the first poll",
        "to the millisecond",
    ],
)
def test_lag(ago, changes, found):
    """The lag is the delay of our polls, without the time for which the API withheld the change."""
    assert detected(ago, **changes) == found


def test_previous_poll_at():
    """The previous poll is reported by the wall clock, or null if there was none."""
    before = Detection(
        detected_at=SEEN_AT,
        last_seen_at=LAST_SEEN_AT,
        previous_poll_at=NOON - timedelta(seconds=10.25),
    )

    assert before.as_dict(NOON)["previous_poll_at"] == "2024-01-15T11:59:49.750Z"
    assert Detection(detected_at=SEEN_AT).as_dict(NOON)["previous_poll_at"] is None
