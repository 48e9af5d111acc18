"""The event of a digest: its ID, and what it has of its events."""

from datetime import timedelta

from poller.core.events import Event, digest_event
from tests.support.builders import a_job
from tests.support.event_builders import OBSERVED, ORIGIN, an_event


def an_end(number: int) -> Event:
    """Return the end of one of some jobs."""
    job = a_job("SUCCEEDED", job_id=f"job-{number}", job_cost=0.1)
    return an_event("job.succeeded", job_id=job.job_id, job=job)


def test_same_events_have_the_same_digest():
    """The ID depends on the events and the sink alone, so that a replay has the same one."""
    events = [an_end(number) for number in (1, 2)]

    first = digest_event(events, ORIGIN, OBSERVED, sink="slack")

    later = OBSERVED + timedelta(hours=1)
    assert digest_event(events, ORIGIN, later, sink="slack").id == first.id
    assert digest_event([*events, an_end(3)], ORIGIN, OBSERVED, sink="slack").id != first.id
    assert digest_event(events, ORIGIN, OBSERVED, sink="slack.night").id != first.id
    assert first.id not in {event.id for event in events}


def test_costs_are_added_exactly():
    """A sum of dimes is a decimal number."""
    digest = digest_event([an_end(n) for n in (1, 2, 3)], ORIGIN, OBSERVED, sink="slack")

    assert digest.data["cost_usd"] == "0.3"
