"""Which events a route rejects, and why."""

from dataclasses import replace

import pytest

from poller.core.events import EVENT_TYPES, DaemonEventType, Event, daemon_event
from poller.core.routing import Route
from poller.core.state import JobEventType
from tests.support.builders import a_job
from tests.support.event_builders import OBSERVED, ORIGIN, an_event

ALL = Route(types=EVENT_TYPES)
ENDS = ("job.succeeded", "job.failed", "job.cancelled")
TIMES = {
    "datetime_started": "2024-01-15T10:30:15Z",
    "datetime_completed": "2024-01-15T10:32:15Z",
}
"""Of a job that ran for two minutes."""


def event_of(kind: str = "job.succeeded", **fields) -> Event:
    """Return an event of a job with some fields."""
    job = {"name": "nightly tags", "model": "llama-3.3-70b", "job_cost": 2.5} | TIMES | fields
    return an_event(kind, job=a_job("SUCCEEDED", **job))


@pytest.mark.parametrize("kind", sorted(JobEventType))
def test_route_rejects_other_types(kind: str):
    """A type that is not among those of the sink is rejected, whatever the filters."""
    route = Route(types=EVENT_TYPES - {kind}, job_name=("*",))

    assert route.rejection(event_of(kind)) == f"EVENTS: does not include {kind}"


@pytest.mark.parametrize("kind", sorted(JobEventType))
@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"job_name": ("nightly *",)}, None),
        ({"job_name": ("weekly *",)}, "JOB_NAME: does not select 'nightly tags'"),
        ({"job_name": ("!*tags",)}, "JOB_NAME: does not select 'nightly tags'"),
        ({"model": ("llama*",), "job_name": ("*tags",)}, None),
        ({"model": ("qwen*",), "job_name": ("*tags",)}, "MODEL: does not select 'llama-3.3-70b'"),
    ],
)
def test_route_selects_names_and_models(kind: str, filters: dict, reason: str | None):
    """Every event about a job needs a name and a model that the patterns select."""
    assert replace(ALL, **filters).rejection(event_of(kind)) == reason


@pytest.mark.parametrize("field", ["name", "model"])
def test_route_takes_a_missing_name_for_an_empty_one(field: str):
    """A job without a name or model is selected by *, and not by a pattern that needs a text."""
    route = replace(ALL, **{"job_name" if field == "name" else field: ("?*",)})

    assert route.rejection(event_of(**{field: None})).endswith("does not select ''")
    assert replace(ALL, job_name=("*",), model=("*",)).rejection(event_of(**{field: None})) is None


def test_route_passes_a_job_that_was_never_shown():
    """The name of a job that the API does not know is not known: every sink gets its event."""
    route = replace(ALL, job_name=("weekly *",), model=("qwen*",), min_cost=9.0)

    assert route.rejection(an_event("job.missing", job=None)) is None


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"min_cost": 2.5}, None),
        ({"min_cost": 2.51}, "MIN_COST: $2.50 is less than $2.51"),
        ({"min_duration": 120.0}, None),
        ({"min_duration": 600.0}, "MIN_DURATION: 2m0s is less than 10m0s"),
        ({"min_duration": 120.0, "min_cost": 5.0}, "MIN_COST: $2.50 is less than $5.00"),
    ],
)
def test_route_rejects_ends_below_a_minimum(kind: str, filters: dict, reason: str | None):
    """An end needs every minimum; one that is equal is enough."""
    assert replace(ALL, **filters).rejection(event_of(kind)) == reason


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("unknown", ["job_cost", *TIMES])
def test_route_passes_an_end_with_an_unknown_value(kind: str, unknown: str):
    """An end without a cost, or of a job that has never run, is no end below a minimum."""
    route = Route(types=EVENT_TYPES, min_cost=1.0, min_duration=60.0)

    assert route.rejection(event_of(kind, **{unknown: None})) is None


def test_route_takes_a_cost_of_nothing_for_a_known_one():
    """A job that cost $0 is below every minimum."""
    route = replace(ALL, min_cost=0.01)

    assert route.rejection(event_of(job_cost=0.0)) == "MIN_COST: $0.0000 is less than $0.0100"


@pytest.mark.parametrize(
    ("filters", "setting"),
    [({"min_cost": 0.01}, "MIN_COST"), ({"min_duration": 1.0}, "MIN_DURATION")],
)
def test_route_with_a_minimum_rejects_starts(filters: dict, setting: str):
    """A job that starts has reached no minimum, even if its object has a cost."""
    reason = replace(ALL, **filters).rejection(event_of("job.started"))

    assert reason == f"{setting}: no job has reached it when it starts"


@pytest.mark.parametrize("kind", ["job.missing", "job.found", "job.unrecognised"])
def test_route_with_a_minimum_passes_oddities(kind: str):
    """A minimum is for ends: an event about a job that is missing, or odd, always passes."""
    assert replace(ALL, min_cost=9.0, min_duration=9e9).rejection(event_of(kind)) is None


@pytest.mark.parametrize("kind", sorted(DaemonEventType))
def test_route_never_filters_events_of_the_daemon(kind: DaemonEventType):
    """Filters for jobs let every event about the daemon pass."""
    detail = {"sink": "log", "reason": "none", "job": {"name": "weekly", "model": "x"}}
    event = daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)
    route = Route(
        types=EVENT_TYPES, job_name=("nightly",), model=("!*",), min_cost=9.0, min_duration=9.0
    )

    assert route.rejection(event) is None


def test_route_does_not_parse_in_vain():
    """Without a filter, or for another type, the body of an event is not even parsed."""
    event = replace(event_of(), body=b"no JSON")

    assert ALL.rejection(event) is None
    assert Route(types=frozenset(), job_name=("*",)).rejection(event)


def test_route_quotes_a_name_in_one_short_line():
    """The reason has the beginning of a long name, and no control characters of it."""
    job = {"name": "a\u202e\n" * 99}
    reason = replace(ALL, job_name=("b",)).rejection_of("job.succeeded", {"job": job})

    assert reason == f"JOB_NAME: does not select {job['name'][:64]!r}"
    assert reason.isprintable()
