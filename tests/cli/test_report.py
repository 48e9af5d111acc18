"""The result that `wait` prints."""

import json
from typing import Any

import pytest

from poller.cli.exit_codes import for_error
from poller.cli.wait import command
from poller.cli.wait.report import as_json, reasons, summary
from poller.core.errors import Rejected, Transient
from poller.core.parsing import parse_job
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult
from tests.support.builders import a_job, a_job_object

STARTED = "2024-01-15T10:30:15Z"
COMPLETED = "2024-01-15T10:32:15Z"
WHY = {"failure_reason": {"message": "out of\n  memory"}}
FAILED = {"datetime_started": STARTED, "datetime_completed": COMPLETED, "job_cost": 0.02} | WHY


def job_result(end: JobEventType | None = None, job_id: str = "job-1", **fields: Any) -> JobResult:
    """Return the result of a job."""
    status = end.removeprefix("job.") if end else "RUNNING"
    return JobResult(job_id=job_id, job=a_job(status, job_id=job_id, **fields), end=end)


DOCUMENTED = JobResult(
    job_id="job-12345", job=parse_job(a_job_object()), end=JobEventType.SUCCEEDED
)

DOCUMENTED_SUMMARY = (
    "job-12345 (Product review sentiment) succeeded in 2m0s: 15420 tokens in, 8230 out, $0.0234"
)


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (DOCUMENTED, DOCUMENTED_SUMMARY),
        (job_result(JobEventType.SUCCEEDED), "job-1 succeeded: cost not known yet"),
        (job_result(JobEventType.FAILED, **FAILED), "job-1 failed after 2m0s: out of memory"),
        (job_result(JobEventType.FAILED), "job-1 failed"),
        (job_result(JobEventType.CANCELLED), "job-1 cancelled"),
        (
            JobResult(job_id="job-1", end=JobEventType.MISSING),
            "job-1 is missing: the API does not know this job ID",
        ),
        (job_result(), "job-1 has not ended: RUNNING"),
        (JobResult(job_id="job-1"), "job-1: no status received"),
    ],
)
def test_summary_of_one_job_is_a_sentence(job: JobResult, line: str):
    """The line names the job, its end and its cost, or the reason."""
    assert summary([job]) == line


def test_summary_counts_many_jobs():
    """The line has the count of each end, the time from first start to last end, and the cost."""
    jobs = [
        DOCUMENTED,
        job_result(JobEventType.FAILED, "job-2", **FAILED | {"datetime_started": None}),
        JobResult(job_id="job-3", end=JobEventType.MISSING),
        job_result(JobEventType.CANCELLED, "job-4", job_cost=1),
    ]

    assert summary(jobs) == (
        "4 jobs ended in 2m0s: 1 succeeded, 1 failed, 1 cancelled, 1 missing; $1.04"
    )


def test_summary_does_not_count_jobs_that_have_not_ended():
    """A wait that timed out prints how many jobs ended."""
    assert (
        summary([job_result(JobEventType.CANCELLED), job_result(job_cost=5)])
        == "1 of 2 jobs ended: 1 cancelled"
    )
    assert summary([job_result(), job_result()]) == "0 of 2 jobs ended"


def test_reasons_has_a_line_for_each_failure():
    """Each job that did not succeed has one line with the reason."""
    failed = job_result(JobEventType.FAILED, "job-2", **FAILED)
    missing = JobResult(job_id="job-3", end=JobEventType.MISSING)

    assert reasons([DOCUMENTED, failed, missing, job_result()]) == [
        "job-2 failed after 2m0s: out of memory",
        "job-3 is missing: the API does not know this job ID",
    ]


def test_json_report_uses_the_names_of_the_api():
    """Each object has the job, the type of its event, and the reason."""
    tokens = {"input_tokens": 20, "output_tokens": 0}
    failed = job_result(JobEventType.FAILED, **FAILED, **tokens)
    failed, unseen = json.loads(as_json([failed, JobResult(job_id="job-2")]))

    assert failed["type"] == "job.failed"
    assert failed["reason"] == "out of memory"
    assert failed["job"]["job_cost"] == 0.02
    assert (failed["run_seconds"], failed["final"]) == (120.0, True)
    assert unseen == {
        "job": {"job_id": "job-2"},
        "type": None,
        "reason": None,
        "final": None,
        "run_seconds": None,
    }


def unrecognised(**fields: Any) -> JobResult:
    """Return the result of a job whose status nobody foresaw."""
    job = a_job("EXPIRED", **fields)
    return JobResult(job_id="job-1", job=job, end=JobEventType.UNRECOGNISED)


def test_unrecognised_end_shows_the_status():
    """The API's own word is in the summary, the reasons and JSON."""
    told = "seems to have ended, but has a status that is not terminal: EXPIRED (unknown status)"

    assert summary([unrecognised()]) == f"job-1 {told}"
    assert reasons([unrecognised()]) == [f"job-1 {told}"]
    assert summary([unrecognised(), job_result()]) == "1 of 2 jobs ended: 1 unrecognised"
    assert json.loads(as_json([unrecognised()]))[0]["job"]["status"] == "EXPIRED"


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([JobEventType.SUCCEEDED], 0),
        ([JobEventType.UNRECOGNISED, JobEventType.SUCCEEDED], 5),
        ([JobEventType.UNRECOGNISED, JobEventType.MISSING], 4),
        ([JobEventType.UNRECOGNISED, JobEventType.CANCELLED], 3),
        ([JobEventType.UNRECOGNISED, JobEventType.FAILED], 1),
    ],
)
def test_exit_code_is_that_of_the_worst_end(ends: list[JobEventType], code: int, capsys):
    """A failed job counts before a cancelled, a missing and an unrecognised one."""
    results = [JobResult(job_id=f"job-{end}", end=end) for end in ends]

    assert command._report(results, None, is_json=True) == code


def test_exit_code_of_a_rejected_job():
    """A job that the API rejects has a code of its own; an API that is not reached another."""
    assert for_error(Rejected("job-1: the API rejects this request (422)")) == 6
    assert for_error(Transient("no response for 60 s")) == 69
