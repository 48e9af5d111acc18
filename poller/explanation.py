"""Which sinks get which events of a job, and why not: from its record and the configuration."""

import json
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, Final

from poller.core.errors import MalformedResponse
from poller.core.events import TERMINAL_EVENTS, checksum
from poller.core.job_status import TERMINAL_STATUSES
from poller.core.parsing import parse_job
from poller.core.routing import Route, Routes
from poller.core.state import JobEventType
from poller.settings.base import env_prefix
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter, Row
from poller.store.overview import events_of_job
from poller.store.pagination import deliveries_page, every_row, jobs_page

MAX_EVENTS: Final = 100
POSSIBLE_EVENTS: Final = (
    JobEventType.STARTED,
    *sorted(TERMINAL_EVENTS),
    JobEventType.MISSING,
    JobEventType.UNRECOGNISED,
)
"""The events that a job which has not ended may still have."""
UNCONFIGURED: Final = "POLLER_SINKS: does not include this sink"
END_NOT_SENT: Final = "it goes only to the sinks that got the end of the job"
OPEN: Final = "is decided when the job ends"
OPEN_AT_END: Final = "the end did not show a value yet, and was not held back"
NOT_RECORDED: Final = "not recorded for this sink; `sutro-poller events replay` can send it"


def explain(
    admin: StoreAdmin, job_id: str, routes: Routes, unseen: Collection[str] = ()
) -> list[Row] | None:
    """Return a row for each event of a job and each sink; None if the job is not known.

    The events are the recorded ones, and, without a `recorded_as`, those that may follow. `routed`
    is whether the sink gets the event by the present configuration, `delivery` the recorded status.
    """
    found = jobs_page(admin, EventFilter(job=job_id, limit=1), unseen=unseen).rows
    if not found:
        return None
    events = events_of_job(admin, job_id, MAX_EVENTS)
    known = every_row(partial(deliveries_page, admin), EventFilter(job=job_id))
    deliveries = {(row["event_id"], row["sink"]): row["status"] for row in known}
    recorded = _data(found[0]["job"])
    rows = [row for event in events for row in _recorded(event, routes, deliveries, recorded)]
    types = {event["type"] for event in events}
    possible = [kind for kind in _possible_events(found[0]["state"]) if kind not in types]
    return rows + [
        _row(kind, sink) | _decision(route, sink, kind, recorded, OPEN)
        for kind in possible
        for sink, route in routes.items()
    ]


def _possible_events(state: str) -> tuple[str, ...]:
    """Return the events of a job in a state that should be recorded, or may be at some time."""
    return (f"job.{state.lower()}",) if state in TERMINAL_STATUSES else POSSIBLE_EVENTS


def _data(job: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the filters need of a recorded job, as the `data` of its events has it."""
    try:
        known = parse_job(job)
    except MalformedResponse:  # the API has never shown it, or the row is damaged
        return {}
    return {"job": known.as_dict(), "run_seconds": known.run_seconds}


def _recorded(
    event: Row,
    routes: Routes,
    deliveries: Mapping[tuple[str, str], str],
    recorded: Mapping[str, Any],
) -> Iterator[Row]:
    """Yield a row for each sink that gets a recorded event, or got it."""
    is_intact = checksum(event["body"]) == event["digest"]
    data = json.loads(event["body"])["data"] if is_intact else recorded
    former = [sink for event_id, sink in deliveries if event_id == event["id"]]
    for sink in dict.fromkeys((*routes, *sorted(former))):
        delivery = deliveries.get((event["id"], sink))
        if event["follows"] and sink in routes:
            is_routed = (event["follows"], sink) in deliveries
            decision = {"routed": is_routed, "reason": None if is_routed else END_NOT_SENT}
        else:
            decision = _decision(routes.get(sink), sink, event["type"], data, OPEN_AT_END)
        if decision["routed"] and delivery is None:
            decision["reason"] = NOT_RECORDED
        record = {"recorded_as": event["id"], "delivery": delivery}
        yield _row(event["type"], sink) | record | decision


def _row(event_type: str, sink: str) -> Row:
    return {"type": event_type, "recorded_as": None, "sink": sink, "delivery": None}


def _decision(
    route: Route | None, sink: str, event_type: str, data: Mapping[str, Any], open_reason: str
) -> Row:
    """Return whether a sink gets an event, and the reason; `open_reason` is of open minimums."""
    if route is None:
        return {"routed": False, "reason": UNCONFIGURED}
    reason = rejection = route.rejection_of(event_type, data)
    if rejection is None and event_type in TERMINAL_EVENTS:
        unknown = (minimum for minimum in route.minimums(data) if minimum.value is None)
        reason = next((f"{minimum.setting}: {open_reason}" for minimum in unknown), None)
    return {
        "routed": rejection is None,
        "reason": f"{env_prefix(sink)}{reason}" if reason else None,
    }
