"""Decodes the API's responses: usual JSON in one pass, odd JSON leniently."""

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
from poller.runtime.http_client import Response

BYTES_PER_VALUE: Final = 64
"""A body may hold one JSON value for this many bytes of its cap.

In memory, a value of three bytes takes up to a hundred, and a body of nothing else blocks this
process for a second. Texts, which make a job object large, count once each.
"""
VALUE_SEPARATORS: Final = (b",", b"[", b"{")
MAX_INTEGER_DIGITS: Final = 18


def _shape(**fields: CoreSchema) -> CoreSchema:
    """Return the schema of a JSON object with these fields, all of them optional."""
    optional = {name: typed_dict_field(field, required=False) for name, field in fields.items()}
    return typed_dict_schema(optional, extra_behavior="ignore")


def _validator(**fields: CoreSchema) -> SchemaValidator:
    return SchemaValidator(_shape(**fields), CoreConfig(cache_strings="keys"))


ANYTHING: Final = any_schema()
JOB: Final = _shape(job_id=ANYTHING, **dict.fromkeys(EVENT_FIELDS, ANYTHING))
JOBS: Final = list_schema(JOB, fail_fast=True)

VALIDATORS: Final = {
    "job": _validator(job=JOB),
    "status": _validator(job_status=ANYTHING, metadata=ANYTHING),
    "list": _validator(jobs=JOBS, next_cursor=ANYTHING),
    "message": _validator(message=ANYTHING),
}
"""The fields of each kind of response. Prompts and schemas, which can be large, are skipped."""


def decode(response: Response, kind: str, cap: int) -> dict[str, Any]:
    """Return a body as a JSON object, whatever its content type says."""
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise MalformedResponse("the response has an encoding that was not requested")
    max_values = cap // BYTES_PER_VALUE
    # Separators inside texts count too: telling them apart takes longer than decoding.
    if (
        len(response.body) > max_values
        and sum(map(response.body.count, VALUE_SEPARATORS)) > max_values
    ):
        raise ResponseTooLarge(f"the response has more than {max_values} values")
    try:
        raw = VALIDATORS[kind].validate_json(response.body)
    except ValueError:
        raw = _decode_leniently(response.body)
    if not isinstance(raw, dict):
        raise MalformedResponse("the response is not a JSON object")
    return raw


def _decode_leniently(body: bytes) -> Any:
    """Decode odd JSON, or JSON of another shape, in twice the time."""
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_int=_integer)
    except (ValueError, RecursionError):
        raise MalformedResponse("the response is not JSON: check SUTRO_API_URL") from None


def _integer(digits: str) -> int | None:
    """Return an integer of a sane length: Python rejects a whole body for one of 5,000 digits."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else None
