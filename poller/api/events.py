"""The events: what was announced, and to whom."""

import json
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field

from poller.api.context import CONTEXT
from poller.api.parameters import (
    EventsCursor,
    JobId,
    PageQuery,
    StrictModel,
    read_cursor,
    read_path,
    read_query,
    reject_body,
    write_cursor,
)
from poller.api.problems import Problem
from poller.core.events import checksum
from poller.store.admin import EventFilter, Row
from poller.store.pagination import events_page

EVENT_ID: Final = r"^evt_[a-z2-7]{52}$"
DELIVERY_FIELDS: Final = (
    "sink",
    "status",
    "failures",
    "next_attempt_at",
    "last_attempt_at",
    "ended_at",
    "reason",
)
SINK: Final = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)?$"

EventType = Literal[
    "job.started",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.cost_settled",
    "job.missing",
    "job.found",
    "job.unrecognised",
    "poller.auth_failed",
    "poller.auth_recovered",
    "poller.sink_disabled",
    "poller.test",
]
SinkName = Annotated[str, Field(pattern=SINK)]


class EventsQuery(PageQuery):
    """Which events are wanted. `state` is how an event stands with `sink`, or with any."""

    job: JobId | None = None
    type: EventType | None = None
    sink: SinkName | None = None
    state: Literal["pending", "delivered", "dead"] | None = None
    cursor: EventsCursor | None = None


class EventPath(StrictModel):
    """Which event is meant."""

    event_id: Annotated[str, Field(pattern=EVENT_ID)]


async def list_events(request: web.Request) -> web.Response:
    """List events page by page, the latest first."""
    context, query = request.app[CONTEXT], read_query(request, EventsQuery)
    wanted = EventFilter(
        job=query.job,
        type=query.type,
        sink=query.sink,
        state=query.state,
        since=query.start,
        limit=query.limit,
    )
    after = read_cursor(query.cursor, int)
    page = await context.query(lambda admin: events_page(admin, wanted, after=after))
    return web.json_response({"events": page.rows, "next_cursor": write_cursor(page.after)})


async def show_event(request: web.Request) -> web.Response:
    """Show one event: its body as it was frozen, and where it went."""
    read_query(request, StrictModel)
    context, event_id = request.app[CONTEXT], read_path(request, EventPath).event_id
    return web.json_response(_view(await context.query(lambda admin: admin.event(event_id))))


class ReplayQuery(StrictModel):
    """To which sink an event goes again; without one to all that were to get it."""

    sink: SinkName | None = None


async def replay_event(request: web.Request) -> web.Response:
    """Send an event again: the same id, the same bytes, a new timestamp and signature."""
    reject_body(request)
    context, query = request.app[CONTEXT], read_query(request, ReplayQuery)
    event_id = read_path(request, EventPath).event_id
    wanted = EventFilter(event_ids=[event_id], sink=query.sink)
    rows = await context.query(lambda admin: admin.replay(wanted))
    context.daemon.dispatcher.wake()
    if not rows:
        raise Problem("conflict", "no sink was to get it: name one")
    return web.json_response(
        {
            "deliveries": [
                {"sink": it["sink"], "skipped_reason": it["skipped_reason"]} for it in rows
            ]
        }
    )


def _view(row: Row) -> dict[str, Any]:
    body, digest = row["body"], row["digest"]
    is_intact = checksum(body) == digest
    return {
        "id": row["id"],
        "type": row["type"],
        "subject": row["job_id"],
        "occurred_at": row["occurred_at"],
        "recorded_at": row["recorded_at"],
        "follows": row["follows"],
        "is_intact": is_intact,
        "body": json.loads(body) if is_intact else None,
        "deliveries": [_delivery(it) for it in row["deliveries"]],
    }


def _delivery(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in DELIVERY_FIELDS}
