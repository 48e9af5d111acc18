"""The lenient parser: what is understood, what becomes null, what is refused."""

import json
import math
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.errors import MalformedAnswer
from poller.events import Origin, job_event
from poller.jobs import FAILURE_BYTES, PUBLISHED, JobStatus, is_job_id, parse_job, rfc3339
from poller.lifecycle import JobEvent, Transition
from tests.support import a_job, a_job_object, check_event

TEN_THIRTY = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


def nested(depth: int) -> Any:
    """Give an empty list in lists, so many deep."""
    return reduce(lambda inner, _: [inner], range(depth), [])


# What is understood.


def test_the_documented_example():
    """The example of the API's documentation is read in full."""
    job = parse_job(a_job_object())

    assert job.as_dict() == {
        "job_id": "job-12345",
        "name": "Product review sentiment",
        "description": "Classify the sentiment of customer reviews",
        "model": "llama-3.3-70b",
        "status": "SUCCEEDED",
        "job_priority": 1,
        "dataset_id": "dataset-67890",
        "num_rows": 50,
        "input_tokens": 15420,
        "output_tokens": 8230,
        "job_cost": 0.0234,
        "cost_estimate": 0.025,
        "failure_reason": None,
        "datetime_created": "2024-01-15T10:30:00Z",
        "datetime_started": "2024-01-15T10:30:15Z",
        "datetime_completed": "2024-01-15T10:32:15Z",
    }
    assert job.is_final
    assert (job.queue_seconds, job.run_seconds) == (15.0, 120.0)
    assert job.wrong_fields == ()


def test_only_id_and_status_are_essential():
    """A job of two fields is a job; all else is null, and nothing of it is wrong."""
    job = parse_job({"job_id": "job-1", "status": "QUEUED"})

    assert job.as_dict() == dict.fromkeys(PUBLISHED) | {"job_id": "job-1", "status": "QUEUED"}
    assert job.wrong_fields == ()


STATUSES = [
    *[(status.value, status) for status in JobStatus],
    ("succeeded", JobStatus.SUCCEEDED),
    ("Running", JobStatus.RUNNING),
    ("cAnCeLLing", JobStatus.CANCELLING),
    ("  FAILED\r\n", JobStatus.FAILED),
    ("CANCELED", JobStatus.CANCELLED),
    ("canceled", JobStatus.CANCELLED),
    ("Completed", JobStatus.SUCCEEDED),
    ("COMPLETE", JobStatus.SUCCEEDED),
    ("success", JobStatus.SUCCEEDED),
    ("Error", JobStatus.FAILED),
    ("RUNN\x00ING\x1b", JobStatus.RUNNING),
]


@pytest.mark.parametrize(("word", "status"), STATUSES)
def test_status_words(word, status):
    """A status is understood in any case, trimmed, cleaned and by its aliases."""
    job = a_job(word)

    assert (job.status, job.unknown_word) == (status, None)
    assert job.as_dict()["status"] == status.value


UNKNOWN_WORDS = [
    ("PAUSED", "PAUSED"),
    ("succeeded?", "succeeded?"),
    ("not SUCCEEDED", "not SUCCEEDED"),
    ("\x1b[31mFAILED", "[31mFAILED"),
    ("F" * 1_000_000, "F" * 64),
    ("DONE\ud800", "DONE"),
]


@pytest.mark.parametrize(("word", "kept"), UNKNOWN_WORDS)
def test_unknown_status_words(word, kept):
    """A word that nobody knows is UNKNOWN, and is kept, short and clean, to be shown."""
    job = a_job(word)

    assert (job.status, job.unknown_word) == (JobStatus.UNKNOWN, kept)
    assert job.as_dict()["status"] == kept


def test_ranks():
    """Progress has one order, with PENDING as early as SUBMITTED, and all ends are as far."""
    ranks = {status.value: status.rank for status in JobStatus}

    assert ranks == {
        "UNKNOWN": 0,
        "SUBMITTED": 1,
        "PENDING": 1,
        "QUEUED": 2,
        "STARTING": 3,
        "RUNNING": 4,
        "CANCELLING": 5,
        "SUCCEEDED": 6,
        "FAILED": 6,
        "CANCELLED": 6,
    }


def test_ends():
    """Three statuses are ends, and CANCELLING is none of them."""
    ends = {status for status in JobStatus if status.is_terminal}

    assert ends == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}


TIMES = [
    ("2024-01-15T10:30:00Z", TEN_THIRTY),
    ("2024-01-15T10:30:00", TEN_THIRTY),
    ("2024-01-15 10:30:00", TEN_THIRTY),
    (" 2024-01-15T10:30:00Z ", TEN_THIRTY),
    ("2024-01-15T12:30:00+02:00", TEN_THIRTY),
    ("2024-01-15T04:00:00-06:30", TEN_THIRTY),
    ("2024-01-15T10:30:00.250Z", TEN_THIRTY.replace(microsecond=250_000)),
    ("2024-01-15T10:30:00.123456789Z", TEN_THIRTY.replace(microsecond=123_456)),
    ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
]


