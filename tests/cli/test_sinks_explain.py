"""`sinks explain`: which sinks get which events of a job, and why not."""

import json
import sqlite3
from contextlib import closing
from typing import Any

from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.state import JobEventType, JobState, Phase
from tests.cli.conftest import RunCli
from tests.support import event_builders
from tests.support.builders import FINAL, a_job
from tests.support.store_builders import a_state

START = {"name": "nightly tags", "model": "llama", "datetime_started": "2024-01-15T10:30:15Z"}
COSTS = {"POLLER_SINKS": "log", "POLLER_LOG_MIN_COST": "5", "POLLER_LOG_EVENTS": "*"}


def ended(**fields: Any) -> JobState:
    """Return the state of job-1 after its end."""
    job = a_job("SUCCEEDED", **(START | FINAL | fields))
    return a_state(phase=Phase.DONE, status=JobStatus.SUCCEEDED, job=job)


def event_of(job: Job | None, kind: str = "job.succeeded", **changes: Any):
    """Return an event of job-1."""
    return event_builders.an_event(kind, job=job, **changes)


def explained(run_cli: RunCli, **variables: str) -> list[tuple[str, str, bool, str, str]]:
    """Return the rows of `sinks explain job-1`."""
    result = run_cli("sinks", "explain", "job-1", "-o", "json", **variables)
    assert result.code == 0, result.err
    columns = ("type", "sink", "routed", "delivery", "reason")
    return [tuple(row[name] for name in columns) for row in json.loads(result.out)]


def test_explain_shows_each_sink(run_cli: RunCli, seed_store):
    """Each recorded event has a line for each sink, with its delivery and the setting that counts.

    The job of the store's routes has a delivery to the webhook alone.
    """
    state = ended()
    seed_store(states=[state], events=[event_of(state.job)])

    result = run_cli(
        *("sinks", "explain", "job-"),
        POLLER_SINKS="log,webhook,webhook.costs",
        POLLER_LOG_EVENTS="job.failed",
        POLLER_WEBHOOK_URL="https://example.com",
        POLLER_WEBHOOK_COSTS_URL="https://example.com",
        POLLER_WEBHOOK_COSTS_MIN_COST="5",
    )

    assert result.code == 0
    lines = [line.split(maxsplit=4) for line in result.out.splitlines()]
    assert lines == [
        ["TYPE", "SINK", "ROUTED", "DELIVERY", "REASON"],
        [
            *("job.succeeded", "log", "no", "-"),
            "POLLER_LOG_EVENTS: does not include job.succeeded",
        ],
        ["job.succeeded", "webhook", "yes", "pending", "-"],
        [
            *("job.succeeded", "webhook.costs", "no", "-"),
            "POLLER_WEBHOOK_COSTS_MIN_COST: $0.50 is less than $5.00",
        ],
    ]


def test_explain_keeps_recorded_deliveries_apart_from_the_configuration(
    run_cli: RunCli, seed_store
):
    """A delivery that other settings made is shown, and so is one that they did not make."""
    state = ended()
    seed_store(states=[state], events=[event_of(state.job)], bury="webhook")

    assert explained(run_cli, POLLER_SINKS="log") == [
        (
            *("job.succeeded", "log", True, None),
            "not recorded for this sink; `sutro-poller events replay` can send it",
        ),
        (
            *("job.succeeded", "webhook", False, "dead"),
            "POLLER_SINKS: does not include this sink",
        ),
    ]


def test_explain_says_which_minimum_was_not_decided(run_cli: RunCli, seed_store):
    """An end without a cost was sent; the fields that came later follow it, whatever they are."""
    end = ended(job_cost=None)
    late = ended(job_cost=0.1)
    events = [event_of(end.job, "job.failed"), event_of(late.job, "job.settled")]
    object.__setattr__(events[1], "same_sinks_as", events[0].id)
    seed_store(states=[late], events=events)

    assert explained(run_cli, **COSTS)[:4] == [
        (
            *("job.failed", "log", True, "pending"),
            "POLLER_LOG_MIN_COST: the end did not show a value yet, and was not held back",
        ),
        ("job.failed", "webhook", False, "pending", "POLLER_SINKS: does not include this sink"),
        ("job.settled", "log", True, "pending", None),
        ("job.settled", "webhook", False, "pending", "POLLER_SINKS: does not include this sink"),
    ]


def test_explain_says_that_late_fields_follow_the_end(run_cli: RunCli, seed_store):
    """A sink that did not get the end does not get the fields that came later."""
    state = ended()
    seed_store(
        states=[state], events=[event_of(state.job), event_of(state.job, JobEventType.SETTLED)]
    )

    assert explained(run_cli, POLLER_SINKS="log", POLLER_LOG_EVENTS="job.settled")[2] == (
        *("job.settled", "log", False, None),
        "it goes only to the sinks that got the end of the job",
    )


def test_explain_foretells_the_events_of_a_running_job(run_cli: RunCli, seed_store):
    """For a job that runs, the events that may come are decided as far as they can be."""
    job = a_job(**START)
    seed_store(
        states=[a_state(status=JobStatus.RUNNING, job=job)], events=[event_of(job, "job.started")]
    )

    open_reason = "POLLER_LOG_MIN_COST: is decided when the job ends"
    assert explained(run_cli, **COSTS) == [
        (
            *("job.started", "log", False, "pending"),
            "POLLER_LOG_MIN_COST: no job has reached it when it starts",
        ),
        ("job.cancelled", "log", True, None, open_reason),
        ("job.failed", "log", True, None, open_reason),
        ("job.succeeded", "log", True, None, open_reason),
        ("job.missing", "log", True, None, None),
        ("job.unrecognised", "log", True, None, None),
    ]


def test_explain_uses_the_record_of_a_job_without_events(run_cli: RunCli, seed_store):
    """After the events of a job were deleted, its end is explained from its record."""
    seed_store(states=[ended()])

    assert explained(run_cli, **COSTS) == [
        ("job.succeeded", "log", False, None, "POLLER_LOG_MIN_COST: $0.50 is less than $5.00")
    ]


def test_explain_uses_the_record_if_an_event_is_damaged(run_cli: RunCli, seed_store, path):
    """An event whose body is not as it was recorded is explained from the record of the job."""
    state = ended()
    seed_store(states=[state], events=[event_of(state.job)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE events SET body = x'7b'")

    assert explained(run_cli, **COSTS)[0][:3] == ("job.succeeded", "log", False)


def test_explain_knows_jobs_that_have_no_status_yet(run_cli: RunCli, seed_store):
    """A job that is named, and that the API has not shown, has no name that a filter could use."""
    seed_store()

    rows = explained(run_cli, POLLER_JOB_IDS="job-1", POLLER_SINKS="log", POLLER_LOG_JOB_NAME="a")

    assert [row[:3] for row in rows][-2:] == [
        ("job.missing", "log", True),
        ("job.unrecognised", "log", True),
    ]


def test_explain_rejects_an_unknown_job(run_cli: RunCli, seed_store):
    """A job that is not known is an error, as for the other commands."""
    seed_store()

    result = run_cli("sinks", "explain", "job-9")

    assert (result.code, result.out) == (2, "")
    assert "no job ID starts with 'job-9'" in result.err
