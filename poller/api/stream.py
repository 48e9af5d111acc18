"""The event stream: server-sent events (WHATWG HTML 9.2).

Each client is served from the database at its own pace, so a slow one does not delay the others,
and a client that reconnects with Last-Event-ID misses no event that is still stored. One that reads
nothing is disconnected.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import anyio
from aiohttp import web
from pydantic import Field

from poller.api.context import ApiContext
from poller.api.models import EventId, EventType, JobId, StrictModel
from poller.api.problems import Problem
from poller.core.errors import StoreError
from poller.store.filters import Row
from poller.store.pagination import StreamPosition, events_after, position_of

MAX_STREAMS: Final = 32
KEEP_ALIVE_INTERVAL: Final = 15.0
WRITE_TIMEOUT: Final = 30.0
"""Seconds for which a client may leave the stream unread."""
EVENTS_PER_READ: Final = 10
"""Events that a client has in memory at most: 200 kB."""
HEADERS: Final = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
RECONNECT_DELAY: Final = b"retry: 3000\n\n"
KEEP_ALIVE_COMMENT: Final = b": keep-alive\n\n"


class StreamQuery(StrictModel):
    """The events to stream."""

    after: EventId | None = Field(
        None, description="Start after this event; default: with the next one"
    )
    job: JobId | None = Field(None, description="Only events of this job")
    type: EventType | None = Field(None, description="Only events of this type")

    def matches(self, row: Row) -> bool:
        """Return whether an event is one of them."""
        return self.job in {None, row["subject"]} and self.type in {None, row["type"]}


async def stream_events(
    context: ApiContext, request: web.Request, query: StreamQuery
) -> web.StreamResponse:
    """Stream events as they are recorded, until the client or the daemon ends it.

    Server-sent events: `id` is the event's ID, `event` its type, `data` its body. A comment is sent
    every 15 seconds.
    """
    after = request.headers.get("Last-Event-ID") or query.after
    position = await context.query(position_of, after)
    if context.streams >= MAX_STREAMS:
        raise Problem("too-many-streams", f"at most {MAX_STREAMS} clients can stream at once")
    response = web.StreamResponse(headers=HEADERS)
    context.streams += 1
    try:
        # Whatever ends the stream, the client reconnects with the id of its last event.
        with suppress(ConnectionError, StoreError, Problem):
            await response.prepare(request)
            await _send_events(context, response, query, position)
    except TimeoutError:
        if request.transport:
            request.transport.abort()  # a close would wait until the client has read the rest
    finally:
        context.streams -= 1
    request.protocol.close()
    return response


async def _send_events(
    context: ApiContext, response: web.StreamResponse, query: StreamQuery, position: StreamPosition
) -> None:
    """Send events until the daemon stops, which raises Problem."""
    frames: Iterable[bytes] = (RECONNECT_DELAY,)
    while True:
        for frame in frames:  # each waits until the client has read most of those before
            with anyio.fail_after(WRITE_TIMEOUT):
                await response.write(frame)
        woken = context.daemon.dispatcher.woken
        since = woken.count
        rows = await context.query(events_after, position, EVENTS_PER_READ)
        if rows:
            position = StreamPosition(rows[-1]["number"], rows[-1]["id"])
            frames = (_frame(row) for row in rows if query.matches(row))
        else:
            is_notified = await woken.wait(KEEP_ALIVE_INTERVAL, since=since)
            frames = () if is_notified else (KEEP_ALIVE_COMMENT,)


def _frame(row: Row) -> bytes:
    body: bytes = row["body"]
    return f"id: {row['id']}\nevent: {row['type']}\ndata: ".encode() + body + b"\n\n"
