"""The lenient part of the job parser: invalid fields become None, long ones are cut."""

import json
import math
from functools import reduce
from typing import Any

import pytest

from poller.core.jobs import EVENT_FIELDS
from poller.core.parsing import parse_job
from tests.support.builders import a_job, a_job_object

OPTIONAL = set(EVENT_FIELDS) - {"status"}


def nested(depth: int) -> Any:
    """Return an empty list in so many lists."""
    return reduce(lambda inner, _: [inner], range(depth), [])


INVALID_FIELDS = [
    ("job_cost", math.nan),
    ("job_cost", math.inf),
    ("job_cost", json.loads("1e999")),
    ("job_cost", -0.01),
    ("job_cost", "0.0234"),
    ("job_cost", True),
    ("job_cost", 10**400),
    ("cost_estimate", -1),
    ("input_tokens", 15420.0),
    ("input_tokens", -1),
    ("input_tokens", "15420"),
    ("input_tokens", True),
    ("input_tokens", 2**63),
    ("output_tokens", [8230]),
    ("num_rows", 10**4_000),
    ("job_priority", "high"),
    ("name", 5),
    ("name", {"text": "x"}),
    ("model", ["llama"]),
    ("failure_reason", ["out of memory"]),
    ("failure_reason", 137),
    ("datetime_completed", 1_705_314_735),
    ("datetime_completed", 1_705_314_735.5),
    ("datetime_completed", "1705314735"),
    ("datetime_completed", "yesterday"),
    ("datetime_completed", ""),
    ("datetime_completed", "0000-01-15T10:32:15Z"),
    ("datetime_completed", "2024-13-15T10:32:15Z"),
    ("datetime_completed", "2024-01-15T10:32:60Z"),
    ("datetime_completed", "0001-01-01T00:00:00+14:00"),
    ("datetime_completed", "2024-01-15T10:32:15\ud800"),
    ("datetime_completed", "2" * 1_000_000),
]


@pytest.mark.parametrize(
    ("name", "value"),
    INVALID_FIELDS,
    ids=[f"{field[0]}-{number}" for number, field in enumerate(INVALID_FIELDS)],
)
def test_invalid_field_becomes_none(name, value):
    """A field of a wrong type is None and named, and affects no other field."""
    job = parse_job(a_job_object(**{name: value}))

    assert job.invalid_fields == (name,)
    assert job == parse_job(a_job_object(**{name: None}))


def test_all_fields_invalid_at_once():
    """A job with every optional field invalid is still a job with its status."""
    job = a_job("SUCCEEDED", **{name: [None] for name in OPTIONAL})

    assert job == a_job("SUCCEEDED")
    assert set(job.invalid_fields) == set(OPTIONAL)


def test_unknown_fields_are_ignored():
    """Sixty thousand unknown keys change nothing."""
    job = parse_job(a_job_object(**{f"key_{number}": number for number in range(60_000)}))

    assert job == parse_job(a_job_object())


# Text and reasons.

TEXTS = [
    ("plain", "plain"),
    ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ("nul \x00, escape \x1b[0m, bell \x07", "nul , escape [0m, bell "),
    ("paid \u202egpj.exe\u202c, \u2066isolated\u2069", "paid gpj.exe, isolated"),
    ("\u05e9\u200f, \u0645\u06cc\u200c\u062e", "\u05e9\u200f, \u0645\u06cc\u200c\u062e"),
    ("del \x7f, next line \x85, separators \u2028\u2029", "del , next line , separators "),
    ("half a pair \ud800, the other \udfff", "half a pair , the other "),
    ("a whole one \U0001f600", "a whole one \U0001f600"),
    ("x" * 1_000_000, "x" * 500),
]


@pytest.mark.parametrize(("text", "kept"), TEXTS, ids=range(len(TEXTS)))
def test_text_is_cleaned(text, kept):
    """Text loses control characters and lone surrogates, and is cut at its limit."""
    job = a_job(name=text)

    assert job.name == kept
    assert job.invalid_fields == ()


REASONS = [
    ({"message": "out of memory", "code": 137}, {"message": "out of memory", "code": 137}),
    ("out of memory", {"message": "out of memory"}),
    ({}, {}),
    ({"me\x00ssage": "\x1bbad", "at": [1, None]}, {"message": "bad", "at": [1, None]}),
    ({"ratio": math.nan, "limit": math.inf}, {"ratio": None, "limit": None}),
    ({"message": "x" * 1_000_000}, {"message": "x" * 1_008, "truncated": True}),
    ("x" * 1_000_000, {"message": "x" * 1_008, "truncated": True}),
]


@pytest.mark.parametrize(("reason", "kept"), REASONS, ids=range(len(REASONS)))
def test_failure_reasons(reason, kept):
    """A reason is cleaned; a text becomes a message; a large one is reduced to its message."""
    job = a_job("FAILED", failure_reason=reason)

    assert job.failure_reason == kept
    assert job.invalid_fields == ()


def test_large_failure_reason_without_a_message():
    """A large reason without a message becomes the beginning of its JSON."""
    job = a_job("FAILED", failure_reason={"rows": [0] * 60_000})

    assert job.failure_reason == {
        "message": ('{"rows": [' + "0, " * 60_000)[:1_008],
        "truncated": True,
    }


def test_deep_failure_reason_keeps_its_message():
    """Levels below eight are None in a reason, and the rest of it is kept."""
    reason = {"message": "out of memory", "trace": nested(900), "cause": nested(6)}
    job = a_job("FAILED", failure_reason=reason)

    assert job.failure_reason == {
        "message": "out of memory",
        "trace": [[[[[[[None]]]]]]],
        "cause": nested(6),
    }
    assert job.invalid_fields == ()
