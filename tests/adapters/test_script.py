"""A script becomes the job object that the API shows at each moment."""

import json
from pathlib import Path
from typing import Any

import pytest

from poller.core.parsing import parse_job
from poller.sutro.simulator.script import JobScript, SimulatedJob, demo_jobs

DOCUMENTED = Path(__file__).parent.parent / "fixtures" / "job-12345.json"
NULLABLE = {
    *("name", "description", "dataset_id", "system_prompt", "datetime_started"),
    *("datetime_completed", "json_schema", "input_tokens", "output_tokens", "num_rows"),
    *("job_cost", "cost_estimate", "failure_reason"),
}
START = 1_705_314_600.0  # 2024-01-15T10:30:00Z


def life_of(*, speed: float = 1.0, **fields: Any) -> SimulatedJob:
    """Begin the life of a job at START."""
    return SimulatedJob(
        script=JobScript(job_id="job-1", **fields), number=1, created=START, speed=speed
    )


def test_job_object_is_like_the_documented_one() -> None:
    """A job object has the documented keys in the documented types, null where that is allowed."""
    documented = json.loads(DOCUMENTED.read_text())

    seen = life_of(name="n", description="d").as_object(START + 25)

    assert list(seen) == list(documented)
    assert {key: type(seen[key]) for key in seen} == {k: type(v) for k, v in documented.items()}


def test_job_object_is_null_only_where_documented() -> None:
    """A job that waits has nulls, all of them in fields that may be null."""
    seen = life_of().as_object(START)

    assert {key for key, value in seen.items() if value is None} <= NULLABLE
    assert seen["datetime_started"] is seen["job_cost"] is seen["input_tokens"] is None


@pytest.mark.parametrize("ends_as", ["succeeded", "failed", "cancelled"])
def test_the_daemon_understands_every_field(ends_as: str) -> None:
    """The parser of the daemon finds nothing odd in an ended job of any ends_as."""
    job = parse_job(life_of(ends_as=ends_as).as_object(START + 25))

    assert job.invalid_fields == ()
    assert (job.status, job.queue_seconds, job.run_seconds) == (ends_as.upper(), 5, 20)


def test_job_that_succeeds() -> None:
    """A job is queued, starts, runs and succeeds as its script says."""
    life = life_of(queue_seconds=10, run_seconds=20)

    seen = [life.status(START + after) for after in (0, 8.9, 9, 10, 29.9, 30, 9_000)]

    assert seen[:3] == ["QUEUED", "QUEUED", "STARTING"]
    assert seen[3:] == ["RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]


def test_job_that_is_cancelled() -> None:
    """A job that is cancelled shows CANCELLING first."""
    life = life_of(ends_as="cancelled", queue_seconds=0, run_seconds=20)

    seen = [life.status(START + after) for after in (17.9, 18, 20)]

    assert seen == ["RUNNING", "CANCELLING", "CANCELLED"]


def test_job_that_never_ends() -> None:
    """A job may run for ever."""
    life = life_of(ends_as="cancelled", queue_seconds=0, run_seconds=float("inf"))

    assert life.status(START + 1e9) == "RUNNING"


def test_speed_shortens_every_wait() -> None:
    """At speed 10 all that a script counts in seconds takes a tenth, in the job's times too."""
    life = life_of(speed=10, queue_seconds=10, run_seconds=20, cost_delay=10, appears_after=5)

    ended, final = life.as_object(START + 3.9), life.as_object(START + 4)

    assert life.appears == START + 0.5
    assert ended["datetime_started"] == "2024-01-15T10:30:01Z"
    assert ended["datetime_completed"] == "2024-01-15T10:30:03Z"
    assert (ended["job_cost"] is None, final["job_cost"] is None) == (True, False)


def test_cost_comes_late() -> None:
    """Tokens show with the end of a job, its cost only after `cost_delay`."""
    life = life_of(queue_seconds=0, run_seconds=5, cost_delay=40)

    early, late = life.as_object(START + 44.9), life.as_object(START + 45)

    assert (early["status"], early["job_cost"]) == ("SUCCEEDED", None)
    assert early["input_tokens"] > 0
    assert late["job_cost"] > 0


@pytest.mark.parametrize(
    ("delay", "fields"),
    [
        ("tokens_delay", ["input_tokens", "output_tokens"]),
        ("reason_delay", ["failure_reason"]),
        ("cost_delay", ["job_cost"]),
    ],
)
def test_fields_of_an_end_come_late(delay, fields) -> None:
    """Each delay holds back its fields alone, in any order."""
    life = life_of(ends_as="failed", queue_seconds=0, run_seconds=5, **{delay: 40})

    early, late = life.as_object(START + 44.9), life.as_object(START + 45)

    assert [name for name in early if early[name] is None and late[name] is not None] == fields
    assert early["status"] == "FAILED"


def test_failed_job_says_why() -> None:
    """A failed job carries its reason, and not before it has failed."""
    life = life_of(ends_as="failed", queue_seconds=0, run_seconds=5, failure="no GPU")

    before, after = life.as_object(START + 4.9), life.as_object(START + 5)

    assert before["failure_reason"] is None
    assert after["failure_reason"] == {"message": "no GPU"}


def test_numbers_of_a_job_are_always_the_same() -> None:
    """What a job costs depends on nothing but its script."""
    seen = life_of().as_object(START + 25)

    assert (seen["input_tokens"], seen["output_tokens"]) == (11_750, 7_150)
    assert (seen["job_cost"], seen["cost_estimate"]) == (0.0189, 0.021735)


def test_words_in_lower_case() -> None:
    """A script in lower case writes the words of the job object so."""
    assert life_of(case="lower").as_object(START)["status"] == "queued"


def test_cast_of_the_demo() -> None:
    """The demo shows every ends_as and a late cost, and is over after 20 seconds."""
    scripts = demo_jobs(5)

    ends = [script.queue_seconds + script.run_seconds for script in scripts]

    assert {script.ends_as for script in scripts} == {"succeeded", "failed", "cancelled"}
    assert any(script.cost_delay for script in scripts)
    assert (min(ends), max(ends)) == (3, 20)


@pytest.mark.parametrize("count", [0, 1, 12])
def test_cast_of_any_size(count: int) -> None:
    """A cast has as many jobs as asked for, each with an id of its own."""
    assert len({script.job_id for script in demo_jobs(count)}) == count