@pytest.mark.parametrize(("text", "moment"), TIMES)
def test_timestamps(text, moment):
    """ISO 8601 with Z, an offset or none is understood, and becomes UTC."""
    job = a_job(datetime_created=text)

    assert job.datetime_created == moment
    assert job.wrong_fields == ()


WRITTEN = [
    (0, "2024-01-15T10:30:00Z"),
    (120_000, "2024-01-15T10:30:00.120Z"),
    (123_456, "2024-01-15T10:30:00.123456Z"),
]


@pytest.mark.parametrize(("microsecond", "text"), WRITTEN)
def test_moments_are_written_as_precise_as_they_are(microsecond, text):
    """A moment is written with no, three or six digits of a second."""
    assert rfc3339(TEN_THIRTY.replace(microsecond=microsecond)) == text


def test_times_that_run_backwards():
    """A job that completed before it was created keeps its times and has no durations."""
    job = a_job(
        datetime_created="2024-01-15T12:00:00Z",
        datetime_started="2024-01-15T11:00:00Z",
        datetime_completed="2024-01-15T10:00:00Z",
    )

    assert job.wrong_fields == ()
    assert (job.queue_seconds, job.run_seconds) == (None, None)


COMPLETENESS = [
    ({}, False),
    ({"job_cost": 0.5}, False),
    ({"datetime_completed": "2024-01-15T10:32:15Z"}, False),
    ({"job_cost": 0, "datetime_completed": "2024-01-15T10:32:15Z"}, True),
]


@pytest.mark.parametrize(("fields", "is_final"), COMPLETENESS)
def test_a_job_is_final_with_its_cost_and_its_completion_time(fields, is_final):
    """Both the cost, be it zero, and the completion time make a job final."""
    assert a_job("SUCCEEDED", **fields).is_final is is_final


# What becomes null.

WRONG = [
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
    ("name", "value"), WRONG, ids=[f"{it[0]}-{i}" for i, it in enumerate(WRONG)]
)
def test_a_wrong_field_becomes_null(name, value):
    """A field of a wrong type is null and named, and costs no other field."""
    job = parse_job(a_job_object(**{name: value}))

    assert job.wrong_fields == (name,)
    assert job == parse_job(a_job_object(**{name: None}))


def test_all_fields_wrong_at_once():
    """A job whose every optional field is wrong is still a job with its status."""
    job = a_job("SUCCEEDED", **dict.fromkeys(set(PUBLISHED) - {"status"}, [None]))

    assert job == a_job("SUCCEEDED")
    assert set(job.wrong_fields) == set(PUBLISHED) - {"status"}


def test_unknown_fields_are_ignored():
    """Sixty thousand keys that nobody knows change nothing."""
    job = parse_job(a_job_object(**{f"key_{number}": number for number in range(60_000)}))

    assert job == parse_job(a_job_object())


# Text and reasons.

TEXTS = [
    ("plain", "plain"),
    ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ("nul \x00, escape \x1b[0m, bell \x07", "nul , escape [0m, bell "),
    ("del \x7f, next line \x85, separators \u2028\u2029", "del , next line , separators "),
    ("half a pair \ud83d", "half a pair "),
    ("a whole one \U0001f600", "a whole one \U0001f600"),
    ("x" * 1_000_000, "x" * 500),
]


@pytest.mark.parametrize(("text", "kept"), TEXTS, ids=range(len(TEXTS)))
def test_text_is_cleaned(text, kept):
    """Text loses control characters and lone surrogates, and ends somewhere."""
    job = a_job(name=text)

    assert job.name == kept
    assert job.wrong_fields == ()


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
    """A reason is kept, cleaned; a text becomes a message; a large one shrinks to its message."""
    job = a_job("FAILED", failure_reason=reason)

    assert job.failure_reason == kept
    assert job.wrong_fields == ()


def test_a_large_reason_without_a_message():
    """What of a large reason without a message is kept is the beginning of its JSON."""
    job = a_job("FAILED", failure_reason={"rows": [0] * 60_000})

    assert job.failure_reason == {
        "message": ('{"rows": [' + "0, " * 60_000)[:1_008],
        "truncated": True,
    }


def test_a_deep_reason_keeps_its_message():
    """What lies deeper than eight levels in a reason is null, and the rest of it is kept."""
    reason = {"message": "out of memory", "trace": nested(900), "cause": nested(6)}
    job = a_job("FAILED", failure_reason=reason)

    assert job.failure_reason == {
        "message": "out of memory",
        "trace": [[[[[[[None]]]]]]],
        "cause": nested(6),
    }
    assert job.wrong_fields == ()


