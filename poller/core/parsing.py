"""The parser of job objects: lenient with optional fields, strict with `job_id` and `status`.

The end of a job with an invalid optional field must still be reported, so that field becomes None
and is named in `Job.invalid_fields`. A field's parser raises ValueError or OverflowError for it.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.errors import MalformedResponse
from poller.core.job_status import STATUS_ALIASES, JobStatus
from poller.core.jobs import Job, aware, is_job_id

NAME_CHARS: Final = 500
DESCRIPTION_CHARS: Final = 1_000
FAILURE_REASON_BYTES: Final = 4_096
FAILURE_REASON_DEPTH: Final = 8
COUNT_MAX: Final = 2**63 - 1

_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def strip_unprintable(text: str) -> str:
    """Return a text without control characters and surrogates, for terminals, logs and JSON.

    The controls of the direction of text go too: with them a name shows as another one.
    """
    return _UNPRINTABLE.sub("", text)


def _parse_text(limit: int) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        return strip_unprintable(value[:limit])

    return parse


def _parse_model(value: object) -> str:
    """Return an interned text: many jobs share one model."""
    return sys.intern(_parse_text(NAME_CHARS)(value))


def _parse_count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_MAX:
        raise ValueError
    return value


def _parse_dollars(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return float(value)


def _parse_timestamp(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError
    return aware(datetime.fromisoformat(value.strip())).astimezone(UTC)


def _parse_failure_reason(value: object) -> dict[str, Any]:
    """Return a failure reason of at most FAILURE_REASON_BYTES; keep only the message of a larger.

    The API documents an object. A bare text is accepted too: an operator needs to see it.
    """
    if isinstance(value, str):
        value = {"message": value}
    if not isinstance(value, dict):
        raise ValueError
    reason: dict[str, Any] = _clean_tree(value)
    text = json.dumps(reason, ensure_ascii=False)
    if len(text.encode()) <= FAILURE_REASON_BYTES:
        return reason
    message = reason.get("message")
    text = message if isinstance(message, str) else text
    return {"message": text[: FAILURE_REASON_BYTES // 4 - 16], "truncated": True}


def _clean_tree(value: object, depth: int = FAILURE_REASON_DEPTH) -> Any:
    """Return a JSON value with clean texts; None for invalid numbers and levels below `depth`."""
    if isinstance(value, str):
        return strip_unprintable(value)
    if isinstance(value, dict | list) and not depth:
        return None
    if isinstance(value, dict):
        return {strip_unprintable(key): _clean_tree(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_tree(item, depth - 1) for item in value]
    if isinstance(value, int | float) and not -COUNT_MAX <= value <= COUNT_MAX:
        return None  # also NaN: every comparison with it is false
    return value


FIELD_PARSERS: Final[dict[str, Callable[[object], Any]]] = {
    "name": _parse_text(NAME_CHARS),
    "description": _parse_text(DESCRIPTION_CHARS),
    "model": _parse_model,
    "job_priority": _parse_count,
    "dataset_id": _parse_text(NAME_CHARS),
    "num_rows": _parse_count,
    "input_tokens": _parse_count,
    "output_tokens": _parse_count,
    "job_cost": _parse_dollars,
    "cost_estimate": _parse_dollars,
    "failure_reason": _parse_failure_reason,
    "datetime_created": _parse_timestamp,
    "datetime_started": _parse_timestamp,
    "datetime_completed": _parse_timestamp,
}


STATUS_CHARS: Final = 64


def parse_job(raw: object) -> Job:
    """Return the job in one JSON object of the API.

    Raises MalformedResponse if it is not an object, or has no valid `job_id` or `status`.
    """
    if not isinstance(raw, dict):
        raise MalformedResponse("the job is not a JSON object")
    job_id, status = raw.get("job_id"), raw.get("status")
    if not isinstance(job_id, str) or not is_job_id(job_id):
        raise MalformedResponse("the job has no valid job_id")
    text = strip_unprintable(status[:STATUS_CHARS]).strip() if isinstance(status, str) else ""
    if not text:
        raise MalformedResponse("the job has no valid status")
    values, invalid_fields = _optional_fields(raw)
    known = STATUS_ALIASES.get(text.casefold())
    return Job(
        job_id=job_id,
        status=known or JobStatus.UNKNOWN,
        raw_status=None if known else text,
        invalid_fields=invalid_fields,
        **values,
    )


def _optional_fields(raw: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    values: dict[str, Any] = {}
    invalid: list[str] = []
    for name, parse in FIELD_PARSERS.items():
        value = raw.get(name)
        if value is None:
            continue
        try:
            values[name] = parse(value)
        except (ValueError, OverflowError):
            invalid.append(name)
    return values, tuple(invalid)
