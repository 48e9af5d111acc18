"""What is counted, and what keeps the numbers few."""

from datetime import UTC, datetime

import pytest

from poller.core.counters import MAX_MODELS, OTHER_MODEL, Counters, Histogram
from poller.core.detection import Detection
from poller.core.errors import DeliveryError, MalformedResponse, PollError, Transient
from poller.core.state import EventDraft, JobEventType
from tests.support.builders import a_job

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC).timestamp()
SIGHTING = Detection(detected_at=NOON, last_seen_at=NOON - 8.0)


def an_end(previous_status: str | None = "RUNNING", **fields) -> EventDraft:
    """Give the end of a job."""
    job = a_job("SUCCEEDED", **fields)
    return EventDraft(
        type=JobEventType.SUCCEEDED,
        job_id=job.job_id,
        job=job,
        previous_status=previous_status,
        sequence=1,
    )


def test_an_end_is_summed_by_model():
    """An end counts once, with its tokens and its cost, and as late as it was seen."""
    counts = Counters()

    counts.record_events(
        [
            an_end(
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
    assert counts.jobs_ended == {("llama", "SUCCEEDED"): 1}
    assert counts.tokens == {("llama", "input"): 20, ("llama", "output"): 7}
    assert counts.costs == {"llama": 0.5}
    assert (sum(counts.lags.counts), counts.lags.total) == (1, 3.0)
    assert (sum(counts.delays.counts), counts.delays.total) == (1, 0.0)


def test_what_the_api_held_back_is_counted_apart():
    """An end that a later look did not show was held back by the API from the end to that look."""
    counts = Counters()

    counts.record_events([an_end(datetime_completed="2024-01-15T11:59:50Z")], SIGHTING)

    assert (counts.lags.total, counts.delays.total) == (8.0, 2.0)


def test_a_cost_that_comes_later_counts_once():
    """The cost of an end that was told without it is counted when it settles."""
    counts, end = Counters(), an_end(model="llama", job_cost=None)
    settled = EventDraft(
        type=JobEventType.COST_SETTLED,
        job_id="job-1",
        job=a_job("SUCCEEDED", model="llama", job_cost=0.25),
        previous_status=None,
        sequence=2,
    )

    counts.record_events([end], SIGHTING)
    counts.record_events([settled], SIGHTING)

    assert counts.costs == {"llama": 0.25}
    assert counts.jobs_ended == {("llama", "SUCCEEDED"): 1}


def test_an_end_that_nobody_waited_for_is_not_late():
    """A job that had ended when it was first seen says nothing of how late ends are seen."""
    counts, end = Counters(), an_end(None, datetime_completed="2020-01-01T00:00:00Z")

    counts.record_events([end], Detection(detected_at=NOON))

    assert sum(counts.lags.counts) == 0


def test_models_do_not_grow_without_end():
    """Of more models than are counted apart, the later ones are counted together."""
    counts = Counters()

    counts.record_events([an_end(model=f"model-{n}") for n in range(2 * MAX_MODELS)], SIGHTING)
    counts.record_events([an_end(model="model-0")], SIGHTING)

    assert len(counts.jobs_ended) == MAX_MODELS + 1
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
def test_requests_are_counted_by_outcome(error, outcome):
    """Each kind of failure has its own word; one that is none of them counts too."""
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
def test_attempts_are_counted_by_outcome(error, outcome):
    """An attempt to deliver has one word, which never is the receiver's own text."""
    counts = Counters()

    counts.record_attempt("hook", error, seconds=0.3)

    assert counts.attempts == {("hook", outcome): 1}
    assert counts.delivery_durations["hook"].total == 0.3


def test_a_spread_counts_up_to_each_bound():
    """A value on a bound is within it; one above all bounds is counted last."""
    histogram = Histogram((1.0, 2.0))

    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)

    assert (histogram.counts, histogram.total) == ([2, 1, 1], 12.0)
