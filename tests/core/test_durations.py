"""What is expected of a job, by the ended jobs like it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.duration_history import GROUP_ENDS, MIN_ENDS, DurationHistory
from poller.core.durations import JobClass, PastJob, Stage, quantile, stage_of
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.state import EventDraft, JobEventType

CREATED = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


def a_job(
    number: int = 0, *, queue: float | None = 10.0, run: float | None = None, **fields: Any
) -> Job:
    """Return a job that was created at CREATED, waited so long, and has ended if it ran so long."""
    started = None if queue is None else CREATED + timedelta(seconds=queue)
    ended = None if started is None or run is None else started + timedelta(seconds=run)
    status = JobStatus.SUCCEEDED if ended else JobStatus.RUNNING if started else JobStatus.QUEUED
    known = {"model": "qwen-3-4b", "num_rows": 1_000, "job_priority": 0} | fields
    return Job(
        job_id=f"job-{number}",
        status=known.pop("status", status),
        datetime_created=CREATED,
        datetime_started=started,
        datetime_completed=ended,
        **known,
    )


def a_history(runs: Iterable[float], **fields: Any) -> DurationHistory:
    """Return the history of jobs that ran so long."""
    history = DurationHistory()
    for number, run in enumerate(runs):
        history.add(a_job(number, run=run, **fields))
    return history


def at(seconds: float) -> datetime:
    """Return a time after CREATED."""
    return CREATED + timedelta(seconds=seconds)


def test_a_running_job_ends_when_those_did_that_ran_for_longer():
    """Half and 95 % of the durations above the age are expected, from the start of the job."""
    history = a_history(range(1, 100))

    expected = history.expected_end(a_job(queue=40.0), at(40.0 + 50.0))

    assert expected is not None
    assert expected.samples == 50
    assert expected.p50 == at(40.0 + 74.5)
    assert expected.p95 == pytest.approx(at(40.0 + 97.45), abs=timedelta(milliseconds=1))
    assert expected.basis == JobClass("qwen-3-4b", 10, 0)


def test_a_queued_job_ends_after_the_queue_and_the_run():
    """What is expected of a queued job is from those that waited for longer, with both times."""
    history = DurationHistory()
    for number in range(60):
        history.add(a_job(number, queue=float(number), run=1_000.0 - number))

    expected = history.expected_end(a_job(queue=None), at(30.0))

    assert expected is not None
    assert (expected.samples, expected.p50) == (30, at(1_000.0))


def test_nothing_is_expected_from_fewer_than_twenty_ends():
    """Nineteen ends are too few, and so are twenty of which one was shorter than the age."""
    job = a_job()

    assert a_history(range(1, MIN_ENDS)).expected_end(job, at(10.0)) is None
    assert a_history(range(1, MIN_ENDS + 1)).expected_end(job, at(12.0)) is None
    assert a_history(range(1, MIN_ENDS + 1)).expected_end(job, at(10.0)) is not None


@pytest.mark.parametrize(
    ("fields", "basis"),
    [
        ({}, JobClass("qwen-3-4b", 10, 0)),
        ({"num_rows": 1_023}, JobClass("qwen-3-4b", 10, 0)),
        ({"num_rows": 1_024}, JobClass("qwen-3-4b")),
        ({"num_rows": None}, JobClass("qwen-3-4b")),
        ({"job_priority": 1}, JobClass("qwen-3-4b")),
        ({"model": "gemma-3-27b"}, JobClass()),
        ({"model": None, "num_rows": None, "job_priority": None}, JobClass()),
    ],
)
def test_the_narrowest_class_with_enough_ends_counts(fields: dict[str, Any], basis: JobClass):
    """A job is compared with its class, else with its model, else with all jobs."""
    expected = a_history(range(1, 50)).expected_end(a_job(**fields), at(10.0))

    assert expected is not None
    assert expected.basis == basis


@pytest.mark.parametrize("status", [status for status in JobStatus if status.is_terminal])
def test_nothing_is_expected_of_an_ended_job(status: JobStatus):
    """A job that has ended has no expected end."""
    assert a_history(range(50)).expected_end(a_job(status=status), at(10.0)) is None


@pytest.mark.parametrize(
    "job",
    [
        a_job(status=JobStatus.UNKNOWN),
        replace(a_job(queue=None), status=JobStatus.RUNNING),
        replace(a_job(queue=None), datetime_created=None),
    ],
    ids=["unknown status", "runs without a start", "no creation"],
)
def test_nothing_is_expected_without_a_stage_and_its_begin(job: Job):
    """A job whose stage, or the begin of it, is unknown has no expected end."""
    assert a_history(range(50)).expected_end(job, at(10.0)) is None


@pytest.mark.parametrize(
    ("job", "stage"),
    [
        (a_job(queue=None), Stage.QUEUED),
        (a_job(queue=None, status=JobStatus.STARTING), Stage.QUEUED),
        (a_job(status=JobStatus.QUEUED), Stage.RUNNING),
        (a_job(), Stage.RUNNING),
        (a_job(status=JobStatus.CANCELLING), Stage.RUNNING),
        (a_job(run=1.0), None),
    ],
)
def test_a_start_time_means_that_a_job_runs(job: Job, stage: Stage | None):
    """The stage is that of the status, or running as soon as there is a start time."""
    assert stage_of(job) is stage


def test_an_old_habit_is_forgotten():
    """Only the newest ends of a class count: as many slow jobs leave nothing of the fast ones."""
    history = a_history([10.0] * GROUP_ENDS + [30.0] * GROUP_ENDS)

    expected = history.expected_end(a_job(), at(10.0))

    assert expected is not None
    assert expected.p50 == expected.p95 == at(10.0 + 30.0)
    assert expected.samples == GROUP_ENDS


def test_a_history_is_bounded_over_all_classes():
    """With a model for each job no more classes are kept than jobs, and those are the newest."""
    history = DurationHistory(limit=100)
    for number in range(1_000):
        history.add(a_job(number, run=1.0, model=f"model-{number}"))

    assert len(history) == 100
    assert history.expected_end(a_job(model="model-0"), at(10.0)) is not None
    assert len(history._groups) <= 2 * 100 + 1


def test_older_ends_are_added_once_and_before_the_newer_ones():
    """A job that ended while the history was read counts once, and is forgotten last."""
    history = DurationHistory(limit=3)
    history.add(a_job(3, run=3.0))
    older = [PastJob(f"job-{n}", JobClass("qwen-3-4b", 10, 0), 10.0, n) for n in (3, 2, 1)]

    history.add_older(older)
    history.add(a_job(4, run=4.0))

    assert [past.run_seconds for past in history._jobs] == [2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "late", "count"),
    [
        (JobEventType.SUCCEEDED, (), 1),
        (JobEventType.FAILED, (), 1),
        (JobEventType.STARTED, (), 0),
        (JobEventType.SETTLED, ("job_cost",), 0),
        (JobEventType.SETTLED, ("datetime_completed",), 1),
    ],
)
def test_each_end_is_added_once(kind: JobEventType, late: tuple[str, ...], count: int):
    """An announced end counts, and so does one whose time of the end comes later."""
    history = DurationHistory()

    job = a_job(run=5.0)
    history.add_ended(
        [
            EventDraft(
                type=kind,
                job_id=job.job_id,
                job=job,
                previous_status=None,
                sequence=1,
                late_fields=late,
            )
        ]
    )

    assert len(history) == count


def test_a_job_without_its_times_is_not_added():
    """An end whose times are not known says nothing about durations."""
    history = DurationHistory()
    history.add(replace(a_job(run=5.0), datetime_started=None))
    history.add_ended(
        [
            EventDraft(
                type=JobEventType.FAILED, job_id="job-1", job=None, previous_status=None, sequence=1
            )
        ]
    )

    assert len(history) == 0


@given(st.lists(st.floats(0.0, 1e6), min_size=MIN_ENDS, max_size=200), st.floats(0.0, 1e6))
def test_an_expected_end_is_never_in_the_past(runs: list[float], age: float):
    """The expected end of a job is not before now, and 95 % is not before the half."""
    runs = [round(run, 3) for run in runs]
    now = at(10.0 + round(age, 3))

    expected = a_history(runs).expected_end(a_job(), now)

    if expected:
        assert now <= expected.p50 <= expected.p95
        assert expected.p95 <= at(10.0 + max(runs) + 1e-5)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_share_of_new_jobs_ends_before_a_quantile(share: float):
    """From few ends too: of 20 drawn, the quantile is above that share of the next ones."""
    random = Random(7)
    hits = 0
    for _ in range(20_000):
        *seen, new = (random.expovariate(1.0) for _ in range(MIN_ENDS + 1))
        hits += new < quantile(sorted(seen), share)

    assert hits / 20_000 == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("job_class", "label"),
    [
        (JobClass("m", 10, 0), "of m with 512 to 1,023 rows at priority 0"),
        (JobClass("m", 0, None), "of m with 0 to 0 rows"),
        (JobClass("m"), "of m"),
        (JobClass(), "of all models"),
    ],
)
def test_a_class_in_words(job_class: JobClass, label: str):
    """A class is named by its conditions."""
    assert job_class.label == label


def test_damaged_fields_have_no_expected_end():
    """What is recorded of a job may be damaged: then nothing is expected."""
    history = a_history(range(1, 50))

    assert history.expected_end_of({"status": 7}, at(10.0)) is None
    assert history.expected_end_of(a_job().as_dict(), at(10.0)) is not None
