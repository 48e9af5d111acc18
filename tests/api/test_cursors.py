"""The cursors of pages: whatever the server returns as one, it accepts as one."""

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from poller.api.models import EventsCursor, JobsCursor, format_cursor, parse_cursor

MOMENTS = st.floats(min_value=0.0, max_value=1e11)
JOBS, EVENTS = TypeAdapter(JobsCursor), TypeAdapter(EventsCursor)


@given(moment=MOMENTS)
@example(moment=60.12345678901234)
@example(moment=1e-05)
def test_cursor_of_any_time_is_accepted(moment: float):
    """A host that booted in 1970 has times with more decimals; its next pages are served too."""
    of_job, of_event = format_cursor((moment, "job-1")), format_cursor((moment, 7))

    assert parse_cursor(JOBS.validate_python(of_job), str) == (moment, "job-1")
    assert parse_cursor(EVENTS.validate_python(of_event), int) == (moment, 7)
