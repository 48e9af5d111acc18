"""Events as they are recorded: server-sent events (WHATWG HTML 9.2).

Each listener reads on from the database at its own pace, so that a slow one costs nobody
anything, and one that comes back with Last-Event-ID misses nothing that is still kept.
"""

from contextlib import suppress
from functools import partial
from typing import Annotated, Final

import anyio
from aiohttp import web
from pydantic import Field

from poller.api.context import CONTEXT, ApiContext
from poller.api.events import EVENT_ID, EventType
from poller.api.parameters import JobId, StrictModel, read_query
from poller.api.problems import Problem
from poller.core.errors import StoreError
from poller.store.admin import Row
from poller.store.pagination import StreamPosition, events_after, position_of

MAX_STREAMS: Final = 32
HEARTBEAT: Final = 15.0
UNREAD: Final = 30.0
"""Seconds that a listener may leave unread what was sent to it."""
EVENTS_PER_READ: Final = 100
HEADERS: Final = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
PREAMBLE: Final = b"retry: 3000\n\n"
KEEP_ALIVE_COMMENT: Final = b": still here\n\n"


class StreamQuery(StrictModel):
    """Which events are wanted, and after which."""

    after: Annotated[str, Field(pattern=EVENT_ID)] | None = None
    job: JobId | None = None
    type: EventType | None = None

    def wants(self, row: Row) -> bool:
        """Tell whether an event is one of these."""
        return self.job in {None, row["subject"]} and self.type in {None, row["type"]}


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send events from now on, or after the one that is named; for as long as somebody listens."""
    context, query = request.app[CONTEXT], read_query(request, StreamQuery)
    after = request.headers.get("Last-Event-ID") or query.after
    mark = await context.query(lambda admin: position_of(admin, after))
    if context.streams >= MAX_STREAMS:
        raise Problem("too-many-streams", f"no more than {MAX_STREAMS} can listen at once")
    response = web.StreamResponse(headers=HEADERS)
    context.streams += 1
    try:
        # A listener that goes, or is gone for, comes back and says what it had last.
        with suppress(ConnectionError, TimeoutError, StoreError, Problem):
            await response.prepare(request)
            await _send_on(context, response, query, mark)
    finally:
        context.streams -= 1
    request.protocol.close()
    return response


async def _send_on(
    context: ApiContext, response: web.StreamResponse, query: StreamQuery, mark: StreamPosition
) -> None:
    text = PREAMBLE
    while not context.closing.is_set():
        await _write(response, text)
        rung = context.events_recorded.next
        rows = await context.query(partial(events_after, mark=mark, limit=EVENTS_PER_READ))
        if rows:
            mark = StreamPosition(rows[-1]["number"], rows[-1]["id"])
            text = b"".join(_frame(row) for row in rows if query.wants(row))
            continue
        text = KEEP_ALIVE_COMMENT
        with anyio.move_on_after(HEARTBEAT):
            await rung.wait()
            text = b""


async def _write(response: web.StreamResponse, text: bytes) -> None:
    if text:
        with anyio.fail_after(UNREAD):
            await response.write(text)


def _frame(row: Row) -> bytes:
    body: bytes = row["body"]
    return f"id: {row['id']}\nevent: {row['type']}\ndata: ".encode() + body + b"\n\n"
