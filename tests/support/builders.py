"""Builders of job objects and jobs, and the validation of an event's body."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

from poller.core.events import json_schema
from poller.core.jobs import Job
from poller.core.parsing import parse_job

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"
GOLDEN: Final = Path(__file__).parents[1] / "golden"

EXAMPLE: Final[dict[str, Any]] = json.loads((FIXTURES / "job-12345.json").read_text("utf-8"))
"""The job object of the API's documentation: job-12345, succeeded, complete."""

FINAL: Final = {
    "job_cost": 0.5,
    "datetime_completed": "2024-01-15T10:32:15Z",
    "input_tokens": 20,
    "output_tokens": 7,
}
"""The fields that make the end of a job final, unless it failed."""

REASON: Final = {"failure_reason": {"message": "out of quota"}}
"""What the end of a failed job has beside these."""


def a_job_object(**fields: Any) -> dict[str, Any]:
    """Return the documented example as the API sends it, with some fields changed."""
    return EXAMPLE | fields


def a_job(status: str = "RUNNING", **fields: Any) -> Job:
    """Return a job of which little is known beside its status."""
    return parse_job({"job_id": "job-1", "status": status} | fields)


def check_event(body: bytes) -> dict[str, Any]:
    """Parse an event's body after checking its size, its text and its shape."""
    assert len(body) <= 20_000
    assert not [byte for byte in body if byte < 0x20]
    event: dict[str, Any] = json.loads(body.decode())
    _validator().validate(event)
    return event


@cache
def _validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(json_schema())
    return Draft202012Validator(json_schema())
