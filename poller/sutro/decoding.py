"""Read what the API answers: JSON as it should be in one go, and odd JSON with patience."""

import json
from typing import Any, Final

from pydantic_core import SchemaValidator
from pydantic_core.core_schema import (
    CoreConfig,
    CoreSchema,
    any_schema,
    list_schema,
    typed_dict_field,
    typed_dict_schema,
)

from poller.core.errors import MalformedResponse, ResponseTooLarge
from poller.core.jobs import EVENT_FIELDS
from poller.runtime.http import Response

BYTES_PER_VALUE: Final = 64
"""A body may hold one JSON value for so many bytes of its cap.

Read, a value of three bytes takes up to a hundred, and a body of nothing else holds up all that
this process does for a second. Texts, which make a job object large, count once each.
"""
VALUE_BEGINS: Final = (b",", b"[", b"{")
MAX_INTEGER_DIGITS: Final = 18


def _shape(**fields: CoreSchema) -> CoreSchema:
    """Give the shape of a JSON object of which these fields are read, where they are there."""
    there = {name: typed_dict_field(field, required=False) for name, field in fields.items()}
    return typed_dict_schema(there, extra_behavior="ignore")


def _reader(**fields: CoreSchema) -> SchemaValidator:
    return SchemaValidator(_shape(**fields), CoreConfig(cache_strings="keys"))


ANYTHING: Final = any_schema()
JOB: Final = _shape(job_id=ANYTHING, **dict.fromkeys(EVENT_FIELDS, ANYTHING))
JOBS: Final = list_schema(JOB, fail_fast=True)

READERS: Final = {
    "job": _reader(job=JOB),
    "status": _reader(job_status=ANYTHING, metadata=ANYTHING),
    "list": _reader(jobs=JOBS, next_cursor=ANYTHING),
    "message": _reader(message=ANYTHING),
}
"""What is read of each kind of answer. Prompts and schemas, which can be large, are passed over."""


def decode(answer: Response, kind: str, cap: int) -> dict[str, Any]:
    """Read a body as a JSON object, whatever its content type says."""
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise MalformedResponse("the answer has an encoding that was not asked for")
    most = cap // BYTES_PER_VALUE
    # Those in a text count too: to tell them apart takes longer than to read them.
    if len(answer.body) > most and sum(map(answer.body.count, VALUE_BEGINS)) > most:
        raise ResponseTooLarge(f"the answer has more than {most} values")
    try:
        raw = READERS[kind].validate_json(answer.body)
    except ValueError:
        raw = _decode_leniently(answer.body)
    if not isinstance(raw, dict):
        raise MalformedResponse("the answer is not a JSON object")
    return raw


def _decode_leniently(body: bytes) -> Any:
    """Read JSON that is odd, or of another shape, in twice the time."""
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_int=_integer)
    except (ValueError, RecursionError):
        raise MalformedResponse("the answer is not JSON: check SUTRO_API_URL") from None


def _integer(digits: str) -> int | None:
    """Read an integer of a sane length: Python refuses a whole body for one of 5,000 digits."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else None
