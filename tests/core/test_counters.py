"""Counters: what they count, and the limit of their labels."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from poller.core.counters import MAX_MODELS, OTHER_MODEL, Counters, Histogram, reason_label
from poller.core.detection_lag import Detection
from poller.core.errors import DeliveryError, MalformedResponse, PollError, Transient
from poller.core.state import EventDraft, JobEventType
from tests.support.builders import FINAL, a_job

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC).timestamp()
SIGHTING = Detection(detected_at=NOON, last_seen_at=NOON - 8.0)


def ended(previous_status: str | None = "RUNNING", **fields) -> EventDraft:
    """Return the event draft of an ended job."""
    job = a_job("SUCCEEDED", **fields)
    return EventDraft(
        type=JobEventType.SUCCEEDED,
        job_id=job.job_id,
        job=job,
        previous_status=previous_status,
        sequence=1,
    )


def test_ended_jobs_are_counted_by_model():
    """An end counts once, with its tokens, its cost and its detection lag."""
    counts = Counters()

    counts.record_events(
        [
            ended(
                model="llama",
                input_tokens=20,
                output_tokens=7,
                job_cost=0.5,
                datetime_completed="2024-01-15T11:59:57Z",
            )
        ],
        SIGHTING,
    )

    assert counts.events == {"job.succeeded": 1}
    assert counts.jobs_ended == Counter({("llama", "SUCCEEDED"): 1})
    assert counts.tokens == {("llama", "input"): 20, ("llama", "output"): 7}
    assert counts.costs == {"llama": 0.5}
    assert (sum(counts.lags.counts), counts.lags.total) == (1, 3.0)
    assert (sum(counts.delays.counts), counts.delays.total) == (1, 0.0)


def test_visibility_delay_is_not_lag():
    """An end that a later poll did not show was withheld by the API until that poll."""
    counts = Counters()

    counts.record_events([ended(datetime_completed="2024-01-15T11:59:50Z")], SIGHTING)

    assert (counts.lags.total, counts.delays.total) == (8.0, 2.0)


def test_late_fields_count_once():
    """What an end was reported without is counted when it settles, and nothing else again."""
    counts, end = Counters(), ended(model="llama", input_tokens=20)
    settled = EventDraft(
        type=JobEventType.SETTLED,
        job_id="job-1",
        job=a_job("SUCCEEDED", model="llama", **(FINAL | {"job_cost": 0.25})),
        previous_status=None,
        sequence=2,
        late_fields=("job_cost", "output_tokens"),
    )

    counts.record_events([end], SIGHTING)
    counts.record_events([settled], SIGHTING)

    assert counts.costs == {"llama": 0.25}
    assert counts.tokens == {("llama", "input"): 20, ("llama", "output"): 7}
    assert counts.jobs_ended == Counter({("llama", "SUCCEEDED"): 1})


def test_end_before_the_first_poll_has_no_lag():
    """A job that had ended before its first poll adds nothing to the lags."""
    counts, end = Counters(), ended(None, datetime_completed="2020-01-01T00:00:00Z")

    counts.record_events([end], Detection(detected_at=NOON))

    assert sum(counts.lags.counts) == 0


def test_counters_of_a_model_start_at_zero():
    """When a model is first seen its counters exist, so that a rate sees the first failure."""
    counts = Counters()

    counts.add_model(a_job("RUNNING", model="llama"))

    assert dict(counts.jobs_ended) == {
        ("llama", "SUCCEEDED"): 0,
        ("llama", "FAILED"): 0,
        ("llama", "CANCELLED"): 0,
    }
    assert dict(counts.tokens) == {("llama", "input"): 0, ("llama", "output"): 0}
    assert counts.costs == {"llama": 0.0}


def test_counters_of_a_sink_start_at_zero():
    """Each result of a sink has a counter from the start, and its durations a histogram."""
    counts = Counters()

    counts.add_sinks(["webhook"])

    assert counts.attempts["webhook", "delivered"] == 0
    errors = (
        DeliveryError("", is_gone=True),
        DeliveryError("", is_permanent=True),
        DeliveryError("", is_sink_fault=False),
        DeliveryError(""),
        DeliveryError("", retry_after=1.0),
    )
    assert set(counts.attempts) == {
        ("webhook", label) for label in ("delivered", *map(reason_label, errors))
    }
    assert list(counts.delivery_durations) == list(counts.delivery_lags) == ["webhook"]


def test_model_labels_are_limited():
    """Beyond the limit of model labels, further models are counted together."""
    counts = Counters()

    counts.record_events([ended(model=f"model-{n}") for n in range(2 * MAX_MODELS)], SIGHTING)
    counts.record_events([ended(model="model-0")], SIGHTING)

    assert len({model for model, _ in counts.jobs_ended}) == MAX_MODELS + 1
    assert counts.jobs_ended[OTHER_MODEL, "SUCCEEDED"] == MAX_MODELS
    assert counts.jobs_ended["model-0", "SUCCEEDED"] == 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "success"),
        (Transient("no"), "no_response"),
        (MalformedResponse("no"), "malformed"),
        (PollError("no"), "failed"),
    ],
)
def test_requests_are_counted_by_result(error, outcome):
    """Each kind of failure has its own label; an unknown one counts too."""
    counts = Counters()

    counts.record_poll(error)

    assert counts.responses == {outcome: 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "delivered"),
        (DeliveryError("no"), "unavailable"),
        (DeliveryError("no", retry_after=5.0), "rate_limited"),
        (DeliveryError("no", is_sink_fault=False), "rejected"),
        (DeliveryError("no", is_permanent=True, is_sink_fault=False), "permanent"),
        (DeliveryError("no", is_permanent=True, is_gone=True), "gone"),
    ],
)
def test_attempts_are_counted_by_result(error, outcome):
    """An attempt has a fixed label, never the receiver's own text."""
    counts = Counters()

    counts.record_attempt("hook", error, seconds=0.3)

    assert counts.attempts == {("hook", outcome): 1}
    assert counts.delivery_durations["hook"].total == 0.3


def test_histogram_counts_by_upper_bound():
    """A value on a bound is within it; one above all bounds is counted last."""
    histogram = Histogram((1.0, 2.0))

    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)

    assert (histogram.counts, histogram.total) == ([2, 1, 1], 12.0)
