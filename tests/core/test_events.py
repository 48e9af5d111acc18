"""Event bodies."""

import hashlib
from dataclasses import replace

import pytest

from poller.core.events import DaemonEventType, checksum, daemon_event, job_event
from poller.core.job_status import JobStatus
from poller.core.lifecycle import decide
from poller.core.parsing import parse_job
from poller.core.state import JobEventType, JobState, LifecyclePolicy
from tests.support.builders import FINAL, GOLDEN, REASON, a_job, a_job_object, check_event
from tests.support.event_builders import OBSERVED, ORIGIN, SIGHTING, an_event


def test_golden_body():
    """The documented job, observed to end while it ran, gives exactly the golden body."""
    job = parse_job(a_job_object())
    running = decide(
        JobState(job_id=job.job_id, since=0.0),
        replace(job, status=JobStatus.RUNNING),
        0.0,
        LifecyclePolicy(),
    )
    (transition,) = decide(running.state, job, 120.0, LifecyclePolicy()).drafts

    event = job_event(transition, ORIGIN, OBSERVED, SIGHTING)

    assert event.body + b"\n" == (GOLDEN / "job-12345.succeeded.json").read_bytes()
    assert event.id == "evt_42bjetijfi2z4wwhs7irs7mweem6zerzihabfzlkdoruxi6bjwta"
    assert (event.subject, event.type) == ("job-12345", "job.succeeded")
    assert check_event(event.body)["data"] == event.data


COMPLETE = a_job("SUCCEEDED", **FINAL, datetime_started="2024-01-15T10:30:15Z")
WHEN = [
    ("job.started", COMPLETE, "2024-01-15T10:30:15Z"),
    ("job.started", a_job("RUNNING"), "2024-01-15T10:32:17.120Z"),
    ("job.succeeded", COMPLETE, "2024-01-15T10:32:15Z"),
    ("job.succeeded", a_job("SUCCEEDED"), "2024-01-15T10:32:17.120Z"),
    ("job.failed", replace(COMPLETE, status=JobStatus.FAILED), "2024-01-15T10:32:15Z"),
    ("job.cancelled", replace(COMPLETE, status=JobStatus.CANCELLED), "2024-01-15T10:32:15Z"),
    ("job.settled", COMPLETE, "2024-01-15T10:32:17.120Z"),
    ("job.missing", COMPLETE, "2024-01-15T10:32:17.120Z"),
    ("job.missing", None, "2024-01-15T10:32:17.120Z"),
    ("job.found", COMPLETE, "2024-01-15T10:32:17.120Z"),
    ("job.unrecognised", COMPLETE, "2024-01-15T10:32:17.120Z"),
]


@pytest.mark.parametrize(("kind", "job", "timestamp"), WHEN)
def test_timestamps(kind, job, timestamp):
    """A start and an end have the API's time, other events the time of observation."""
    event = an_event(kind, job=job)

    assert check_event(event.body)["timestamp"] == timestamp
    assert event.data["observed_at"] == "2024-01-15T10:32:17.120Z"


FINALITY = [
    ("job.succeeded", COMPLETE, True),
    ("job.succeeded", a_job("SUCCEEDED"), False),
    ("job.succeeded", a_job("SUCCEEDED", job_cost=0.5), False),
    ("job.failed", a_job("FAILED"), False),
    ("job.failed", a_job("FAILED", **FINAL), False),
    ("job.failed", a_job("FAILED", **FINAL, **REASON), True),
    ("job.cancelled", a_job("CANCELLED", **FINAL), True),
    ("job.settled", COMPLETE, True),
    ("job.settled", a_job("SUCCEEDED", job_cost=0.5), False),
    ("job.started", COMPLETE, None),
    ("job.missing", COMPLETE, None),
    ("job.missing", None, None),
    ("job.found", COMPLETE, None),
    ("job.unrecognised", COMPLETE, None),
]


@pytest.mark.parametrize(("kind", "job", "is_final"), FINALITY)
def test_final(kind, job, is_final):
    """An end, and what follows it, has whether it is final; other events have null."""
    assert check_event(an_event(kind, job=job).body)["data"]["final"] is is_final


def test_unobserved_job_has_only_its_id():
    """A job that was never observed has its id and no other field."""
    data = check_event(an_event("job.missing", job=None, occurrence=1).body)["data"]

    assert data["job"] == {"job_id": "job-1"}
    assert (data["queue_seconds"], data["run_seconds"]) == (None, None)


def test_unknown_status_is_the_api_text():
    """The event of an unrecognised status has the API's own text."""
    event = an_event("job.unrecognised", job=a_job("Paused by admin"))

    assert check_event(event.body)["data"]["job"]["status"] == "Paused by admin"


def test_prompts_are_left_out():
    """No prompt, schema or sampling parameter is in a body."""
    job = parse_job(a_job_object(system_prompt="the canary", json_schema={"the canary": 1}))

    assert b"canary" not in an_event("job.succeeded", job=job).body


def test_body_is_utf_8():
    """Text beyond ASCII is not escaped."""
    event = an_event("job.succeeded", job=a_job("SUCCEEDED", name="Bewertungen \u2713"))

    assert "Bewertungen \u2713".encode() in event.body


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_settled_cost_goes_to_the_sinks_of_the_end(end):
    """A settled cost names the end that was reported without it, to reach the same sinks."""
    event = an_event("job.settled", job=a_job(end, job_cost=0.5))

    assert event.same_sinks_as == an_event(f"job.{end.lower()}").id


def test_other_events_go_to_their_own_sinks():
    """Only a settled cost names another event."""
    kinds = set(JobEventType) - {JobEventType.SETTLED}

    assert {an_event(kind).same_sinks_as for kind in kinds} == {None}


DETAILS = [
    (DaemonEventType.AUTH_FAILED, {"reason": "401 for every job"}),
    (DaemonEventType.AUTH_RECOVERED, {}),
    (DaemonEventType.SINK_DISABLED, {"sink": "webhook.audit", "reason": "410"}),
    (DaemonEventType.TEST, {"sink": "webhook.audit"}),
]


@pytest.mark.parametrize(("kind", "detail"), DETAILS)
def test_daemon_events(kind, detail):
    """An event of the daemon has its own keys, the host and the time."""
    event = daemon_event(kind, ORIGIN, OBSERVED, instance="abc", occurrence=1, detail=detail)

    assert check_event(event.body) == {
        "type": kind.value,
        "timestamp": "2024-01-15T10:32:17.120Z",
        "data": detail | {"observed_at": "2024-01-15T10:32:17.120Z", "deployment": "api.sutro.sh"},
    }
    assert event.subject == "poller"


def test_daemon_events_of_two_daemons_differ():
    """Each database and each occurrence gives another id."""
    ids = {
        daemon_event(
            DaemonEventType.AUTH_RECOVERED,
            ORIGIN,
            OBSERVED,
            instance=instance,
            occurrence=occurrence,
            detail={},
        ).id
        for instance in ("abc", "def")
        for occurrence in (1, 2)
    }

    assert len(ids) == 4


def test_checksum_detects_any_change():
    """The digest of a body changes with any byte of it."""
    body = an_event("job.succeeded").body

    assert checksum(body) == hashlib.sha256(body).digest() != checksum(body + b" ")