# What is refused.

REFUSED = [
    None,
    [],
    [a_job_object()],
    "job-12345",
    7,
    {},
    {"status": "RUNNING"},
    *[a_job_object(job_id=it) for it in (None, 12345, "", ".", "..", "a/b", "a b", "x" * 129)],
    *[
        a_job_object(job_id=it)
        for it in ("job-1\n", "job-\x00", "j\u00f6b", "job-\ud800", ["job-1"])
    ],
    {"job_id": "job-1"},
    *[a_job_object(status=it) for it in (None, 3, True, "", "  ", "\x00", ["RUNNING"], {})],
]


@pytest.mark.parametrize("raw", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_job_is_refused(raw):
    """Without an object, a usable id and a usable status there is no observation."""
    with pytest.raises(MalformedAnswer):
        parse_job(raw)


IDS = [
    ("job-12345", True),
    ("A.b_c-9", True),
    ("...", True),
    ("x" * 128, True),
    ("x" * 129, False),
    ("", False),
    (".", False),
    ("..", False),
    ("../jobs", False),
    ("job%2F", False),
    ("job-1\n", False),
    ("j\u00f6b", False),
]


@pytest.mark.parametrize(("text", "is_id"), IDS)
def test_job_ids(text, is_id):
    """A job id can stand in a URL's path and leads to no other path."""
    assert is_job_id(text) is is_id


# Always and never.

ODD_TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from('\0\x1b\n\u2028\ud800" '), max_size=20
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63 - 1, 2**63, 10**4_299, -0.0, 5e-324])
SCALARS = st.none() | st.booleans() | NUMBERS | ODD_TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(ODD_TEXT, inner), max_leaves=8
)
LONG_TEXT = st.builds(lambda piece, times: piece * times, ODD_TEXT, st.sampled_from([1, 30, 300]))
MOMENTS = st.datetimes(timezones=st.none() | st.timezones()).map(datetime.isoformat)
WORDS = st.builds(
    lambda word, junk: word[:3] + junk + word[3:],
    st.sampled_from([status.value for status in JobStatus]),
    st.just("") | LONG_TEXT,
)
FIELDS = {
    name: MOMENTS | NUMBERS | LONG_TEXT | JSON | st.dictionaries(ODD_TEXT, LONG_TEXT | JSON)
    for name in PUBLISHED
    if name != "status"
}
JOB_OBJECTS = st.fixed_dictionaries(
    {"job_id": st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True).filter(is_job_id)}
    | {"status": WORDS},
    optional=FIELDS,
)


@given(raw=JSON | st.dictionaries(st.sampled_from(["job_id", *PUBLISHED]), JSON) | JOB_OBJECTS)
def test_any_json_is_a_job_or_malformed(raw):
    """Whatever the API sends, the parser gives a job or raises MalformedAnswer."""
    try:
        job = parse_job(raw)
    except MalformedAnswer:
        return

    assert job.job_id == raw["job_id"]


@given(raw=JOB_OBJECTS)
def test_what_is_written_is_read_back(raw):
    """A job written under the API's names reads back as an equal job with nothing wrong."""
    job = parse_job(raw)

    again = parse_job(json.loads(json.dumps(job.as_dict())))

    assert again == job
    assert again.wrong_fields == ()


@given(raw=JOB_OBJECTS)
def test_any_job_fits_an_event(raw):
    """The event of any job is at most 20,000 bytes of clean JSON that the schema allows."""
    job = parse_job(raw)
    transition = Transition(
        type=JobEvent.UNRECOGNISED,
        job_id=job.job_id,
        job=job,
        previous_status=JobStatus.RUNNING,
        sequence=1,
    )

    event = job_event(transition, Origin(deployment="api.sutro.sh"), TEN_THIRTY)

    assert check_event(event.body)["data"]["job"] == json.loads(json.dumps(job.as_dict()))


def test_the_largest_job_fits_an_event():
    """A job whose every field is as long as it may be, in the widest characters, still fits."""
    wide = "\U0001f600" * 100_000
    fields = dict.fromkeys(("name", "description", "model", "dataset_id", "failure_reason"), wide)
    job = parse_job({"job_id": "x" * 128, "status": wide} | fields)
    transition = Transition(
        type=JobEvent.UNRECOGNISED, job_id=job.job_id, job=job, previous_status=None, sequence=1
    )

    event = job_event(transition, Origin(deployment="h" * 255), TEN_THIRTY)

    assert job.wrong_fields == ()
    assert check_event(event.body)
    assert len(json.dumps(job.failure_reason, ensure_ascii=False).encode()) <= FAILURE_BYTES
