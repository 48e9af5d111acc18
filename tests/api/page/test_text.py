"""Values as pages show them."""

from datetime import UTC, datetime

import pytest

from poller.api.page.rows import JobRow
from poller.api.page.text import clip, moment
from poller.core.duration_history import DurationHistory

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "utc", "distance"),
    [
        ("2026-01-02T03:04:00Z", "2026-01-02 03:04:00 UTC", "5s ago"),
        ("2026-01-02T03:04:05.4Z", "2026-01-02 03:04:05 UTC", "just now"),
        (NOW.timestamp() - 3_600.0, "2026-01-02 02:04:05 UTC", "1h0m ago"),
        ("2026-01-02T03:05:05Z", "2026-01-02 03:05:05 UTC", "in 1m0s"),
        (datetime.min.replace(tzinfo=UTC), "0001-01-01 00:00:00 UTC", "739617d3h ago"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31 23:59:59 UTC", "in 2912441d20h"),
    ],
)
def test_moment_is_shown_in_utc_and_as_a_distance(value, utc: str, distance: str):
    """Any time is shown, also one that no job can have."""
    shown = moment(value, NOW)

    assert shown is not None
    assert (shown.utc, shown.distance) == (utc, distance)


def test_clip_returns_one_line():
    """A text is one line, and not longer than its limit."""
    assert clip(" a\n b\t") == "a b"
    assert clip("x" * 121) == "x" * 119 + "…"
    assert clip(None) == ""


@pytest.mark.parametrize("job", [None, {}, {"job_id": "job-1"}, {"job_id": "job-1", "status": "?"}])
def test_row_of_a_damaged_job_is_shown(job):
    """A job of which nothing but the state is known has a row."""
    given = {"job_id": "job-1", "state": "FAILED", "changed_at": None, "job": job}
    row = JobRow.of(given, NOW, DurationHistory())

    assert (row.job_id, row.state, row.tone) == ("job-1", "FAILED", "bad")
    assert (row.name, row.duration, row.cost, row.reason, row.since) == ("", "", "", "", None)
