"""Recorded events and their deliveries."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from poller.api.context import ApiContext
from poller.api.models import (
    CURSOR_TEXT,
    Count,
    DeliveryStatus,
    EventId,
    EventsCursor,
    EventType,
    JobId,
    NextCursor,
    PageQuery,
    ResponseModel,
    SinkName,
    StrictModel,
    UtcTime,
    format_cursor,
    parse_cursor,
)
from poller.api.problems import Problem
from poller.core.events import checksum
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter
from poller.store.pagination import events_page


class EventsQuery(PageQuery):
    """The events to list."""

    job: JobId | None = Field(None, description="Only events of this job")
    type: EventType | None = Field(None, description="Only events of this type")
    sink: SinkName | None = Field(None, description="Only events with a delivery to this sink")
    state: DeliveryStatus | None = Field(
        None, description="Only events with a delivery in this state, to `sink` if that is given"
    )
    cursor: EventsCursor | None = Field(None, description=CURSOR_TEXT)


class ReplayQuery(StrictModel):
    """The sinks that get the event again."""

    sink: SinkName | None = Field(
        None, description="Send to this sink; default: to all sinks that the event was for"
    )


class DeliverySummary(ResponseModel):
    """The state of a delivery to one sink."""

    sink: SinkName
    status: DeliveryStatus


class EventSummary(ResponseModel):
    """An event without its body."""

    id: EventId
    type: EventType
    subject: str = Field(description="The job ID, or `poller`")
    occurred_at: UtcTime
    recorded_at: UtcTime
    deliveries: Sequence[DeliverySummary]


class EventPage(ResponseModel):
    """A page of events."""

    events: list[EventSummary]
    next_cursor: NextCursor


class Delivery(DeliverySummary):
    """A delivery to one sink."""

    failures: Count
    next_attempt_at: UtcTime | None
    last_attempt_at: UtcTime | None
    ended_at: UtcTime | None
    reason: str | None = Field(description="Why the last attempt failed")


class Event(EventSummary):
    """An event, its body and its deliveries."""

    body: dict[str, Any] | None = Field(
        description="The body that sinks get, by the schema of `sutro-poller schema`;"
        " null if the stored bytes are damaged"
    )
    deliveries: Sequence[Delivery]


class Replay(ResponseModel):
    """The result of a replay for one sink."""

    sink: SinkName
    skipped_reason: str | None = Field(description="Why the event is not sent again; null if it is")


class Replays(ResponseModel):
    """The result of a replay for each sink."""

    deliveries: list[Replay]


async def list_events(context: ApiContext, query: EventsQuery) -> EventPage:
    """List events, the latest first."""
    wanted = EventFilter(
        job=query.job,
        type=query.type,
        sink=query.sink,
        state=query.state,
        since=query.start,
        limit=query.limit,
    )
    page = await context.query(events_page, wanted, after=parse_cursor(query.cursor, int))
    events = [EventSummary.of_row(row, subject=row["job_id"]) for row in page.rows]
    return EventPage(events=events, next_cursor=format_cursor(page.after))


async def show_event(context: ApiContext, event_id: EventId) -> Event:
    """Return one event with its body and its deliveries."""
    row = await context.query(StoreAdmin.event, event_id)
    is_intact = checksum(row["body"]) == row["digest"]
    return Event.of_row(
        row,
        subject=row["job_id"],
        body=json.loads(row["body"]) if is_intact else None,
        deliveries=[Delivery.of_row(delivery) for delivery in row["deliveries"]],
    )


async def replay_event(context: ApiContext, event_id: EventId, query: ReplayQuery) -> Replays:
    """Send an event again: the same ID and bytes, with a new timestamp and signature."""
    wanted = EventFilter(event_ids=[event_id], sink=query.sink)
    rows = await context.query(lambda admin: [*admin.replay(wanted)])
    context.daemon.dispatcher.wake()
    if not rows:
        raise Problem("conflict", "the event was for no sink: name one with ?sink=NAME")
    return Replays(deliveries=[Replay.of_row(row) for row in rows])
