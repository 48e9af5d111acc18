"""How each optional field of a job object is read: what is odd is refused, or cleaned.

A reader raises ValueError or OverflowError for a value of a wrong type.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from poller.core.errors import MalformedAnswer
from poller.core.jobs import Job, JobStatus, is_job_id

NAME_CHARS: Final = 500
DESCRIPTION_CHARS: Final = 1_000
FAILURE_BYTES: Final = 4_096
FAILURE_DEPTH: Final = 8
COUNT_MAX: Final = 2**63 - 1

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """Leave out what no terminal, log or JSON text should get: control characters, surrogates."""
    return _UNPRINTABLE.sub("", text)


def _text(limit: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        return clean(value[:limit])

    return read


def _model(value: object) -> str:
    """Read a text that many jobs share, and so keep it once."""
    return sys.intern(_text(NAME_CHARS)(value))


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_MAX:
        raise ValueError
    return value


def _dollars(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return float(value)


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError
    moment = datetime.fromisoformat(value.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _reason(value: object) -> dict[str, Any]:
    """Keep a failure reason up to FAILURE_BYTES of JSON; a larger one shrinks to its message.

    The API documents an object. A bare text is kept all the same: it is what somebody is
    paged for.
    """
    if isinstance(value, str):
        value = {"message": value}
    if not isinstance(value, dict):
        raise ValueError
    kept: dict[str, Any] = _clean_tree(value)
    if _size(kept) <= FAILURE_BYTES:
        return kept
    message = kept.get("message")
    text = message if isinstance(message, str) else json.dumps(kept, ensure_ascii=False)
    return {"message": text[: FAILURE_BYTES // 4 - 16], "truncated": True}


def _clean_tree(value: object, depth: int = FAILURE_DEPTH) -> Any:
    """Clean every text of a JSON value; null what JSON cannot carry and what lies too deep."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict | list) and not depth:
        return None
    if isinstance(value, dict):
        return {clean(key): _clean_tree(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_tree(item, depth - 1) for item in value]
    if isinstance(value, int | float) and not -COUNT_MAX <= value <= COUNT_MAX:
        return None  # NaN, which is in no range, too
    return value


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


READERS: Final[dict[str, Callable[[object], Any]]] = {
    "name": _text(NAME_CHARS),
    "description": _text(DESCRIPTION_CHARS),
    "model": _model,
    "job_priority": _count,
    "dataset_id": _text(NAME_CHARS),
    "num_rows": _count,
    "input_tokens": _count,
    "output_tokens": _count,
    "job_cost": _dollars,
    "cost_estimate": _dollars,
    "failure_reason": _reason,
    "datetime_created": _moment,
    "datetime_started": _moment,
    "datetime_completed": _moment,
}


STATUS_CHARS: Final = 64
WORDS: Final = {status.value.casefold(): status for status in JobStatus} | {
    "canceled": JobStatus.CANCELLED,
    "completed": JobStatus.SUCCEEDED,
    "complete": JobStatus.SUCCEEDED,
    "success": JobStatus.SUCCEEDED,
    "error": JobStatus.FAILED,
}
"""Every spelling that is understood, case-folded."""


def parse_job(raw: object) -> Job:
    """Read one job object of the API.

    Raises MalformedAnswer when it is no object or lacks a usable `job_id` or `status`.
    """
    if not isinstance(raw, dict):
        raise MalformedAnswer("the job is not a JSON object")
    job_id, status = raw.get("job_id"), raw.get("status")
    if not isinstance(job_id, str) or not is_job_id(job_id):
        raise MalformedAnswer("the job has no usable job_id")
    word = clean(status[:STATUS_CHARS]).strip() if isinstance(status, str) else ""
    if not word:
        raise MalformedAnswer("the job has no usable status")
    values, wrong = _optional_fields(raw)
    known = WORDS.get(word.casefold())
    return Job(
        job_id=job_id,
        status=known or JobStatus.UNKNOWN,
        unknown_word=None if known else word,
        wrong_fields=wrong,
        **values,
    )


def _optional_fields(raw: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for name, read in READERS.items():
        value = raw.get(name)
        if value is None:
            continue
        try:
            values[name] = read(value)
        except (ValueError, OverflowError):
            wrong.append(name)
    return values, tuple(wrong)
