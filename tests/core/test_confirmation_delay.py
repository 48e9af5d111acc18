"""How long pages alone may show a job until a GET confirms that."""

from datetime import UTC, datetime

import pytest

from poller.core.pacing import confirmation_delay
from poller.core.state import JobState, Phase
from tests.support.builders import a_job

NOW = datetime(2024, 1, 15, 12, tzinfo=UTC)
HOUR = 3_600.0


def delay(created: str | None, *, watched_for: float) -> float:
    """Return the longest delay for a running job that was watched for so many seconds."""
    since, job = NOW.timestamp() - watched_for, a_job(datetime_created=created)
    state = JobState(job_id="job-1", since=since, phase=Phase.ACTIVE, job=job)
    return confirmation_delay(state, NOW.timestamp(), clock_skew=0.0, random=lambda: 0.0)


@pytest.mark.parametrize(
    ("created", "seconds"),
    [("2024-01-15T11:59:00Z", 600.0), ("2024-01-15T02:00:00Z", HOUR), (None, 600.0)],
)
def test_confirmation_comes_after_a_tenth_of_the_age(created: str | None, seconds: float):
    """The delay is ten minutes, or a tenth of the time since the creation."""
    assert delay(created, watched_for=60.0) == seconds


@pytest.mark.parametrize("created", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31"])
def test_wrong_date_puts_off_no_confirmation(created: str):
    """For a job that seems to be older than the API, the time that it was watched counts."""
    assert delay(created, watched_for=60.0) == 600.0
    assert delay(created, watched_for=10 * HOUR) == HOUR
