"""`jobs show`: all fields of one job, and its events and their deliveries in order."""

import argparse
from collections.abc import Iterator
from typing import Final

from poller.cli import print_output
from poller.cli.arguments import load_settings, open_store
from poller.cli.expectation import expectations, full_text
from poller.cli.jobs.ls import named_ids
from poller.cli.output import as_json
from poller.cli.table import as_table, as_text
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter, Row

TIMELINE: Final = ("at", "event", "id", "sink", "status", "reason")


def show(arguments: argparse.Namespace) -> None:
    """Print one job. Raises NoMatch."""
    settings = load_settings(arguments)
    wanted = EventFilter(job=arguments.job_id)
    admin = open_store(settings)
    job, *_ = admin.jobs(wanted, named=named_ids(settings))
    expected = expectations(settings, admin).of(job)
    job["expected_end"] = expected and expected.as_dict()
    events = _events(admin, wanted) if job["changed_at"] else []
    if arguments.output == "json":
        print_output(as_json(job | {"events": events}))
        return
    job["expected_end"] = expected and full_text(expected)
    width = max(map(len, job))
    for name, value in job.items():
        print_output(f"{name:{width}}  {as_text(name, value)}")
    timeline = [row for event in events for row in _lines(event)]
    print_output("\n" + (as_table(timeline, TIMELINE) if timeline else "No events recorded."))


def _events(admin: StoreAdmin, wanted: EventFilter) -> list[Row]:
    """Return the events of a job with their deliveries, the first event first."""
    events, deliveries = [*admin.events(wanted)][::-1], [*admin.deliveries(wanted)][::-1]
    for event in events:
        event["deliveries"] = [row for row in deliveries if row["event_id"] == event["id"]]
    return events


def _lines(event: Row) -> Iterator[Row]:
    """Yield a line for an event, then one for each of its deliveries."""
    named: Row = dict.fromkeys(TIMELINE) | {"event": event["type"], "id": event["id"]}
    yield named | {"at": event["occurred_at"]}
    for delivery in event["deliveries"]:
        at = delivery["ended_at"] or delivery["last_attempt_at"]
        yield named | {"at": at} | {name: delivery[name] for name in ("sink", "status", "reason")}
