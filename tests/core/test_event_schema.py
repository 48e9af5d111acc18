"""The JSON Schema of events."""

import json

import pytest
from jsonschema import ValidationError

from poller.core.events import DEFAULT_SINK_EVENTS, RECORDED_TYPES, json_schema
from tests.support.builders import GOLDEN, check_event


def test_schema_has_every_type():
    """The schema has one shape for each event type, and for no other."""
    shapes = [shape["properties"]["type"]["const"] for shape in json_schema()["oneOf"]]

    assert sorted(shapes) == sorted(RECORDED_TYPES)
    assert DEFAULT_SINK_EVENTS < RECORDED_TYPES


MISSHAPEN = [
    lambda event: event.update(type="job.paused"),
    lambda event: event.update(extra=1),
    lambda event: event.update(timestamp="2024-01-15 10:32:15"),
    lambda event: event["data"].pop("observed_at"),
    lambda event: event["data"].pop("sequence"),
    lambda event: event["data"].update(sequence=0),
    lambda event: event["data"].update(final=None),
    lambda event: event["data"]["job"].update(job_cost=None),
    lambda event: event["data"]["job"].update(output_tokens=None),
    lambda event: event["data"].update(previous_status="UNKNOWN"),
    lambda event: event["data"].update(job={"job_id": "job-1"}),
    lambda event: event["data"]["job"].pop("name"),
    lambda event: event["data"]["job"].update(status="FAILED"),
    lambda event: event["data"]["job"].update(job_cost="0.5"),
    lambda event: event["data"]["job"].update(input_tokens=-1),
    lambda event: event["data"]["job"].update(system_prompt="x"),
]


@pytest.mark.parametrize("spoil", MISSHAPEN, ids=range(len(MISSHAPEN)))
def test_schema_rejects_invalid_bodies(spoil):
    """A body with any invalid part is rejected."""
    event = json.loads((GOLDEN / "job-12345.succeeded.json").read_bytes())
    spoil(event)

    with pytest.raises(ValidationError):
        check_event(json.dumps(event).encode())


def test_schema_allows_new_keys():
    """A key that a later version adds to the data is valid in an older schema."""
    event = json.loads((GOLDEN / "job-12345.succeeded.json").read_bytes())
    event["data"]["eta_seconds"] = 5

    assert check_event(json.dumps(event).encode())
