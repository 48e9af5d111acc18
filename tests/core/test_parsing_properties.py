"""Properties of the job parser that hold for any response of the API."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from poller.core.errors import MalformedResponse
from poller.core.events import EventOrigin, job_event
from poller.core.job_status import JobStatus
from poller.core.jobs import EVENT_FIELDS, JOB_ID_CHARS, is_job_id, is_unchanged
from poller.core.parsing import FAILURE_REASON_BYTES, parse_job
from poller.core.state import EventDraft, JobEventType
from tests.support.builders import check_event
from tests.support.event_builders import SIGHTING

TEN_THIRTY = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


ODD_TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from('\0\x1b\n\u2028\u202e\ud800" '),
    max_size=20,
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
    for name in EVENT_FIELDS
    if name != "status"
}
JOB_OBJECTS = st.fixed_dictionaries(
    {"job_id": st.from_regex(JOB_ID_CHARS, fullmatch=True).filter(is_job_id)} | {"status": WORDS},
    optional=FIELDS,
)


@given(raw=JSON | st.dictionaries(st.sampled_from(["job_id", *EVENT_FIELDS]), JSON) | JOB_OBJECTS)
def test_any_json_is_parsed_or_malformed(raw):
    """For any JSON, the parser returns a job or raises MalformedResponse."""
    try:
        job = parse_job(raw)
    except MalformedResponse:
        return

    assert job.job_id == raw["job_id"]


@given(raw=JOB_OBJECTS)
def test_as_dict_round_trip(raw):
    """`as_dict` of a job is parsed to an equal job without invalid fields."""
    job = parse_job(raw)

    again = parse_job(json.loads(json.dumps(job.as_dict())))

    assert again == job
    assert again.invalid_fields == ()


@given(raw=JOB_OBJECTS)
def test_any_job_fits_an_event(raw):
    """The event of any job is at most 20,000 bytes of clean JSON that the schema allows."""
    job = parse_job(raw)
    transition = EventDraft(
        type=JobEventType.UNRECOGNISED,
        job_id=job.job_id,
        job=job,
        previous_status=JobStatus.RUNNING,
        sequence=1,
    )

    event = job_event(transition, EventOrigin(deployment="api.sutro.sh"), TEN_THIRTY, SIGHTING)

    assert check_event(event.body)["data"]["job"] == json.loads(json.dumps(job.as_dict()))


def test_largest_job_fits_an_event():
    """A job with the longest fields, in the widest characters, still fits."""
    wide = "\U0001f600" * 100_000
    fields = dict.fromkeys(("name", "description", "model", "dataset_id", "failure_reason"), wide)
    job = parse_job({"job_id": "x" * 256, "status": wide} | fields)
    transition = EventDraft(
        type=JobEventType.UNRECOGNISED, job_id=job.job_id, job=job, previous_status=None, sequence=1
    )

    event = job_event(transition, EventOrigin(deployment="h" * 255), TEN_THIRTY, SIGHTING)

    assert job.invalid_fields == ()
    assert check_event(event.body)
    assert len(json.dumps(job.failure_reason, ensure_ascii=False).encode()) <= FAILURE_REASON_BYTES


@given(raw=JOB_OBJECTS, changes=st.fixed_dictionaries({}, optional=FIELDS | {"status": WORDS}))
def test_unchanged_job_has_the_same_status(raw, changes):
    """An object that is unchanged has the same status, and no end that was not known."""
    job, now = parse_job(raw), parse_job(raw | changes)

    if is_unchanged(raw | changes, job):
        assert now.status is job.status
        assert not now.status.is_terminal
        assert now.datetime_completed is job.datetime_completed is None


@given(
    status=st.sampled_from([status for status in JobStatus if not status.is_terminal]),
    raw=JOB_OBJECTS,
)
def test_progress_in_tokens_is_unchanged(status, raw):
    """A job that has only made progress in its tokens is unchanged."""
    raw = raw | {"status": status.value, "datetime_completed": None, "datetime_started": None}

    assert is_unchanged(raw | {"output_tokens": 7}, parse_job(raw))
