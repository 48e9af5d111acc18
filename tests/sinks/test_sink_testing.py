"""The helpers for authors of sinks."""

import pytest

from poller.core.state import JobEventType
from poller.sinks import DeliveryError
from poller.sinks.testing import FakeSink, sample_delivery
from tests.support.builders import check_event


@pytest.mark.parametrize("event_type", JobEventType)
def test_sample_delivery_has_a_valid_event(event_type: str):
    """A sample of every event type of a job follows the schema of events."""
    event = sample_delivery(event_type, job_id="job-7").event

    assert check_event(event.body)["type"] == event.type == event_type
    assert event.data["job"]["job_id"] == "job-7"


async def test_fake_sink_records_deliveries():
    """A fake sink keeps what it was sent."""
    sink, delivery = FakeSink(), sample_delivery()

    await sink.send(delivery)

    assert sink.attempts == sink.delivered == [delivery]


async def test_fake_sink_fails_on_demand():
    """A failure is raised for each attempt until it is removed."""
    sink, delivery = FakeSink(), sample_delivery()
    sink.failure = DeliveryError("503")

    with pytest.raises(DeliveryError, match="503"):
        await sink.send(delivery)
    sink.failure = None
    await sink.send(delivery)

    assert (len(sink.attempts), sink.delivered) == (2, [delivery])
