"""The values of a job, and the strict part of its parser."""

from datetime import UTC, datetime

import pytest

from poller.core.errors import MalformedResponse
from poller.core.job_status import JobStatus
from poller.core.jobs import EVENT_FIELDS, format_rfc3339, is_job_id
from poller.core.parsing import parse_job
from tests.support.builders import FINAL, REASON, a_job, a_job_object

TEN_THIRTY = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


# What is understood.


def test_documented_example():
    """The example of the API's documentation is parsed in full."""
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
    assert job.invalid_fields == ()


def test_only_id_and_status_are_required():
    """A job of two fields is valid; all other fields are None, and none is invalid."""
    job = parse_job({"job_id": "job-1", "status": "QUEUED"})

    assert job.as_dict() == dict.fromkeys(EVENT_FIELDS) | {"job_id": "job-1", "status": "QUEUED"}
    assert job.invalid_fields == ()


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


@pytest.mark.parametrize(("text", "status"), STATUSES)
def test_status_aliases(text, status):
    """A status is parsed in any case, trimmed, cleaned and by its aliases."""
    job = a_job(text)

    assert (job.status, job.raw_status) == (status, None)
    assert job.as_dict()["status"] == status.value


UNKNOWN_STATUSES = [
    ("PAUSED", "PAUSED"),
    ("succeeded?", "succeeded?"),
    ("not SUCCEEDED", "not SUCCEEDED"),
    ("\x1b[31mFAILED", "[31mFAILED"),
    ("F" * 1_000_000, "F" * 64),
    ("DONE\ud800", "DONE"),
]


@pytest.mark.parametrize(("text", "kept"), UNKNOWN_STATUSES)
def test_unknown_status_keeps_its_text(text, kept):
    """An unknown status is UNKNOWN, and its text is kept, short and clean."""
    job = a_job(text)

    assert (job.status, job.raw_status) == (JobStatus.UNKNOWN, kept)
    assert job.as_dict()["status"] == kept


def test_status_ranks():
    """Progress has one order; PENDING ranks with SUBMITTED, and the terminal statuses are equal."""
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


def test_terminal_statuses():
    """Three statuses are terminal; CANCELLING is not."""
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
    """ISO 8601 with Z, an offset or none is parsed, and becomes UTC."""
    job = a_job(datetime_created=text)

    assert job.datetime_created == moment
    assert job.invalid_fields == ()


WRITTEN = [
    (0, "2024-01-15T10:30:00Z"),
    (120_000, "2024-01-15T10:30:00.120Z"),
    (123_456, "2024-01-15T10:30:00.123456Z"),
]


@pytest.mark.parametrize(("microsecond", "text"), WRITTEN)
def test_format_rfc3339_keeps_the_precision(microsecond, text):
    """A time has no, three or six digits of a second."""
    assert format_rfc3339(TEN_THIRTY.replace(microsecond=microsecond)) == text


def test_backward_times_have_no_duration():
    """A job that completed before it was created keeps its times and has no durations."""
    job = a_job(
        datetime_created="2024-01-15T12:00:00Z",
        datetime_started="2024-01-15T11:00:00Z",
        datetime_completed="2024-01-15T10:00:00Z",
    )

    assert job.invalid_fields == ()
    assert (job.queue_seconds, job.run_seconds) == (None, None)


COMPLETENESS = [
    ({}, False),
    (FINAL, True),
    (FINAL | {"job_cost": 0, "input_tokens": 0, "output_tokens": 0, "num_rows": 0}, True),
    (FINAL | {"job_cost": "0.5"}, False),
    *[(FINAL | {name: None}, False) for name in FINAL],
]


@pytest.mark.parametrize("status", ["SUCCEEDED", "CANCELLED"])
@pytest.mark.parametrize(("fields", "is_final"), COMPLETENESS)
def test_final_end_lacks_nothing(status, fields, is_final):
    """Completion time, cost and tokens, even zero, make an end final."""
    assert a_job(status, **fields).is_final is is_final


def test_failure_is_final_with_its_reason():
    """A failed job also needs its reason."""
    assert not a_job("FAILED", **FINAL).is_final
    assert a_job("FAILED", **FINAL, **REASON).is_final


# What is refused.

REFUSED = [
    None,
    [],
    [a_job_object()],
    "job-12345",
    7,
    {},
    {"status": "RUNNING"},
    *[
        a_job_object(job_id=job_id)
        for job_id in (None, 12345, "", ".", "..", "a,b", "a b", "x" * 257)
    ],
    *[
        a_job_object(job_id=job_id)
        for job_id in ("job-1\n", "job-\x00", "j\u00f6b", "job-\ud800", ["job-1"])
    ],
    {"job_id": "job-1"},
    *[a_job_object(status=status) for status in (None, 3, True, "", "  ", "\x00", ["RUNNING"], {})],
]


@pytest.mark.parametrize("raw", REFUSED, ids=range(len(REFUSED)))
def test_malformed_jobs_are_rejected(raw):
    """Without an object, a valid id and a valid status there is no observation."""
    with pytest.raises(MalformedResponse):
        parse_job(raw)


IDS = [
    ("job-12345", True),
    ("A.b_c-9", True),
    ("...", True),
    ("x" * 256, True),
    ("x" * 257, False),
    ("job:1", True),
    ("team/job-1", True),
    ("../jobs", True),
    ("job%2F", True),
    ("job 1", False),
    ("job-1,job-2", False),
    ('"job-1"', False),
    ("'job-1'", False),
    ("", False),
    (".", False),
    ("..", False),
    ("job-1\n", False),
    ("j\u00f6b", False),
]


@pytest.mark.parametrize(("text", "is_id"), IDS)
def test_valid_job_ids(text, is_id):
    """A job id is any printable text of the API, but nothing that is a mistake in a list of ids."""
    assert is_job_id(text) is is_id
