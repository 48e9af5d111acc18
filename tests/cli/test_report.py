"""What a wait says in the end."""

import json
from typing import Any

import pytest

from poller.cli.wait.report import as_json, reasons, summary
from poller.core.parsing import parse_job
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult
from tests.support.builders import a_job, a_job_object

STARTED = "2024-01-15T10:30:15Z"
COMPLETED = "2024-01-15T10:32:15Z"
WHY = {"failure_reason": {"message": "out of\n  memory"}}
FAILED = {"datetime_started": STARTED, "datetime_completed": COMPLETED, "job_cost": 0.02} | WHY


def result(end: JobEventType | None = None, job_id: str = "job-1", **fields: Any) -> JobResult:
    """Give a job that stands so."""
    status = end.removeprefix("job.") if end else "RUNNING"
    return JobResult(job_id=job_id, job=a_job(status, job_id=job_id, **fields), end=end)


DOCUMENTED = JobResult(
    job_id="job-12345", job=parse_job(a_job_object()), end=JobEventType.SUCCEEDED
)


@pytest.mark.parametrize(
    ("it", "line"),
    [
        (DOCUMENTED, "job-12345 succeeded in 2m0s: 15420 tokens in, 8230 out, $0.0234"),
        (result(JobEventType.SUCCEEDED), "job-1 succeeded: cost unknown yet"),
        (result(JobEventType.FAILED, **FAILED), "job-1 failed after 2m0s: out of memory"),
        (result(JobEventType.FAILED), "job-1 failed"),
        (result(JobEventType.CANCELLED), "job-1 cancelled"),
        (
            JobResult(job_id="job-1", end=JobEventType.MISSING),
            "job-1 is missing: the API does not know this job ID",
        ),
        (result(), "job-1 has not ended: RUNNING"),
        (JobResult(job_id="job-1"), "job-1: no status received"),
    ],
)
def test_one_job_is_told_in_a_sentence(it: JobResult, line: str):
    """The line names the job, its end, and what a person asks next."""
    assert summary([it]) == line


def test_many_jobs_are_counted_up():
    """The line has the count of each end, the time from first start to last end, and the cost."""
    jobs = [
        DOCUMENTED,
        result(JobEventType.FAILED, "job-2", **FAILED | {"datetime_started": None}),
        JobResult(job_id="job-3", end=JobEventType.MISSING),
        result(JobEventType.CANCELLED, "job-4", job_cost=1),
    ]

    assert summary(jobs) == (
        "4 jobs ended in 2m0s: 1 succeeded, 1 failed, 1 cancelled, 1 missing; $1.04"
    )


def test_jobs_that_have_not_ended_are_not_counted():
    """A wait that was given up says how far it came."""
    assert (
        summary([result(JobEventType.CANCELLED), result(job_cost=5)])
        == "1 of 2 jobs ended: 1 cancelled"
    )
    assert summary([result(), result()]) == "0 of 2 jobs ended"


def test_each_bad_end_has_a_reason():
    """Jobs that did not succeed are told with the reason, in one line each; others are not."""
    failed = result(JobEventType.FAILED, "job-2", **FAILED)
    missing = JobResult(job_id="job-3", end=JobEventType.MISSING)

    assert reasons([DOCUMENTED, failed, missing, result()]) == [
        "job-2 failed after 2m0s: out of memory",
        "job-3 is missing: the API does not know this job ID",
    ]


def test_json_has_the_job_under_the_names_of_the_api():
    """Each object has the job, the type of its event, and the reason."""
    failed, unseen = json.loads(
        as_json([result(JobEventType.FAILED, **FAILED), JobResult(job_id="job-2")])
    )

    assert failed["type"] == "job.failed"
    assert failed["reason"] == "out of memory"
    assert failed["job"]["job_cost"] == 0.02
    assert (failed["run_seconds"], failed["cost_final"]) == (120.0, True)
    assert unseen == {
        "job": {"job_id": "job-2"},
        "type": None,
        "reason": None,
        "cost_final": None,
        "run_seconds": None,
    }
