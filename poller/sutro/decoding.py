"""Decodes the API's responses: usual JSON in one pass, odd JSON leniently."""

import json
from functools import cache
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
from poller.runtime.content_encoding import decompress
from poller.runtime.http_values import Response

BYTES_PER_VALUE: Final = 64
"""A body may hold one JSON value for this many bytes of its cap, besides fields that are not read.

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

ENVELOPES: Final = {
    "job": ("job",),
    "status": ("job_status", "metadata"),
    "list": ("jobs", "next_cursor"),
    "message": ("message",),
}
"""The fields of each kind of response. Prompts and schemas, which can be large, are skipped."""
SHAPES: Final = {"job": JOB, "jobs": JOBS}
VALIDATORS: Final = {
    kind: _validator(**{name: SHAPES.get(name, ANYTHING) for name in names})
    for kind, names in ENVELOPES.items()
}


def decode(response: Response, kind: str, cap: int) -> dict[str, Any]:
    """Return a body as a JSON object, whatever its content type says."""
    body = _decompress(response, cap)
    max_values = cap // BYTES_PER_VALUE
    if _has_more_values(body, max_values):
        body = _without_other_fields(body, kind)
        if _has_more_values(body, max_values):
            raise ResponseTooLarge(f"the response has more than {max_values} values")
    try:
        raw = VALIDATORS[kind].validate_json(body)
    except ValueError:
        raw = _decode_leniently(body)
    if not isinstance(raw, dict):
        raise MalformedResponse("the response is not a JSON object")
    return raw


def _decompress(response: Response, cap: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity")
    try:
        body = decompress(response.body, encoding, limit=cap + 1)
    except ValueError:
        raise MalformedResponse("the response has an encoding that was not requested") from None
    if len(body) > cap:
        raise ResponseTooLarge(f"the response is over {cap} bytes")
    return body


def _has_more_values(body: bytes, limit: int) -> bool:
    # Separators inside texts count too: telling them apart takes longer than decoding.
    return len(body) > limit and sum(map(body.count, VALUE_SEPARATORS)) > limit


def _without_other_fields(body: bytes, kind: str) -> bytes:
    """Return a body with the fields that are read and nothing else; odd JSON as it is."""
    from msgspec import json as lazy_json  # noqa: PLC0415 - only for large responses

    try:
        return lazy_json.encode(lazy_json.decode(body, type=_raw_shape(kind)))
    except (ValueError, RecursionError):
        return body


@cache
def _raw_shape(kind: str) -> Any:
    """Return the shape of a response whose fields are left as they are, without decoding them."""
    from msgspec import UNSET, Raw, defstruct  # noqa: PLC0415 - only for large responses

    job = defstruct("Job", [(name, Raw, UNSET) for name in ("job_id", *EVENT_FIELDS)])
    types = {"job": job, "jobs": list[job]}  # type: ignore[valid-type]
    names = ENVELOPES[kind]
    return defstruct("Envelope", [(name, types.get(name, Raw), UNSET) for name in names])


def _decode_leniently(body: bytes) -> Any:
    """Decode odd JSON, or JSON of another shape, in twice the time."""
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_int=_integer)
    except (ValueError, RecursionError):
        raise MalformedResponse("the response is not JSON: check SUTRO_API_URL") from None


def _integer(digits: str) -> int | None:
    """Return an integer of a sane length: Python rejects a whole body for one of 5,000 digits."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else None
