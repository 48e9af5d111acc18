"""Event ids: they never change, and no two events share one."""

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poller.core.events import EventOrigin, event_id, job_event
from poller.core.job_status import JobStatus
from poller.core.parsing import parse_job
from tests.support.builders import a_job, a_job_object
from tests.support.event_builders import OBSERVED, ORIGIN, SIGHTING, a_transition, an_event

LATER = datetime(2031, 7, 1, tzinfo=UTC)


IDS = {
    ("sutro", "job-12345", "job.started", 0): (
        "evt_r2hfsentpiqfox5e6y3yhkubp5nupi6nqgglobdbed6aucgv4ycq"
    ),
    ("sutro", "job-12345", "job.succeeded", 0): (
        "evt_42bjetijfi2z4wwhs7irs7mweem6zerzihabfzlkdoruxi6bjwta"
    ),
    ("sutro", "job-12345", "job.failed", 0): (
        "evt_jdxbc3ze6q6u6d26hfdbknno4o3kumjo7b7tabog3apwtyvj3fkq"
    ),
    ("sutro", "job-12345", "job.cancelled", 0): (
        "evt_2t4gnauxjco36tnwej2fp7dqyhac6gmmsyr4nuer7ai3hqg23iga"
    ),
    ("sutro", "job-12345", "job.settled", 0): (
        "evt_jqsxgqkmn2n5tmbpmlep4etnsjsas2ty6eivvbej3zba5cevwqqa"
    ),
    ("sutro", "job-12345", "job.unrecognised", 0): (
        "evt_5rv7iywu3bpfzhh7lbsfjfjugxmjitw3ivteu5t2wa4c6ohxr2ra"
    ),
    ("sutro", "job-12345", "job.cost_over_estimate", 0): (
        "evt_ygax6yrru36iyicoo2gcgpbsipmjwqyo5rfyvmqdxmd6sxjjviua"
    ),
    ("sutro", "job-12345", "job.missing", 1): (
        "evt_s5jcmygi32ih3fnzfquwdprkf3u5yxzgz5ujts3fyj6tt7mht42a"
    ),
    ("sutro", "job-12345", "job.missing", 2): (
        "evt_3ryu6cju4tclos4lvem5ekjhlxiuesxrakzubqcwixlmvctacqka"
    ),
    ("acme", "job-12345", "job.succeeded", 0): (
        "evt_ql4jh7qv24kwi7i35jgytokrnisfju6f6jiqpmv6bj2f5gexb7ea"
    ),
}


@pytest.mark.parametrize(("parts", "expected"), IDS.items())
def test_ids_never_change(parts, expected):
    """These ids are stored by receivers: no version may change them."""
    assert event_id(*parts) == expected


def test_id_is_base32_of_sha256():
    """An id is base32 of SHA-256 over a version and the parts, each with its length before it."""
    encoded = b"\0\0\0\x011\0\0\0\x05sutro\0\0\0\x05job-1\0\0\0\x0ajob.failed"
    digest = base64.b32encode(hashlib.sha256(encoded).digest()).decode()

    assert event_id("sutro", "job-1", "job.failed") == "evt_" + digest.lower().strip("=")


PARTS = st.tuples(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.integers(0, 12))


@given(PARTS, PARTS)
def test_different_parts_have_different_ids(one, other):
    """However the parts of two events run together, their ids differ."""
    assume(one != other)

    assert event_id(*one) != event_id(*other)


@given(text=st.text("ab1", max_size=8), cuts=st.lists(st.integers(0, 8), min_size=4, max_size=4))
def test_moving_a_boundary_changes_the_id(text, cuts):
    """The same characters in other parts are another event."""
    first, second, third, fourth = cuts
    one = (text[:first], text[first:second], text[second:])
    other = (text[:third], text[third:fourth], text[fourth:])
    assume(one != other)

    assert event_id(*one) != event_id(*other)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 7},
        {"previous_status": JobStatus.RUNNING},
        {"job": parse_job(a_job_object(job_id="job-1", job_cost=9))},
    ],
    ids=["sequence", "previous_status", "job"],
)
def test_id_depends_on_the_change_alone(changes):
    """Neither the previous status, nor the job's fields, nor the sequence is part of an id."""
    assert an_event("job.succeeded", **changes).id == an_event("job.succeeded").id


def test_id_does_not_depend_on_time_or_host():
    """The same change observed years later, at another host, has the same id."""
    elsewhere = EventOrigin(deployment="sutro.example.com")
    transition = a_transition("job.succeeded")

    assert job_event(transition, elsewhere, LATER, SIGHTING).id == an_event("job.succeeded").id


def test_namespace_changes_the_ids():
    """Two daemons that must not share ids use different namespaces."""
    acme = replace(ORIGIN, namespace="acme")

    event = job_event(a_transition("job.failed"), acme, OBSERVED, SIGHTING)

    assert event.id != an_event("job.failed").id


TIMES = {"datetime_created": "2024-01-15T10:30:00Z", "datetime_completed": "2024-01-15T10:32:15Z"}
ELSEWHERE = EventOrigin(deployment="staging.sutro.sh")


@pytest.mark.parametrize(
    ("changes", "origin", "is_repetition"),
    [
        ({}, ORIGIN, True),
        ({}, ELSEWHERE, True),
        ({"job_cost": 0.5}, ORIGIN, True),
        ({"datetime_completed": None}, ELSEWHERE, True),
        ({"datetime_created": "2024-01-16T10:30:00Z"}, ORIGIN, False),
        ({"datetime_created": "2024-01-16T10:30:00Z"}, ELSEWHERE, False),
        ({"datetime_completed": "2024-01-15T11:00:00Z"}, ELSEWHERE, False),
        (dict.fromkeys(TIMES), ORIGIN, True),
        (dict.fromkeys(TIMES), ELSEWHERE, False),
    ],
)
def test_event_of_another_job_is_no_repetition(changes, origin, is_repetition):
    """Two events with one id tell of one job if its times agree, or at one deployment."""
    jobs = [a_job("SUCCEEDED", **(TIMES | fields)) for fields in ({}, changes)]
    drafts = [a_transition("job.succeeded", job=job) for job in jobs]
    before = job_event(drafts[0], ORIGIN, OBSERVED, SIGHTING)
    after = job_event(drafts[1], origin, LATER, SIGHTING)

    assert before.id == after.id
    assert after.repeats(before.body) is is_repetition


@pytest.mark.parametrize("origin", [ORIGIN, ELSEWHERE])
def test_event_of_a_job_never_seen_repeats_that_of_its_deployment(origin):
    """Of a job that was never seen only the deployment is known."""
    draft = a_transition("job.missing", job=None, occurrence=1)
    before = job_event(draft, ORIGIN, OBSERVED, SIGHTING)

    assert job_event(draft, origin, LATER, SIGHTING).repeats(before.body) is (origin is ORIGIN)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"data":[]}', b'{"data":{"job":[]}}', b"\xff"]
)
def test_event_repeats_a_damaged_one(body):
    """A body that is damaged shows no other job: it is dealt with when it is sent."""
    assert an_event("job.succeeded").repeats(body)
